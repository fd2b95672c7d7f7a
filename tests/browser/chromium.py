"""A headless Chromium, and what it is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

Browser = webdriver.Chrome

HERE = Path(__file__).parent
FETCHED = HERE.parents[1] / ".cache" / "chromium"
UNFETCHABLE = 75  # fetch.sh's exit code where the network or the registries are to blame


class Unfetchable(Exception):
    """Why there is no Chromium here."""


def find_programs() -> tuple[str, str]:
    """Chromium and its driver: this machine's, or Debian's, kept in .cache.

    Raises:
        Unfetchable: neither can be had.
    """
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] and found[1]:
        return found[0], found[1]
    ended = subprocess.run([HERE / "fetch.sh", FETCHED], capture_output=True, text=True, check=False)
    if ended.returncode == UNFETCHABLE:
        raise Unfetchable(ended.stderr.strip().splitlines()[-1])
    assert ended.returncode == 0, ended.stderr
    return str(FETCHED / "bin" / "chromium"), str(FETCHED / "bin" / "chromedriver")


def open_chromium(programs: tuple[str, str], home: Path) -> Browser:
    """As on a desk, with a mouse; it notes every request, and what its camera sees is made up."""
    options = Options()
    options.binary_location = programs[0]
    for argument in (
        "--headless=new",
        "--no-sandbox",  # root, as in a container, has none
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--hide-scrollbars",
        f"--user-data-dir={home}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options, Service(programs[1], env={**os.environ, "HOME": str(home)}))


def asked(browser: Browser) -> set[str]:
    """The machines that pages asked for anything since this was last asked."""
    urls = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(urlparse(message["params"]["request"]["url"]))
    return {url.hostname or "" for url in urls if url.scheme not in ("blob", "data", "about", "chrome")}


def show_as(browser: Browser, width: int, height: int, dark: bool = False, finely: int = 1) -> None:
    """A screen of this size, with so many pixels to each of it, and the colours that its owner likes."""
    size = {"width": width, "height": height, "deviceScaleFactor": finely, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def until(browser: Browser, true: Callable[[], Any], seconds: float = 15) -> None:
    """Wait; what is not there yet is not true yet."""
    passing = (NoSuchElementException, StaleElementReferenceException)
    WebDriverWait(browser, seconds, 0.05, passing).until(lambda _: true())
