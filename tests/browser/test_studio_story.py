"""The studio in a real browser, clicked through as a person would, from an empty profile to a better prediction."""

from __future__ import annotations

import base64
from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import Browser, show_as
from tests.browser.page import MINE, Page
from tests.conftest import run_fbkit
from tests.device_runtime.conftest import BUNDLE, some
from tests.device_runtime.studio_server import Studio, running_studio


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Page:
    return Page(browser, studio)


def test_from_an_empty_profile_to_a_better_prediction_and_back(page: Page) -> None:
    assert page.cards() == []
    assert "Add some pictures first" in page.text("ready")
    assert not page.is_on("fit")
    assert not page.is_on("roll-back")
    page.try_picture(some("sneaker", 1, "test")[0])
    assert page.text("says-title") == "sneaker", "as shipped it knows no other word"

    page.learn_mine()
    for label in MINE:
        assert "10 pictures" in page.card(label).text
        page.until(lambda label=label: page.has_pictures(label))  # type: ignore[misc]
    assert page.text("verdict-title") == "The new head was taken"
    assert page.text("verdict-reason") == "The new head does best on held-out pictures."
    shipped, new = (
        float(row.text.split()[-1].rstrip("%")) for row in page.find("accuracy").find_elements(By.TAG_NAME, "li")
    )
    assert shipped == 0
    assert new > 80
    svg = page.find("plot").find_element(By.TAG_NAME, "svg")
    words = {each.text for each in svg.find_elements(By.TAG_NAME, "text")}
    assert {"step of the solver", "loss (nats)", "0", "2", "4.0"} <= words
    assert len(svg.find_elements(By.CSS_SELECTOR, ".dot")) > 3
    assert "fitted to 20 pictures" in page.text("in-use")
    page.until(lambda: page.text("says-title") == "running shoes")  # by itself, of the picture that is shown

    page.tiles("running shoes")[0].find_element(By.TAG_NAME, "button").click()
    page.until(lambda: len(page.tiles("running shoes")) == 9)
    page.until(lambda: "fitted to 19 pictures" in page.text("in-use"))
    page.click("roll-back")
    page.until(lambda: page.text("in-use") == "The head as shipped")
    assert page.text("verdict-title") == "Rolled back"
    page.until(lambda: page.text("says-title") == "sneaker")

    page.card("summer tops").find_element(By.CSS_SELECTOR, ".forget").click()
    assert "Forget 10 pictures of summer tops?" in page.text("ask")
    page.click("ask-no")
    assert len(page.tiles("summer tops")) == 10
    page.card("summer tops").find_element(By.CSS_SELECTOR, ".forget").click()
    page.click("ask-yes")
    page.until(lambda: len(page.cards()) == 1)
    page.click("history")
    assert "rolled back to the head as shipped" in page.text("events")


def test_with_the_keyboard_alone(page: Page) -> None:
    browser = page.browser

    def focused() -> WebElement:
        return browser.switch_to.active_element

    def press(*keys: str) -> None:
        focused().send_keys(*keys)

    def tab_to(name: str) -> None:
        for _ in range(80):
            if name in (focused().get_attribute("id"), focused().get_attribute("aria-label"), focused().text):
                outline = focused().value_of_css_property("outline-style")
                assert outline == "solid", f"{name} does not show that it has the focus"
                return
            press(Keys.TAB)
        raise AssertionError(f"no way to {name}")

    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    tab_to("class-name")
    press("my shoes", Keys.ENTER)
    page.until(lambda: focused().get_attribute("aria-label") == "Choose pictures of my shoes")
    page.choose("my shoes", some("sneaker", 3))
    tab_to("sandal")
    press(Keys.ENTER)  # a class that the model knows
    page.until(lambda: focused().get_attribute("aria-label") == "Choose pictures of sandal")
    tab_to("Forget my shoes")
    press(Keys.ENTER)
    page.until(lambda: page.find("ask").is_displayed())
    press(Keys.ESCAPE)
    page.until(lambda: not page.find("ask").is_displayed())
    assert focused().get_attribute("aria-label") == "Forget my shoes"
    tab_to("Forget picture 3")
    press(Keys.SPACE)
    page.until(lambda: len(page.tiles("my shoes")) == 2)
    page.until(lambda: (focused().get_attribute("aria-label") or "").startswith("Forget picture"))
    tab_to("fit")
    press(Keys.ENTER)
    assert focused().get_attribute("id") == "fit"
    page.until(lambda: page.text("verdict-title") == "The new head was taken, not judged yet")
    tab_to("roll-back")
    press(Keys.SPACE)
    page.until(lambda: page.text("in-use") == "The head as shipped")
    browser.find_element(By.ID, "history").find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert page.find("events").is_displayed()


