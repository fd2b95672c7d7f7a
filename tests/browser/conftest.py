"""A real headless Chromium, and a real studio for it to open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.device_runtime.conftest import BUNDLE
from tests.device_runtime.studio_server import Studio, running_studio

HERE = Path(__file__).parent
FETCHED = HERE.parents[1] / ".cache" / "chromium"
UNFETCHABLE = 75  # fetch.sh's exit code where the network or the registries are to blame

Browser = webdriver.Chrome


@pytest.fixture(scope="session")
def programs() -> tuple[str, str]:
    """Chromium and its driver: this machine's, or Debian's, kept in .cache; skipped only where they cannot be had."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] and found[1]:
        return found[0], found[1]
    ended = subprocess.run([HERE / "fetch.sh", FETCHED], capture_output=True, text=True, check=False)
    if ended.returncode == UNFETCHABLE:
        pytest.skip(ended.stderr.strip().splitlines()[-1])
    assert ended.returncode == 0, ended.stderr
    return str(FETCHED / "bin" / "chromium"), str(FETCHED / "bin" / "chromedriver")


@pytest.fixture(scope="session")
def chromium(programs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the session; it notes every request, and what it shows to its camera is made up."""
    options = Options()
    options.binary_location = programs[0]
    home = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # root, as in a container, has none
        "--disable-dev-shm-usage",
        "--disable-gpu",
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
    driver = webdriver.Chrome(options, Service(programs[1], env={**os.environ, "HOME": str(home)}))
    driver.set_script_timeout(10)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """As it is at a desk, in light. At the end nothing was asked of any other machine, and no script had an error."""
    show_as(chromium, 1200, 800)
    chromium.get_log("performance")
    chromium.get_log("browser")
    yield chromium
    chromium.get("about:blank")
    assert asked(chromium) <= {"127.0.0.1"}
    errors = [entry for entry in chromium.get_log("browser") if entry["source"] != "network"]  # these tests provoke
    assert not errors


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """On the bundle that fbkit carries, with no profile yet."""
    with running_studio(BUNDLE, tmp_path / "profile") as running:
        yield running


def asked(browser: Browser) -> set[str]:
    """The machines that pages asked for anything since this was last asked."""
    urls = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(urlparse(message["params"]["request"]["url"]))
    return {url.hostname or "" for url in urls if url.scheme not in ("blob", "data", "about", "chrome")}


def show_as(browser: Browser, width: int, height: int, dark: bool = False) -> None:
    """A screen of this many pixels, and the colours that its owner likes."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def until(browser: Browser, found: Callable[[Browser], Any], seconds: float = 15) -> Any:
    """What ``found`` gives once it is true."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.support.wait import WebDriverWait

    passing = (NoSuchElementException, StaleElementReferenceException)
    return WebDriverWait(browser, seconds, 0.05, passing).until(found)
