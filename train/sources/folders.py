"""People's own pictures in folders: which files there are, of which class, and whose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fbkit.errors import UserError
from fbkit.train.sources.assembling import check_classes

_NOT_PICTURES = {"thumbs.db", "desktop.ini"}
_TEST_NAMES = ("test", "val", "valid")
_CLASS_LAYOUT = "expected CLASS/PICTURE, or train/CLASS/PICTURE beside test/CLASS/PICTURE"
_CLIENT_LAYOUT = "expected CLIENT/CLASS/PICTURE, or CLIENT/train/CLASS/PICTURE beside CLIENT/test/CLASS/PICTURE"


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
    """

    train: tuple[Picture, ...]
    test: tuple[Picture, ...]
    classes: tuple[str, ...]
    divided: bool
    clients: tuple[str, ...] = ()


def list_classes(root: Path) -> Listing:
    """The pictures of ``root/CLASS/PICTURE`` or ``root/{train,test}/CLASS/PICTURE``, by class and name.

    Raises:
        UserError: another layout, fewer than two classes, a class without pictures.
    """
    train_folder, test_folder = _parts(root, _CLASS_LAYOUT)
    train = _pictures(train_folder, 0, _CLASS_LAYOUT)
    test = _pictures(test_folder, 0, _CLASS_LAYOUT) if test_folder else []
    classes = tuple(sorted({picture.label for picture in train}))
    for folder in _folders(train_folder):
        if folder.name not in classes:
            raise UserError(f"{folder}: holds no pictures; add some or remove the folder")
    for picture in test:
        if picture.label not in classes:
            raise UserError(f"{picture.path.parent}: is not a class of {train_folder}; add it there or remove it here")
    check_classes(classes, f"{train_folder} ({_CLASS_LAYOUT})")
    return Listing(tuple(train), tuple(test), classes, test_folder is not None)


def list_clients(root: Path) -> Listing:
    """The pictures of ``root/CLIENT/CLASS/PICTURE`` or ``root/CLIENT/{train,test}/CLASS/PICTURE``.

    Raises:
        UserError: another layout, or clients of different ones, fewer than two classes, a client without pictures.
    """
    clients = _folders(root, _CLIENT_LAYOUT)
    if not clients:
        raise UserError(f"{root}: holds no clients; {_CLIENT_LAYOUT}")
    train: list[Picture] = []
    test: list[Picture] = []
    divided = _parts(clients[0], _CLIENT_LAYOUT)[1] is not None
    for number, client in enumerate(clients):
        train_folder, test_folder = _parts(client, _CLIENT_LAYOUT)
        if (test_folder is not None) != divided:
            raise UserError(f"{client}: is laid out otherwise than {clients[0]}; {_CLIENT_LAYOUT}, the same for all")
        found = _pictures(train_folder, number, _CLIENT_LAYOUT)
        if not found:
            raise UserError(f"{train_folder}: holds no pictures; {_CLIENT_LAYOUT}")
        train += found
        test += _pictures(test_folder, number, _CLIENT_LAYOUT) if test_folder else []
    classes = tuple(sorted({picture.label for picture in (*train, *test)}))
    check_classes(classes, f"{root} ({_CLIENT_LAYOUT})")
    return Listing(tuple(train), tuple(test), classes, divided, tuple(client.name for client in clients))


def _parts(folder: Path, layout: str) -> tuple[Path, Path | None]:
    """Where a folder's training and test pictures are; no test folder where they are still to be drawn."""
    names = {path.name for path in _folders(folder, layout)}
    tests = [name for name in _TEST_NAMES if name in names]
    if "train" in names and tests:
        others = sorted(names - {"train", *tests})
        if len(tests) > 1 or others:
            raise UserError(f"{folder}: has {', '.join([*tests, *others])} beside train; {layout}")
        return folder / "train", folder / tests[0]
    return folder, None


def _pictures(folder: Path, client: int, layout: str) -> list[Picture]:
    """The pictures of ``folder/CLASS/PICTURE``, sorted. Hidden files are passed over."""
    class_folders = _folders(folder, layout)
    if not class_folders and any(_is_picture(path) for path in folder.iterdir()):
        raise UserError(f"{folder}: has pictures where folders belong; {layout}")
    pictures: list[Picture] = []
    for class_folder in class_folders:
        inner = _folders(class_folder)
        if inner:
            raise UserError(f"{inner[0]}: is a folder where pictures belong; {layout}")
        pictures += [
            Picture(path, class_folder.name, client) for path in sorted(class_folder.iterdir()) if _is_picture(path)
        ]
    return pictures


def _folders(folder: Path, layout: str = "") -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {layout}")
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error


def _is_picture(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.lower() not in _NOT_PICTURES
