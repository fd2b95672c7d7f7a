"""The 10,000 + 10,000 pictures of Fashion-MNIST that fbkit ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fbkit.files import sha256_bytes
from fbkit.train.data import Dataset, Pictures
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources.assembling import assemble
from fbkit.train.sources.fitting import fit_pictures

EMBEDDED = Path(__file__).parent.parent / "embedded" / "fashion-mnist-10k.npz"
FASHION_MNIST_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
# Of the full data set, as the field normalises it; they hold while the pictures are used as they are.
_MEAN, _STD = (0.2860,), (0.3530,)


def load_embedded(recipe: DataRecipe) -> Dataset:
    """The embedded pictures, grey 28x28 unless the recipe asks otherwise; as they are, the file is the fingerprint.

    Raises:
        UserError: data.mean or data.std does not fit the channels.
    """
    with np.load(EMBEDDED, allow_pickle=False) as arrays:
        plain = [
            Pictures(
                torch.from_numpy(arrays[f"{name}_images"]).unsqueeze(1),
                torch.from_numpy(arrays[f"{name}_labels"]).long(),
            )
            for name in ("train", "test")
        ]
    train, test = (fit_pictures(pictures, recipe.size, recipe.channels, recipe.fit) for pictures in plain)
    if train is not plain[0]:
        return assemble(train, test, FASHION_MNIST_CLASSES, recipe.mean, recipe.std)
    mean, std = recipe.mean or _MEAN, recipe.std or _STD
    return assemble(train, test, FASHION_MNIST_CLASSES, mean, std, fingerprint=sha256_bytes(EMBEDDED.read_bytes()))
