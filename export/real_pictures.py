"""Real pictures, decoded as a device decodes them: int8 takes its ranges from some, others verify the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.device_runtime.manifest import InputSpec
from fbkit.device_runtime.pictures import NOT_PICTURES, load_picture
from fbkit.device_runtime.tensors import Bytes, Labels
from fbkit.errors import UserError
from fbkit.files import sha256_bytes

# Ranges settle after a few hundred pictures; more cost time alone.
CALIBRATION_PICTURES = 300
LEAST_CALIBRATION = 50
VERIFIED_PICTURES = 1000


@dataclass(frozen=True)
class RealPictures:
    """pictures: uint8 [N, H, W, C]; labels: int64 [N], None where they are not known."""

    pictures: Bytes
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """How many, and the SHA-256 of their pixels, row by row."""
        return {"pictures": len(self), "sha256": sha256_bytes(np.ascontiguousarray(self.pictures).tobytes())}


@dataclass(frozen=True)
class PictureFolder:
    """A folder's pictures by their paths, sorted; ``labels`` int64 [N] is None where folders are not named as classes.

    Make one with ``list_folder``.
    """

    folder: Path
    paths: tuple[Path, ...]
    labels: Labels | None

    def __len__(self) -> int:
        return len(self.paths)

    def decode(self, rows: npt.NDArray[np.int64], spec: InputSpec) -> RealPictures:
        """The pictures at ``rows``, at the body's size.

        Raises:
            UserError: one cannot be read or decoded; the message names it.
        """
        pictures = np.empty((len(rows), spec.height, spec.width, spec.channels), np.uint8)
        for place, row in enumerate(rows.tolist()):
            path = self.paths[row]
            try:
                data = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror})") from error
            pictures[place] = load_picture(data, spec.channels, spec.height, spec.width, str(path))
        return RealPictures(pictures, None if self.labels is None else self.labels[rows])


def list_folder(folder: Path, classes: tuple[str, ...]) -> PictureFolder:
    """The pictures of ``folder/PICTURE`` or ``folder/ANY/PICTURE``; with labels where one of ANY names a class.

    Raises:
        UserError: no such folder, no pictures, or folders of which some name a class and others none.
    """
    if not folder.is_dir():
        raise UserError(f"--calibrate {folder}: no such folder; give one of pictures")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if any(path.name in classes for path in inside):
        found = read_class_folder(folder, classes)
        labels = np.array([classes.index(picture.label) for picture in found], np.int64)
        return PictureFolder(folder, tuple(picture.path for picture in found), labels)
    paths = [
        path
        for where in inside or [folder]
        for path in sorted(where.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name.lower() not in NOT_PICTURES
    ]
    if not paths:
        raise UserError(f"--calibrate {folder}: holds no pictures; put some there, best in a folder for each class")
    return PictureFolder(folder, tuple(paths), None)


def choose(count: int, most: int) -> npt.NDArray[np.int64]:
    """Up to ``most`` of ``count`` rows, always the same ones, sorted: int64."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def choose_halves(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to calibrate with, at most half of them, and others to verify with; always the same ones, each sorted."""
    order = np.random.default_rng(0).permutation(count)
    calibration, rest = np.split(order, [min(CALIBRATION_PICTURES, count // 2)])
    return np.sort(calibration), np.sort(rest[:VERIFIED_PICTURES])


def refuse_too_few(count: int, needed: int, origin: str) -> None:
    """Raise UserError where int8 has fewer pictures than it needs."""
    if count < needed:
        raise UserError(
            f"{origin}: {count} pictures are too few for --precision int8, which needs at least {needed} to see what "
            "values occur; give more with --calibrate, or use --precision fp32"
        )
