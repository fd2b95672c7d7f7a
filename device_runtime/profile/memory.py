"""What is remembered of the pictures: features, classes, times and digests, but not the pictures themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.tensors import Bytes, Float, Labels, pack_tensors, unpack_tensors
from fbkit.errors import UserError

Rows = npt.NDArray[np.bool_]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What may be remembered at most; None for as much as there is.

    Attributes:
        pictures: how many.
        bytes: of their features and what else is remembered of them; pictures that are kept are not counted.
    """

    pictures: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if not all(limit is None or limit > 0 for limit in (self.pictures, self.bytes)):
            raise ValueError("limits must be above 0, or None for none")


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Memory:
    """N pictures, in the order in which they were added.

    Attributes:
        numbers: int64 [N], counted from 1 over the profile's whole life, so that none comes twice.
        digests: uint8 [N, 32], SHA-256 of the picture's file; each once.
        labels: int64 [N], places in the profile's classes.
        times: float64 [N], when it was added, in seconds since 1970.
        features: float32 [N, F], rounded as ``as_stored`` does.
    """

    numbers: Labels
    digests: Bytes
    labels: Labels
    times: Times
    features: Float

    def __len__(self) -> int:
        return len(self.numbers)

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def new_among(self, digests: Sequence[str], labels: Labels, features: Float, last: int) -> Memory:
        """Those of the pictures given that are not remembered, or with another label, numbered from ``last`` + 1 on."""
        rows = self.rows_by_digest()
        places = [
            place
            for place, digest in enumerate(digests)
            if digest not in rows or self.labels[rows[digest]] != labels[place]
        ]
        return Memory(
            last + 1 + np.arange(len(places)),
            np.array([list(bytes.fromhex(digests[place])) for place in places], np.uint8).reshape(-1, 32),
            labels[places],
            np.full(len(places), time.time()),
            features[places],
        )

    def without(self, other: Memory) -> Memory:
        """But for the pictures that ``other`` holds, too."""
        taken = other.rows_by_digest()
        return self.where(np.array([digest not in taken for digest in self.rows_by_digest()], np.bool_))

    def within(self, limits: Limits) -> Memory:
        """What limits leave: while there is too much, the oldest picture of the class that has most goes."""
        most = [len(self)]
        if limits.pictures is not None:
            most.append(limits.pictures)
        if limits.bytes is not None:
            most.append(limits.bytes // _bytes_a_picture(self.features.shape[1]))
        if min(most) == len(self):
            return self
        by_class = [list(np.flatnonzero(self.labels == label)) for label in np.unique(self.labels)]
        stay = np.ones(len(self), np.bool_)
        for _ in range(len(self) - min(most)):
            stay[max(by_class, key=len).pop(0)] = False
        return self.where(stay)

    def where(self, rows: Rows) -> Memory:
        return Memory(*(getattr(self, field.name)[rows] for field in fields(self)))

    def rows_by_digest(self) -> dict[str, int]:
        """The row of each picture, by its hexadecimal digest."""
        return {digest.tobytes().hex(): row for row, digest in enumerate(self.digests)}

    def to_bytes(self) -> bytes:
        """As a safetensors file, with features in 16 bits."""
        scales = _scales(self.features)
        tensors: dict[str, npt.NDArray[Any]] = {
            "numbers": self.numbers,
            "digests": self.digests,
            "labels": self.labels,
            "times": self.times,
            "features": (self.features / scales[:, None]).astype(np.float16),
            "scales": scales,
        }
        return pack_tensors(tensors)


def no_memory(features: int) -> Memory:
    return Memory(
        np.zeros(0, np.int64),
        np.zeros((0, 32), np.uint8),
        np.zeros(0, np.int64),
        np.zeros(0),
        np.zeros((0, features), np.float32),
    )


def _bytes_a_picture(features: int) -> int:
    return 2 * features + 32 + 3 * 8 + 4


def as_stored(features: Float) -> Float:
    """float32 [N, F], rounded to the 11 significant bits in which it is kept.

    Fits use these values from the start: a head does not depend on whether a picture was seen just now or long ago.
    """
    scales = _scales(features)[:, None]
    return (features / scales).astype(np.float16).astype(np.float32) * scales


def memory_from_bytes(data: bytes, features: int, classes: int, origin: str) -> Memory:
    """Read and check one file; ``features`` may be -1 for any width.

    Raises:
        UserError: it is not as ``to_bytes`` writes it.
    """
    shapes = {
        "numbers": ("int64", (-1,)),
        "digests": ("uint8", (-1, 32)),
        "labels": ("int64", (-1,)),
        "times": ("float64", (-1,)),
        "features": ("float16", (-1, features)),
        "scales": ("float32", (-1,)),
    }
    tensors = unpack_tensors(data, shapes, origin)
    if len({len(tensor) for tensor in tensors.values()}) > 1:
        raise UserError(f"{origin}: its tensors have different numbers of rows")
    scales, labels = tensors.pop("scales"), tensors["labels"]
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{origin}: labels must be from 0 to {classes - 1}")
    if (np.diff(tensors["numbers"]) <= 0).any() or (tensors["numbers"] < 1).any():
        raise UserError(f"{origin}: numbers must be above 0 and rise")
    if len({digest.tobytes() for digest in tensors["digests"]}) < len(labels):
        raise UserError(f"{origin}: holds a picture twice")
    with np.errstate(over="ignore"):
        tensors["features"] = tensors["features"].astype(np.float32) * scales[:, None]
    if not np.isfinite(tensors["features"]).all():
        raise UserError(f"{origin}: features must be finite")
    return Memory(**tensors)


def _scales(features: Float) -> Float:
    """float32 [N]: a power of two for each row, by which its largest value comes to lie above 0.5, at most at 1.

    So that neither large features overflow nor small ones lose bits in 16 of them. A value that was rounded up to 1
    stays 1: with another scale, small ones would be rounded a second time. None is below 2^-100, where a product with
    a 16-bit number would be rounded, too.
    """
    largest = np.abs(features).max(1, initial=0)
    mantissas, exponents = np.frexp(largest)
    exponents = np.clip(exponents - (mantissas == 0.5), -100, 127)
    return np.ldexp(np.float32(1), np.where(largest > 0, exponents, 0)).astype(np.float32)
