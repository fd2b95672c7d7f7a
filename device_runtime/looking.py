"""Looking at pictures: read, decode, and pass through the body, each picture once."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.tensors import Bytes, Float
from fbkit.errors import UserError
from fbkit.files import sha256_bytes

Picture = str | os.PathLike[str] | Bytes | BinaryIO
"""A file's path, an open file, or pixels: uint8 [H, W] or [H, W, 3], grey or RGB."""


@dataclass(frozen=True)
class Looked:
    """What was found in N pictures.

    Attributes:
        names: of the pictures, for messages.
        digests: hexadecimal SHA-256 of each picture's file.
        features: float32 [N, F].
        computed: how many of them the body had to run for.
        contents: the files of these, by digest; empty if they were not asked for.
    """

    names: list[str]
    digests: list[str]
    features: Float
    computed: int
    contents: dict[str, bytes]

    def at(self, places: Sequence[int]) -> Looked:
        """The pictures at these places only."""
        names, digests = ([values[place] for place in places] for values in (self.names, self.digests))
        return replace(self, names=names, digests=digests, features=self.features[list(places)])


def one_or_more(pictures: Picture | Sequence[Picture]) -> Sequence[Picture]:
    """A list also of a single picture. An array is one picture, and not a list of its rows."""
    return pictures if isinstance(pictures, Sequence) and not isinstance(pictures, str) else [pictures]


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


def look_at(
    bundle: Bundle,
    pictures: Sequence[Picture],
    known: Mapping[str, Float],
    reporter: Reporter,
    clock: Clock,
    keep_contents: bool = False,
) -> Looked:
    """Features of pictures, some at a time, so that memory holds few pictures and all features.

    Args:
        pictures: files, open files or arrays.
        known: features that need not be computed again, by digest.
        clock: is told the time of decoding and of the body.
        keep_contents: whether the files of pictures that were not known are wanted.

    Raises:
        UserError: a picture cannot be read or decoded.
    """
    names: list[str] = []
    digests: list[str] = []
    found: dict[str, Float] = {}
    contents: dict[str, bytes] = {}
    at_once = bundle.manifest.input.at_once
    with reporter.stage("looking at pictures", len(pictures)) as advance:
        for first in range(0, len(pictures), at_once):
            new: dict[str, Bytes] = {}
            for picture in pictures[first : first + at_once]:
                content, name = read_picture(picture, len(names))
                digest = sha256_bytes(content)
                names.append(name)
                digests.append(digest)
                if digest not in known and digest not in found and digest not in new:
                    new[digest] = bundle.decode(content, name)
                    if keep_contents:
                        contents[digest] = content
                advance("")
            clock.lap("decode")
            found |= dict(zip(new, bundle.features(list(new.values())), strict=True))
            clock.lap("body")
    rows = [known[digest] if digest in known else found[digest] for digest in digests]
    features = np.array(rows, np.float32).reshape(-1, bundle.manifest.features)
    return Looked(names, digests, features, len(found), contents)


def glance_at(bundle: Bundle, pictures: Sequence[Picture], reporter: Reporter) -> tuple[list[str], Float]:
    """Names and features float32 [N, F] of pictures that are not remembered, so that nothing else is worked out.

    Raises:
        UserError: a picture cannot be read or decoded.
    """
    names: list[str] = []
    features: list[Float] = []
    at_once = bundle.manifest.input.at_once
    with reporter.stage("looking at pictures", len(pictures)) as advance:
        for first in range(0, len(pictures), at_once):
            decoded: list[Bytes] = []
            for picture in pictures[first : first + at_once]:
                content, name = read_picture(picture, len(names))
                names.append(name)
                decoded.append(bundle.decode(content, name))
                advance("")
            features.append(bundle.features(decoded))
    return names, np.concatenate(features) if features else bundle.features([])


def read_picture(picture: Picture, place: int = 0) -> tuple[bytes, str]:
    """A picture's file, and what to call it in messages.

    Raises:
        UserError: it cannot be read, or is an array of another kind.
    """
    if isinstance(picture, str | os.PathLike):
        path = Path(picture)
        try:
            return path.read_bytes(), str(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    name = f"picture {place + 1}"
    if not isinstance(picture, np.ndarray):
        return picture.read(), str(getattr(picture, "name", name))
    fits = picture.ndim == 2 or picture.shape[2:] == (3,)
    if picture.dtype != np.uint8 or not picture.size or not fits:
        raise UserError(f"{name}: must be uint8 of shape [H, W] or [H, W, 3], is {picture.dtype} {list(picture.shape)}")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "BMP")  # loses nothing, and gives equal arrays equal bytes
    return file.getvalue(), name
