"""Where decoded pictures are kept during a test, and a list of those that were decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fbkit.device_runtime.pictures import decode_picture
from fbkit.train.sources import folder_dataset


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fbkit" / "pictures"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that were decoded."""
    names: list[str] = []

    def counted(data: bytes, channels: int, name: str) -> Image.Image:
        names.append(name)
        return decode_picture(data, channels, name)

    monkeypatch.setattr(folder_dataset, "decode_picture", counted)
    return names
