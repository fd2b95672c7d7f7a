"""CIFAR-10 and CIFAR-100: the publisher's binary files, or the Python files that torchvision keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fbkit.errors import UserError
from fbkit.train.data import Pictures
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources.assembling import check_classes
from fbkit.train.sources.fetching import Layout, find_files
from fbkit.train.sources.plain_pickle import read_plain_pickle

_SHAPE = (3, 32, 32)
_VALUES = 3 * 32 * 32
_MAX_BYTES = 1 << 30
_MAX_NAMES_BYTES = 1 << 16

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]  # rows of values, labels


@dataclass(frozen=True)
class _Cifar:
    """How one of the two lies on disk. In both forms the last name is the test's; the names' file comes on top."""

    title: str
    binary: str
    binary_names: tuple[str, ...]
    binary_classes: str
    labels: int  # in front of each picture in the binary form; the last is the one wanted
    python: str
    python_names: tuple[str, ...]
    python_classes: str
    label_key: str
    class_key: str
    archive: str
    md5: str


CIFARS = {
    "cifar10": _Cifar(
        "CIFAR-10",
        "cifar-10-batches-bin",
        (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
        "batches.meta.txt",
        1,
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
        "batches.meta",
        "labels",
        "label_names",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
    ),
    "cifar100": _Cifar(
        "CIFAR-100",
        "cifar-100-binary",
        ("train.bin", "test.bin"),
        "fine_label_names.txt",
        2,
        "cifar-100-python",
        ("train", "test"),
        "meta",
        "fine_labels",
        "fine_label_names",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
    ),
}


def load_cifar(recipe: DataRecipe, root: Path) -> tuple[Pictures, Pictures, tuple[str, ...]]:
    """Training and test pictures, uint8 [N, 3, 32, 32], and the classes (of CIFAR-100 the fine ones).

    Raises:
        UserError: files are missing or damaged.
    """
    kind = CIFARS[recipe.source]

    def fetch(torchvision: Any) -> None:
        torchvision.datasets.utils.download_and_extract_archive(kind.archive, str(root), md5=kind.md5)

    binary = Layout((root / kind.binary, root), (*kind.binary_names, kind.binary_classes))
    python = Layout((root / kind.python, root), (*kind.python_names, kind.python_classes))
    layout, (*files, names_file) = find_files(kind.title, [binary, python], recipe.download, fetch)
    if layout is binary:
        classes = _names_in_text(names_file)
        parts = [_read_binary(path, kind.labels) for path in files]
    else:
        classes = _names_in_pickle(names_file, kind.class_key)
        parts = [_read_python(path, kind.label_key) for path in files]
    check_classes(classes, str(names_file))
    for path, (_, labels) in zip(files, parts, strict=True):
        if labels.min() < 0 or labels.max() >= len(classes):
            raise UserError(f"{path}: has labels outside 0..{len(classes) - 1}; get it anew")
    return _joined(parts[:-1]), _joined(parts[-1:]), classes


def _read_binary(path: Path, labels: int) -> Part:
    record = labels + _VALUES
    try:
        size = path.stat().st_size
        if size == 0 or size % record or size > _MAX_BYTES:
            raise UserError(f"{path}: is {size} bytes long, not a multiple of a picture's {record}; get it anew")
        rows = np.fromfile(path, np.uint8).reshape(-1, record)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return rows[:, labels:], rows[:, labels - 1].astype(np.int64)


def _read_python(path: Path, label_key: str) -> Part:
    content = read_plain_pickle(path)
    rows, labels = content.get("data"), content.get(label_key)
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != _VALUES or not len(rows):
        raise UserError(f"{path}: its 'data' is not an array of {_VALUES} bytes a picture; get it anew")
    if (
        not isinstance(labels, list)
        or len(labels) != len(rows)
        or not all(type(label) is int and abs(label) < 2**31 for label in labels)
    ):
        raise UserError(f"{path}: its {label_key!r} is not a list of one number for each picture; get it anew")
    return rows, np.array(labels, np.int64)


def _names_in_text(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_NAMES_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a list of class names, one a line ({error}); get it anew") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _names_in_pickle(path: Path, key: str) -> tuple[str, ...]:
    names = read_plain_pickle(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: its {key!r} is not a list of class names; get it anew")
    return tuple(names)


def _joined(parts: Sequence[Part]) -> Pictures:
    images = np.concatenate([rows for rows, _ in parts]).reshape(-1, *_SHAPE)
    return Pictures(torch.from_numpy(images), torch.from_numpy(np.concatenate([labels for _, labels in parts])))
