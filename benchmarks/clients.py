"""Clients as folders of ordinary pictures: what a benchmark personalizes for.

CLIENTS/NAME/train/CLASS/PICTURE    what the client learns from
CLIENTS/NAME/test/CLASS/PICTURE     what it is judged by
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from fbkit.errors import UserError
from fbkit.files import whole_folder

if TYPE_CHECKING:
    from torch import Tensor

    from fbkit.train.data import Dataset, Pictures
    from fbkit.train.partition import Clients


@dataclass(frozen=True)
class ClientFolder:
    """One client's name and folders."""

    name: str
    train: Path
    test: Path


def find_clients(folder: Path) -> list[ClientFolder]:
    """The clients below ``folder``, by name.

    Raises:
        UserError: none there, or one lacks its train or test folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected CLIENT/train/CLASS/PICTURE and CLIENT/test/CLASS/PICTURE")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        raise UserError(f"{folder}: is a single client; give the folder that holds it")
    clients = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        client = ClientFolder(path.name, path / "train", path / "test")
        for part in (client.train, client.test):
            if not part.is_dir():
                raise UserError(f"{part}: no such folder; every client needs one for train and one for test")
        clients.append(client)
    if not clients:
        raise UserError(
            f"{folder}: holds no clients; expected CLIENT/train/CLASS/PICTURE and CLIENT/test/CLASS/PICTURE"
        )
    return clients


def write_clients(dataset: Dataset, clients: Clients, numbers: Sequence[int], out: Path) -> None:
    """Write some of a partition's clients as PNG files in such folders.

    Raises:
        UserError: ``out`` exists.
    """
    with whole_folder(out) as folder:
        for number in numbers:
            client = folder / f"client-{number:03d}"
            _write_pictures(dataset.train, clients.train[number], dataset.classes, client / "train")
            _write_pictures(dataset.test, clients.test[number], dataset.classes, client / "test")


def _write_pictures(pictures: Pictures, indices: Tensor, classes: tuple[str, ...], folder: Path) -> None:
    for index in indices.tolist():
        path = folder / classes[int(pictures.labels[index])] / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = pictures.images[index].permute(1, 2, 0).numpy()
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
