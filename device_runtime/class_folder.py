"""Local data as people keep it: a folder with one folder of pictures for each class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fbkit.device_runtime.pictures import NOT_PICTURES
from fbkit.errors import UserError


@dataclass(frozen=True)
class LabelledPicture:
    """A picture's file, and the name of its class."""

    path: Path
    label: str


def read_class_folder(folder: Path, classes: tuple[str, ...], new_classes: bool = False) -> list[LabelledPicture]:
    """The pictures of ``folder/class/picture``, sorted by class and name. Hidden files are passed over.

    Args:
        classes: those that are known.
        new_classes: whether a folder may have another name.

    Raises:
        UserError: no such folder, a folder that names no class, or no pictures.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with a folder of pictures for each class")
    pictures: list[LabelledPicture] = []
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if class_folder.name not in classes and not new_classes:
            known = ", ".join(classes[:12]) + (" ..." if len(classes) > 12 else "")
            raise UserError(
                f"{class_folder}: {class_folder.name!r} is not a class of this bundle; its classes: {known}"
            )
        pictures += [
            LabelledPicture(path, class_folder.name)
            for path in sorted(class_folder.iterdir())
            if path.is_file() and not path.name.startswith(".") and path.name.lower() not in NOT_PICTURES
        ]
    if not pictures and any(path.is_file() for path in folder.iterdir()):
        raise UserError(f"{folder}: has files but no folder named after a class; give the folder above, or sort them")
    if not pictures:
        raise UserError(
            f"{folder}: holds no pictures; expected {folder}/CLASS/PICTURE with CLASS such as {classes[0]!r}"
        )
    return pictures
