"""safetensors read and written with numpy, checked before use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from fbkit.errors import UserError

Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def pack_tensors(tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)


def read_metadata(data: bytes, origin: str) -> dict[str, str]:
    """The text metadata of a safetensors file.

    Raises:
        UserError: it has no readable header.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{origin}: not a whole safetensors file ({error})") from error


def first_float(outputs: Sequence[npt.NDArray[Any]], shape: tuple[int, ...], origin: str) -> Float:
    """The first of a graph's outputs, if it is float32 of the given shape.

    Raises:
        UserError: it is something else, or there is none.
    """
    found = [f"{output.dtype} {list(output.shape)}" for output in outputs[:1]] or ["nothing"]
    expected = f"float32 {list(shape)}"
    if found != [expected]:
        raise UserError(f"{origin} gives {found[0]}, the manifest says {expected}")
    return outputs[0]


def unpack_tensors(data: bytes, shapes: Mapping[str, tuple[str, tuple[int, ...]]], origin: str) -> dict[str, Any]:
    """Unpack exactly the tensors that ``shapes`` names, each of the given dtype and shape (-1: any size).

    Raises:
        UserError: not safetensors, other tensors, or values that are not finite.
    """
    try:
        tensors = load(data)
    except Exception as error:  # a dtype or a size that numpy does not have fails in ways of its own
        raise UserError(f"{origin}: not a whole safetensors file ({error})") from error
    if tensors.keys() != shapes.keys():
        found = [name[:40] for name in sorted(tensors)[:8]]
        raise UserError(f"{origin}: holds {found}, expected {sorted(shapes)}")
    for name, (dtype, shape) in shapes.items():
        array = tensors[name]
        fits = len(array.shape) == len(shape) and all(
            wanted in (-1, size) for size, wanted in zip(array.shape, shape, strict=True)
        )
        if array.dtype != np.dtype(dtype) or not fits:
            raise UserError(f"{origin}: {name} is {array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{origin}: {name} holds values that are not finite")
    return tensors
