"""People's own pictures in folders: which files there are, of which class, and whose."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from fbkit.device_runtime.pictures import NOT_PICTURES
from fbkit.errors import UserError
from fbkit.train.sources.assembling import check_classes

_TRAIN_NAME, _TEST_NAMES = "train", ("test", "val", "valid", "validation")  # in any case
_TEST_WORDS = "(or val, valid, validation)"
_CLASS_LAYOUT = f"expected CLASS/PICTURE, or train/CLASS/PICTURE beside test/CLASS/PICTURE {_TEST_WORDS}"
_CLIENT_LAYOUT = (
    "expected CLIENT/CLASS/PICTURE, or CLIENT/train/CLASS/PICTURE beside CLIENT/test/CLASS/PICTURE " + _TEST_WORDS
)


@dataclass(frozen=True)
class Picture:
    """A picture's file, its class's name, and the client it belongs to (0 where there are none)."""

    path: Path
    label: str
    client: int = 0


@dataclass(frozen=True)
class Listing:
    """All pictures below a folder: training ones first, then those set aside as test.

    ``divided`` says that people set test pictures aside; otherwise they are to be drawn from the training ones.
    ``loose`` are files that lie beside folders, not in a class's folder, and are passed over.
    """

    train: tuple[Picture, ...]
    test: tuple[Picture, ...]
    classes: tuple[str, ...]
    divided: bool
    clients: tuple[str, ...] = ()
    loose: tuple[Path, ...] = ()


def list_classes(root: Path) -> Listing:
    """The pictures of ``root/CLASS/PICTURE`` or ``root/{train,test}/CLASS/PICTURE``, by class and name.

    Raises:
        UserError: another layout, fewer than two classes, a class without pictures, two classes of nearly one name.
    """
    loose: list[Path] = []
    train_folder, test_folder = _parts(root, _CLASS_LAYOUT, loose)
    train = _pictures(train_folder, 0, _CLASS_LAYOUT, loose)
    test = _pictures(test_folder, 0, _CLASS_LAYOUT, loose) if test_folder else []
    _refuse_twins([*train, *test])
    classes = tuple(sorted({picture.label for picture in train}))
    for folder in _inside(train_folder, _CLASS_LAYOUT)[0]:
        if folder.name not in classes:
            raise UserError(f"{folder}: holds no pictures; add some or remove the folder")
    for picture in test:
        if picture.label not in classes:
            raise UserError(f"{picture.path.parent}: is not a class of {train_folder}; add it there or remove it here")
    check_classes(classes, f"{train_folder} ({_CLASS_LAYOUT})")
    return Listing(tuple(train), tuple(test), classes, test_folder is not None, loose=tuple(loose))


def list_clients(root: Path) -> Listing:
    """The pictures of ``root/CLIENT/CLASS/PICTURE`` or ``root/CLIENT/{train,test}/CLASS/PICTURE``.

    Raises:
        UserError: another layout, or clients of different ones, fewer than two classes, a client without pictures, a
            class that none has for training, two classes of nearly one name, a name that cannot be a client's.
    """
    clients, loose = _inside(root, _CLIENT_LAYOUT)
    if not clients:
        raise UserError(f"{root}: holds no clients; {_CLIENT_LAYOUT}")
    _check_client_names(root, [client.name for client in clients])
    train: list[Picture] = []
    test: list[Picture] = []
    divided = _parts(clients[0], _CLIENT_LAYOUT, [])[1] is not None
    for number, client in enumerate(clients):
        train_folder, test_folder = _parts(client, _CLIENT_LAYOUT, loose)
        if (test_folder is not None) != divided:
            raise UserError(f"{client}: is laid out otherwise than {clients[0]}; {_CLIENT_LAYOUT}, the same for all")
        found = _pictures(train_folder, number, _CLIENT_LAYOUT, loose)
        if not found:
            raise UserError(f"{train_folder}: holds no pictures; {_CLIENT_LAYOUT}")
        train += found
        test += _pictures(test_folder, number, _CLIENT_LAYOUT, loose) if test_folder else []
    _refuse_twins([*train, *test])
    classes = tuple(sorted({picture.label for picture in train}))
    for picture in test:
        if picture.label not in classes:
            raise UserError(
                f"{picture.path.parent}: is a class that no client has for training; add training pictures of it or "
                "remove it here"
            )
    check_classes(classes, f"{root} ({_CLIENT_LAYOUT})")
    names = tuple(client.name for client in clients)
    return Listing(tuple(train), tuple(test), classes, divided, names, tuple(loose))


def _check_client_names(root: Path, names: list[str]) -> None:
    for name in names:
        if not name.isprintable() or not name.strip():
            raise UserError(f"{root}: {name!r} cannot be a client's name; use a plain word")
    parts = [name for name in names if name.casefold() in (_TRAIN_NAME, *_TEST_NAMES)]
    if len({name.casefold() == _TRAIN_NAME for name in parts}) == 2 or len(parts) == len(names):
        raise UserError(
            f"{root}: its clients would be called {' and '.join(parts)}; if these are classes' training and test "
            "pictures, set data.source = 'class-folders', else put them into a folder for each client, as "
            "CLIENT/train/CLASS/PICTURE"
        )


def _refuse_twins(pictures: list[Picture]) -> None:
    """Raise UserError where two classes have names that people, or another file system, take for one."""
    folders: dict[str, Path] = {}
    for picture in pictures:
        folders.setdefault(picture.label, picture.path.parent)
    seen: dict[str, Path] = {}
    for label, folder in sorted(folders.items()):
        composed = unicodedata.normalize("NFC", label)
        other = seen.setdefault(composed.casefold(), folder)
        if other is folder:
            continue
        if unicodedata.normalize("NFC", other.name) == composed:
            how = f"how letters are encoded, {other.name!a} and {label!a}"
        else:
            how = "upper and lower case"
        raise UserError(
            f"{other} and {folder}: two classes whose names differ only in {how}; bring their pictures under one name, "
            "or give them names that differ in more"
        )


def _parts(folder: Path, layout: str, loose: list[Path]) -> tuple[Path, Path | None]:
    """Where a folder's training and test pictures are; no test folder where they are still to be drawn.

    What lies loose beside such parts is added to ``loose``.
    """
    inside, files = _inside(folder, layout)
    trains = [path for path in inside if path.name.casefold() == _TRAIN_NAME]
    tests = [path for path in inside if path.name.casefold() in _TEST_NAMES]
    if not trains or not tests:
        return folder, None
    if len(inside) > 2:
        others = [path.name for path in inside if path != trains[0]]
        raise UserError(f"{folder}: has {', '.join(others)} beside {trains[0].name}; {layout}")
    loose += files
    return trains[0], tests[0]


def _pictures(folder: Path, client: int, layout: str, loose: list[Path]) -> list[Picture]:
    """The pictures of ``folder/CLASS/PICTURE``, sorted; what lies beside the classes is added to ``loose``."""
    class_folders, files = _inside(folder, layout)
    if not class_folders and files:
        raise UserError(f"{folder}: has pictures where folders belong; {layout}")
    loose += files
    pictures: list[Picture] = []
    for class_folder in class_folders:
        inner, found = _inside(class_folder, layout)
        if inner:
            raise UserError(f"{inner[0]}: is a folder where pictures belong; {layout}")
        pictures += [Picture(path, class_folder.name, client) for path in found]
    return pictures


def _inside(folder: Path, layout: str) -> tuple[list[Path], list[Path]]:
    """A folder's folders and files by name, without hidden ones and what systems leave behind.

    A link that leads to no folder counts as a file, so that one that leads nowhere is named like a broken picture.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {layout}")
    folders: list[Path] = []
    files: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folders.append(folder / entry.name)
                elif entry.is_symlink() or entry.is_file():
                    files.append(folder / entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted(folders), sorted(path for path in files if path.name.lower() not in NOT_PICTURES)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return False
