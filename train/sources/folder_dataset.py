"""From folders of pictures to a data set: decode once, split where no test pictures were set aside."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fbkit.console import Reporter
from fbkit.device_runtime.pictures import decode_picture
from fbkit.errors import UserError
from fbkit.files import sha256_bytes, sha256_file
from fbkit.train.data import Dataset, Owners, Pictures
from fbkit.train.owned import Owned
from fbkit.train.recipe import DataRecipe
from fbkit.train.seeds import Purpose, numpy_stream
from fbkit.train.sources.assembling import assemble
from fbkit.train.sources.cache import VERSION, Bytes, Cached, cached_pictures, in_threads
from fbkit.train.sources.fitting import fit_image
from fbkit.train.sources.folders import Listing, Picture, list_classes, list_clients

Rows = NDArray[np.int64]

MOST_NAMED = 20  # broken pictures in one message

_MAX_BYTES = 1 << 28  # of one picture's file


@dataclass(frozen=True)
class _Found:
    """What a look at a picture's file told: its content's hash, or why it cannot be read."""

    digest: str = ""
    reason: str = ""


def load_folders(recipe: DataRecipe, root: Path, seed: int, reporter: Reporter) -> Dataset:
    """The pictures below ``root``, mapped from the cache; with client folders each client's own.

    Raises:
        UserError: a layout that makes no sense, broken pictures (unless skipped), a client with too few.
    """
    listing = list_clients(root) if recipe.source == "client-folders" else list_classes(root)
    if listing.loose:
        count = f"{len(listing.loose)} file{'s' * (len(listing.loose) > 1)}"
        reporter.line(f"passed over: {count} beside folders, not in a class's folder, such as {listing.loose[0]}")
    pictures = (*listing.train, *listing.test)
    found = list(in_threads(lambda row: _look(pictures[row].path), len(pictures)))
    key, cached = _decoded(recipe, root, pictures, found, reporter)
    _judge_broken(recipe, root, [picture.path for picture in pictures], cached, reporter)
    numbers = {name: number for number, name in enumerate(listing.classes)}
    labels = np.array([numbers[picture.label] for picture in pictures], np.int64)
    clients = np.array([picture.client for picture in pictures], np.int64)
    whole = np.setdiff1d(np.arange(len(pictures)), np.array(cached.broken, np.int64))
    if listing.divided:
        train, test = whole[whole < len(listing.train)], whole[whole >= len(listing.train)]
    else:
        train, test = _split(whole, labels, clients, recipe.test_fraction, seed)
    owners = _owners(root, listing.clients, clients[train], clients[test]) if listing.clients else None
    _check(root, listing, labels[train], len(test))
    _tell_shared(pictures, found, train, test, reporter)
    images = _arranged(key, cached, np.concatenate([train, test]), reporter)
    return assemble(
        Pictures(images[: len(train)], torch.from_numpy(labels[train])),
        Pictures(images[len(train) :], torch.from_numpy(labels[test])),
        listing.classes,
        recipe.mean,
        recipe.std,
        fingerprint=_digest(key, listing.classes, listing.clients, *_lists(train, test, labels, clients)),
        sums=cached.sums[train],
        owners=owners,
    )


def _look(path: Path) -> _Found:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return _Found(reason="is no file")
        if status.st_size > _MAX_BYTES:
            return _Found(reason=f"larger than {_MAX_BYTES} bytes, this is no picture")
        return _Found(sha256_file(path))
    except FileNotFoundError:
        return _Found(reason="a link to nothing" if path.is_symlink() else "is no longer there")
    except OSError as error:
        return _Found(reason=f"cannot be read ({error.strerror})")


def _decoded(
    recipe: DataRecipe, root: Path, pictures: tuple[Picture, ...], found: list[_Found], reporter: Reporter
) -> tuple[str, Cached]:
    """The key of these pictures at the recipe's size, and what the cache has for it, decoding where need be."""
    names = [picture.path.relative_to(root).as_posix() for picture in pictures]
    channels, size = recipe.channels or 3, recipe.size
    contents = [each.digest or each.reason for each in found]
    key = _digest(VERSION, size, channels, recipe.fit, list(zip(names, contents, strict=True)))

    def decode(row: int) -> Bytes | str:
        if found[row].reason:
            return f"{names[row]}: {found[row].reason}"
        data = _read(pictures[row].path, found[row].digest)
        try:
            image = decode_picture(data, channels, names[row])
        except UserError as error:
            return str(error)
        return fit_image(image, size, recipe.fit).transpose(2, 0, 1)

    return key, cached_pictures(key, len(names), (channels, size, size), decode, reporter, "reading pictures")


