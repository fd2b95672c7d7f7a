"""Made-up pictures of every kind that the native runner reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

KINDS: dict[str, dict[str, Any]] = {
    "420.jpg": {"quality": 75, "subsampling": 2},
    "422.jpg": {"quality": 60, "subsampling": 1},
    "444.jpg": {"quality": 92, "subsampling": 0},
    "progressive.jpg": {"quality": 80, "progressive": True},
    "turned.jpg": {"quality": 85},
    "grey.jpg": {"quality": 70},
    "rgb.png": {},
    "rgba.png": {},
    "turned.png": {},
    "grey.png": {},
    "grey-alpha.png": {},
    "16-bit.png": {},
    "black-and-white.png": {},
    "palette.png": {},
    "transparent-palette.png": {"transparency": 3},
}


def draw_pictures(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Kind and file of each picture, of sizes from a few pixels to some hundred."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        height, width = (int(side) for side in rng.integers(3, 400, 2))
        image, options = in_kind(kind, smooth(rng, height, width), rng), dict(KINDS[kind])
        if "turned" in kind:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 1 + number // len(kinds) % 8
        file = io.BytesIO()
        image.save(file, "JPEG" if kind.endswith("jpg") else "PNG", **options)
        yield kind, file.getvalue()


def smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """RGBA noise at two scales, as a photograph has it: uint8 [height, width, 4]."""
    coarse = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 4)).astype(np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def in_kind(kind: str, pixels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    image = Image.fromarray(pixels)
    if kind == "rgba.png":
        return image
    if kind == "16-bit.png":
        return Image.fromarray(rng.integers(0, 65536, pixels.shape[:2]).astype(np.uint16))
    if kind.endswith("palette.png"):
        return image.convert("RGB").quantize(int(rng.integers(5, 256)))
    modes = {"grey.jpg": "L", "grey.png": "L", "grey-alpha.png": "LA", "black-and-white.png": "1"}
    return image.convert(modes.get(kind, "RGB"))
