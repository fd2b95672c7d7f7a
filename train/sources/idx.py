"""The idx format of the MNIST family, plain or gzipped. The header is believed only as far as the file bears it out."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fbkit.errors import UserError

_UINT8 = 0x08
_MAX_BYTES = 1 << 30  # EMNIST's largest file has 547 million
_MAX_RATIO = 1032  # the most that deflate can expand


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read uint8 values in ``dimensions`` dimensions.

    Raises:
        UserError: not readable, not such a file, or shorter or longer than its header says.
    """
    compressed = path.suffix == ".gz"
    try:
        size = path.stat().st_size
        with gzip.open(path) if compressed else path.open("rb") as opened:
            file = cast(BinaryIO, opened)
            shape = _read_shape(file, path, dimensions)
            count = math.prod(shape)
            most = size * _MAX_RATIO if compressed else size
            if count == 0 or count > min(most, _MAX_BYTES):
                raise UserError(f"{path}: its header says {shape}, which the file cannot hold; get it anew")
            values = np.empty(count, np.uint8)
            if _fill(file, values) < count or file.read(1):
                raise UserError(f"{path}: is not as long as its header says, {shape}; get it anew")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); get it anew") from error
    return values.reshape(shape)


def _read_shape(file: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    header = file.read(4 + 4 * dimensions)
    if header[:4] != bytes([0, 0, _UINT8, dimensions]) or len(header) < 4 + 4 * dimensions:
        raise UserError(f"{path}: not an idx file of bytes in {dimensions} dimensions; get it anew")
    return struct.unpack(f">{dimensions}I", header[4:])


def _fill(file: BinaryIO, values: NDArray[np.uint8]) -> int:
    """Read into ``values`` until it is full or the file ends; return the bytes read."""
    view = values.data
    done = 0
    while done < len(view):
        read = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not read:
            break
        done += read
    return done