def _read(path: Path, digest: str) -> bytes:
    """A picture file's bytes, which must still be those that the key was made from."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if sha256_bytes(data) != digest:
        raise UserError(f"{path}: was changed while it was read; try again")
    return data


def _judge_broken(recipe: DataRecipe, root: Path, paths: list[Path], cached: Cached, reporter: Reporter) -> None:
    """Raise for broken pictures, or say which are left out."""
    if not cached.broken:
        return
    others = [str(paths[row]) for row in cached.broken[1:]]
    told = f"{root}/{cached.reason}"
    if others:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        told += f"; {len(others)} other broken: {', '.join(others[:MOST_NAMED])}{more}"
    if not recipe.skip_broken:
        raise UserError(f"{told}; mend or remove, or set data.skip_broken = true to leave out what is broken")
    if len(cached.broken) == len(cached.images):
        raise UserError(f"{told}; that is all there are")
    reporter.line(f"left out: {told}")


def _tell_shared(
    pictures: tuple[Picture, ...], found: list[_Found], train: Rows, test: Rows, reporter: Reporter
) -> None:
    """Say how many test pictures are, byte for byte, training pictures: they make figures look better than they are."""
    known = {found[row].digest for row in train.tolist()}
    shared = [row for row in test.tolist() if found[row].digest in known]
    if shared:
        are = "pictures are also training pictures" if len(shared) > 1 else "picture is also a training picture"
        reporter.line(f"{len(shared)} test {are}, such as {pictures[shared[0]].path}")


def _split(whole: Rows, labels: Rows, clients: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Draw test pictures from each class of each client, and leave one for training at least."""
    test: list[Rows] = []
    for client in np.unique(clients):
        mine = whole[clients[whole] == client]
        by_class = {int(label): mine[labels[mine] == label] for label in np.unique(labels[mine])}
        counts = {label: min(round(len(rows) * fraction), len(rows) - 1) for label, rows in by_class.items()}
        if counts and not any(counts.values()):  # a few pictures in each class: one test picture is better than none
            largest = max(counts, key=lambda label: len(by_class[label]))
            counts[largest] = min(1, len(by_class[largest]) - 1)
        for label, rows in by_class.items():
            order = numpy_stream(seed, Purpose.SPLIT, int(client), label).permutation(rows)
            test.append(order[: counts[label]])
    chosen = np.sort(np.concatenate(test))
    return np.setdiff1d(whole, chosen), chosen


def _owners(root: Path, names: tuple[str, ...], train_clients: Rows, test_clients: Rows) -> Owners:
    train = [np.flatnonzero(train_clients == number) for number in range(len(names))]
    test = [np.flatnonzero(test_clients == number) for number in range(len(names))]
    for name, for_training, for_test in zip(names, train, test, strict=True):
        if len(for_training) < 2 or len(for_test) < 1:
            raise UserError(
                f"{root / name}: has {len(for_training)} training and {len(for_test)} test pictures, at least 2 and 1 "
                "are needed; add pictures, change data.test_fraction where fbkit splits, or remove the client"
            )
    return Owners(names, Owned.joined(train), Owned.joined(test))


def _check(root: Path, listing: Listing, train_labels: Rows, tests: int) -> None:
    if not tests:
        raise UserError(f"{root}: no test pictures; add pictures, or raise data.test_fraction where fbkit splits")
    if listing.clients:
        return
    for label in sorted(set(range(len(listing.classes))) - set(train_labels.tolist())):
        raise UserError(f"{root}: class {listing.classes[label]!r} has no unbroken training picture; add some")


def _arranged(key: str, cached: Cached, rows: Rows, reporter: Reporter) -> torch.Tensor:
    """The pictures of ``rows`` in that order, still mapped: as they lie, or copied once into that order."""
    if np.array_equal(rows, np.arange(len(cached.images))):
        return torch.from_numpy(cached.images)
    shape = cached.images.shape[1:]
    copied = cached_pictures(
        _digest("arranged", key, rows.tolist()),
        len(rows),
        (shape[0], shape[1], shape[2]),
        lambda place: cached.images[rows[place]],
        reporter,
        "arranging pictures",
    )
    return torch.from_numpy(copied.images)


def _lists(*arrays: Rows) -> list[list[int]]:
    return [array.tolist() for array in arrays]


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
