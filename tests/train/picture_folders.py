"""Folders of small real pictures, and what should be made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fbkit.device_runtime.pictures import load_picture
from fbkit.train.recipe import DataRecipe

Bytes = NDArray[np.uint8]


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """PNG and JPEG of several sizes and modes, and files that are to be passed over."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, *folder.name.encode()])
    for number in range(count):
        height, width = rng.integers(9, 30, 2)
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
        mode = ("RGB", "L", "RGBA", "P", "1", "LA")[number % 6]
        if number % 4 == 3:
            image.save(folder / f"{number:03d}.jpg")
        else:
            image.convert(mode).save(folder / f"{number:03d}.png")
    for name in (".hidden.png", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"no picture")


def recipe(root: Path, source: Any = "class-folders", **values: Any) -> DataRecipe:
    return DataRecipe(source=source, root=str(root), size=16, **values)


def class_root(root: Path, counts: tuple[int, ...] = (10, 5, 1)) -> Path:
    for name, count in zip("abcdef", counts, strict=False):
        write_pictures(root / name, count)
    (root / "README.txt").write_text("mine")
    return root


def by_hand(paths: list[Path], channels: int = 3) -> Bytes:
    """The pictures as the device sees them, [N, C, 16, 16]."""
    return np.stack([load_picture(path.read_bytes(), channels, 16, 16).transpose(2, 0, 1) for path in paths])


def files(root: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(root.glob(pattern)) if path.suffix in (".png", ".jpg") and path.name[0] != "."]


def multiset(images: torch.Tensor | Bytes) -> list[bytes]:
    return sorted(np.asarray(image).tobytes() for image in images)
