"""The bundle and pictures that fbkit carries, for tests that need no training first."""

from __future__ import annotations

from pathlib import Path

import pytest

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.profile import Profile, find_profile
from fbkit.device_runtime.profile.memory import as_stored
from fbkit.device_runtime.tensors import Float
from fbkit.files import sha256_file

BUNDLE, PICTURES = FOLDER / "bundle", FOLDER / "pictures"
CLASSES = ("sneaker", "t-shirt")  # those that there are pictures of


@pytest.fixture(scope="session")
def demo() -> Bundle:
    return Bundle.open(BUNDLE)


def some(label: str, count: int = 10, part: str = "train") -> list[Path]:
    """The first pictures of a class."""
    return sorted((PICTURES / part / label).glob("*.png"))[:count]


def opened(folder: Path, bundle: Bundle) -> Profile:
    """The profile as another process finds it."""
    profile = find_profile(folder, bundle.manifest)
    assert profile
    return profile


def by_the_body(bundle: Bundle, paths: list[Path]) -> Float:
    """Features of picture files, as a profile keeps them."""
    return as_stored(bundle.features([bundle.decode(path.read_bytes()) for path in paths]))


def snapshot(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