DROP = """
const [zone, name, content, kind] = arguments;
const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], name, { type: kind }));
for (const each of ["dragenter", "dragover", "drop"]) {
  zone.dispatchEvent(new DragEvent(each, { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""


def test_pictures_are_dropped_and_what_is_none_is_told_of(page: Page) -> None:
    page.add_class("cup")

    def drop(zone: WebElement, name: str, content: bytes) -> None:
        page.browser.execute_script(DROP, zone, name, base64.b64encode(content).decode(), "image/png")

    drop(page.card("cup"), "cup.png", some("sneaker")[0].read_bytes())
    page.until(lambda: len(page.tiles("cup")) == 1)
    drop(page.card("cup"), "letter.txt", b"Dear reader")
    error = page.card("cup").find_element(By.CSS_SELECTOR, ".error")
    page.until(lambda: error.text.startswith("letter.txt: not a picture that can be read"))
    drop(page.find("try-card"), "sneaker.png", some("sneaker")[1].read_bytes())
    page.until(lambda: page.text("says-title") == "sneaker")
    drop(page.find("try-card"), "letter.txt", b"Dear reader")
    page.until(lambda: page.text("try-error").startswith("letter.txt: not a picture"))
    drop(page.find("ready"), "elsewhere.png", some("sneaker")[1].read_bytes())
    assert page.browser.current_url.startswith("http://127.0.0.1")


def test_the_camera_gives_pictures_and_live_predictions(page: Page) -> None:
    page.add_class("the test card")
    card = page.card("the test card")
    card.find_element(By.CSS_SELECTOR, ".camera").click()
    shoot = card.find_element(By.CSS_SELECTOR, ".shoot")
    page.until(shoot.is_displayed)
    for count in (1, 2):
        shoot.click()
        page.until(lambda count=count: len(page.tiles("the test card")) >= count)  # type: ignore[misc]
    page.click("try-camera")
    assert not shoot.is_displayed(), "there is one camera"
    page.until(lambda: page.find("says").is_displayed())
    page.personalize()
    page.until(lambda: page.text("says-title") == "the test card")
    page.click("try-camera")
    page.until(lambda: not page.find("try-video").is_displayed())


def test_two_tabs_show_the_same(page: Page, studio: Studio, full: bool) -> None:
    if not full:
        pytest.skip("in full only (make test-all); what two tabs do to a profile is tested over HTTP, too")
    browser = page.browser
    first = browser.current_window_handle
    page.add_class("cup")
    browser.switch_to.new_window("tab")
    try:
        other = Page(browser, studio)
        other.choose("cup", some("sneaker", 2))
        browser.switch_to.window(first)
        page.until(lambda: len(page.tiles("cup")) == 2)
        assert "#1" in page.card("cup").text, "the pictures themselves are only in the other tab"
        page.card("cup").find_element(By.CSS_SELECTOR, ".forget").click()
        page.click("ask-yes")
        page.until(lambda: not page.cards())
        browser.switch_to.window(browser.window_handles[1])
        other.until(lambda: not other.cards())
    finally:
        browser.switch_to.window(browser.window_handles[1])
        browser.close()
        browser.switch_to.window(first)


SMALL = """
const buttons = [...document.querySelectorAll("button")].filter((each) => each.offsetParent);
return buttons.filter((each) => each.offsetHeight < 24 || each.offsetWidth < 24).length;
"""


def test_every_width_and_both_themes(page: Page, full: bool) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 80"
    page.add_class("a class with a name that is longer than a telephone is wide, as some people like them")
    page.learn_mine(3)
    page.try_picture(some("sneaker", 1, "test")[0])
    for width, dark in product((320, 390, 600, 820, 1200, 1900) if full else (390, 1200), (False, True)):
        show_as(page.browser, width, 844, dark)
        assert page.browser.execute_script(colour) == dark
        assert not page.scrolls_sideways(), width
        assert page.browser.execute_script(SMALL) == 0, "there are buttons too small for a finger"


def test_an_old_address_and_a_studio_that_has_ended_are_said(page: Page, studio: Studio) -> None:
    page.browser.get("about:blank")
    page.browser.get(studio.address[:-3])
    page.until(lambda: "open the address that fbkit studio printed" in page.text("banner"))
    page.browser.get("about:blank")
    page.browser.get(studio.address)
    page.until(lambda: not page.find("banner").is_displayed())
    added = run_fbkit("profile", "add-class", BUNDLE, studio.profile, "hat")
    assert added.returncode == 0
    page.until(lambda: page.card("hat").is_displayed())
    studio.process.terminate()
    page.until(lambda: "start fbkit studio again" in page.text("banner"))


def test_what_the_profile_keeps_is_shown_after_a_restart(browser: Browser, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("in full only (make test-all)")
    profile = tmp_path / "profile"
    for command in (
        ("profile", "add-class", BUNDLE, profile, "cup"),
        ("profile", "limit", BUNDLE, profile, "--keep-pictures"),
    ):
        assert run_fbkit(*command).returncode == 0
    with running_studio(BUNDLE, profile) as studio:
        Page(browser, studio).choose("cup", some("sneaker", 3))
    with running_studio(BUNDLE, profile) as studio:
        page = Page(browser, studio)
        page.until(lambda: len(page.tiles("cup")) == 3)
        page.until(lambda: page.has_pictures("cup"))
