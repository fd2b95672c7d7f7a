"""What a person sees of the studio, and does there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import Browser, until
from tests.device_runtime.conftest import some
from tests.device_runtime.studio_server import Studio

MINE = {"running shoes": "sneaker", "summer tops": "t-shirt"}  # classes that the model never saw


class Page:
    def __init__(self, browser: Browser, studio: Studio) -> None:
        self.browser = browser
        browser.get("about:blank")
        browser.get(studio.address)
        self.until(lambda: self.text("bundle"))

    def until(self, true: Callable[[], object]) -> None:
        until(self.browser, true)

    def find(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self.find(name).text

    def is_on(self, name: str) -> bool:
        return self.find(name).get_attribute("aria-disabled") != "true"

    def click(self, name: str) -> None:
        self.until(lambda: self.is_on(name))
        self.find(name).click()

    def cards(self) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, "article.class")

    def card(self, label: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, f'article[data-class="{label}"]')

    def tiles(self, label: str) -> list[WebElement]:
        return self.card(label).find_elements(By.CSS_SELECTOR, ".tiles li")

    def add_class(self, label: str) -> None:
        self.find("class-name").send_keys(label, Keys.ENTER)
        self.until(lambda: self.card(label).is_displayed())

    def choose(self, label: str, paths: list[Path]) -> None:
        """In the dialog that the button opens, which a driver cannot see."""
        before = len(self.tiles(label))
        self.card(label).find_element(By.CSS_SELECTOR, "input[type=file]").send_keys("\n".join(map(str, paths)))
        self.until(lambda: len(self.tiles(label)) == before + len(paths))

    def try_picture(self, path: Path) -> None:
        self.find("try-file").send_keys(str(path))
        self.until(lambda: self.find("says").is_displayed())

    def personalize(self) -> None:
        self.click("fit")
        self.until(lambda: self.find("verdict").is_displayed() and self.is_on("fit"))

    def has_pictures(self, label: str) -> bool:
        script = "return [...arguments[0].querySelectorAll('img')].filter((each) => each.naturalWidth > 0).length"
        return bool(self.browser.execute_script(script, self.card(label)) == len(self.tiles(label)))

    def scrolls_sideways(self) -> bool:
        script = "return document.documentElement.scrollWidth > window.innerWidth"
        return bool(self.browser.execute_script(script))

    def learn_mine(self, count: int = 10) -> None:
        for label, source in MINE.items():
            self.add_class(label)
            self.choose(label, some(source, count))
        self.personalize()
