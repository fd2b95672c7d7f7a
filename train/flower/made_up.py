"""Made-up pictures in a run folder, because the server has no others.

``fbkit export`` runs a bundle and torch side by side on the pictures below ``data.root`` before it writes the bundle.
The pictures of silos stay where they are, so the run's ``data.root`` holds noise instead, drawn from what the silos
said of their pictures. It belongs to another number of clients than the run has, so what would judge on it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = "made-up-pictures"

_TEST_PICTURES = 64


def write_made_up(root: Path, shape: tuple[int, int, int], classes: Sequence[str], clients: int, seed: int) -> None:
    """Write ``root/CLIENT/{train,test}/CLASS/PICTURE``: pictures of all classes, and enough for every client.

    Args:
        shape: channels, height and width.
    """
    rng = np.random.default_rng(seed)
    channels, height, width = shape

    def write(part: str, number: int) -> None:
        folder = root / f"made-up-{number % clients:05d}" / part / classes[number % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
        Image.fromarray(noise[:, :, 0] if channels == 1 else noise).save(folder / f"{number:05d}.png")

    for number in range(max(len(classes), 2 * clients)):
        write("train", number)
    for number in range(max(_TEST_PICTURES, clients)):
        write("test", number)
