"""MNIST, Fashion-MNIST and EMNIST, as torchvision keeps them or as bare idx files."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch

from fbkit.errors import UserError
from fbkit.train.data import Pictures
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources.embedded import FASHION_MNIST_CLASSES
from fbkit.train.sources.fetching import Layout, find_files
from fbkit.train.sources.idx import read_idx

# torchvision's class, whose name is the folder's, too.
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "emnist": "EMNIST"}
_DIGITS = tuple(string.digits)
_MERGED = (*_DIGITS, *string.ascii_uppercase, *"abdefghnqrt")  # the small letters that differ from their capitals
_EMNIST_CLASSES = {
    "balanced": _MERGED,
    "bymerge": _MERGED,
    "byclass": (*_DIGITS, *string.ascii_uppercase, *string.ascii_lowercase),
    "digits": _DIGITS,
    "mnist": _DIGITS,
    "letters": tuple(string.ascii_lowercase),
}


def load_mnist(recipe: DataRecipe, root: Path) -> tuple[Pictures, Pictures, tuple[str, ...]]:
    """Training and test pictures and the classes of one of the three, uint8 [N, 1, 28, 28].

    Raises:
        UserError: files are missing or damaged.
    """
    source, split = recipe.source, recipe.emnist_split
    name = _TORCHVISION[source]
    prefixes, first, classes = ("train", "t10k"), 0, _DIGITS
    if source == "fashion-mnist":
        classes = FASHION_MNIST_CLASSES
    elif source == "emnist":
        prefixes, classes = (f"emnist-{split}-train", f"emnist-{split}-test"), _EMNIST_CLASSES[split]
        first = int(split == "letters")  # its labels start at 1

    def fetch(torchvision: Any) -> None:
        options = {"split": split} if source == "emnist" else {}
        getattr(torchvision.datasets, name)(str(root), download=True, **options)

    names = tuple(f"{prefix}-{kind}-ubyte" for prefix in prefixes for kind in ("images-idx3", "labels-idx1"))
    _, paths = find_files(name, [Layout((root / name / "raw", root), names, ("", ".gz"))], recipe.download, fetch)
    train, test = (
        _read(images, labels, first, len(classes), upright=source != "emnist")
        for images, labels in (paths[:2], paths[2:])
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(f"{paths[2]}: its pictures are not of the size of those in {paths[0]}; get both anew")
    return train, test, classes


def _read(images_path: Path, labels_path: Path, first: int, classes: int, upright: bool) -> Pictures:
    """Pictures of two idx files, labels brought to start at 0; those that are not upright are transposed."""
    images = torch.from_numpy(read_idx(images_path, 3))
    labels = torch.from_numpy(read_idx(labels_path, 1)).long() - first
    if len(images) != len(labels):
        raise UserError(f"{labels_path}: has {len(labels)} labels for {len(images)} pictures; get both files anew")
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise UserError(f"{labels_path}: has labels outside {first}..{first + classes - 1}; get it anew")
    return Pictures((images if upright else images.mT.contiguous()).unsqueeze(1), labels)
