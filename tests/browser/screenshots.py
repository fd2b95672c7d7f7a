"""Makes docs/studio-desktop.png and docs/studio-phone.png: ``python -m tests.browser.screenshots FOLDER``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.browser.chromium import find_programs, open_chromium, show_as
from tests.browser.page import Page
from tests.device_runtime.conftest import BUNDLE, some
from tests.device_runtime.studio_server import running_studio


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        browser = open_chromium(find_programs(), Path(folder) / "chromium")
        try:
            with running_studio(BUNDLE, Path(folder) / "my-profile") as studio:
                show_as(browser, 1200, 800)
                page = Page(browser, studio)
                page.try_picture(some("sneaker", 2, "test")[1])
                page.learn_mine()
                page.until(lambda: page.text("says-title") == "running shoes" and not page.text("status"))
                page.until(lambda: all(map(page.has_pictures, ("running shoes", "summer tops"))))
                browser.execute_script("document.activeElement.blur()")
                show_as(browser, 1200, browser.execute_script("return document.documentElement.scrollHeight"))
                time.sleep(0.5)  # until nothing moves
                browser.save_screenshot(str(out / "studio-desktop.png"))
                show_as(browser, 390, 960, dark=True, finely=2)
                browser.execute_script("document.getElementById('learn').scrollIntoView()")
                time.sleep(0.5)
                browser.save_screenshot(str(out / "studio-phone.png"))
        finally:
            browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
