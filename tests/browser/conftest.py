"""A real headless Chromium, and a real studio for it to open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, Unfetchable, asked, find_programs, open_chromium, show_as
from tests.device_runtime.conftest import BUNDLE
from tests.device_runtime.studio_server import Studio, running_studio


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the session; skipped only where there is none, and none can be had."""
    try:
        programs = find_programs()
    except Unfetchable as error:
        pytest.skip(str(error))
    driver = open_chromium(programs, tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """In light, 1200 pixels wide. At the end nothing was asked of any other machine, and no script had an error."""
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
