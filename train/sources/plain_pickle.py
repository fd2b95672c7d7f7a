"""CIFAR's Python files: pickles, read without the power to run anything.

They were written by Python 2, protocol 2, and hold a dict of strings, ints, lists and one numpy array of bytes. This
reads exactly that: the pickle's instructions are followed by a small machine that knows values and numpy's way of
writing an array, and that never imports or calls what a pickle names.
"""

from __future__ import annotations

import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbkit.errors import UserError

_MAX_BYTES = 1 << 29  # CIFAR-100's training file has 155 million
_MAX_INSTRUCTIONS = 2_000_000  # it has a few for each of 50,000 pictures
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
_MARK = object()


class _Named:
    """A name that stands for itself. ``array`` and ``dtype`` are what numpy's names make, still to be filled."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: NDArray[np.uint8] | None = None


_GLOBALS = {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """The dict in a file: strings as str (latin-1), arrays as uint8.

    Raises:
        UserError: not readable, not such a pickle, or one that holds anything else.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: larger than {_MAX_BYTES} bytes; this is not a file of CIFAR")
        result = _run(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not one of CIFAR's Python files ({error}); get it anew") from error
    if not isinstance(result, dict):
        raise UserError(f"{path}: not one of CIFAR's Python files (no dict in it); get it anew")
    return {str(key): value.value if isinstance(value, _Named) else value for key, value in result.items()}


def _run(data: bytes) -> Any:
    """Follow the instructions; raise one of the errors named above for whatever CIFAR's files do not use."""
    stack: list[Any] = []
    argument: Any
    memo: dict[int, Any] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if count > _MAX_INSTRUCTIONS:
            raise ValueError("it has too many parts")
        if name in _VALUES:
            stack.append(argument)
        elif name in _PUTS:
            memo[argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack.append(tuple(_popped(stack, _TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name in ("APPEND", "APPENDS"):
            items = _popped(stack, 1) if name == "APPEND" else _since_mark(stack)
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _popped(stack, 2) if name == "SETITEM" else _since_mark(stack)
            target = _expect(stack[-1], dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_expect(key, str)] = value
        elif name == "GLOBAL":
            if argument not in _GLOBALS:
                raise ValueError(f"it names {argument[:80]!r}")
            stack.append(_Named(argument))
        elif name == "REDUCE":
            function, arguments = _popped(stack, 2)
            stack.append(_made(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _fill(_expect(stack[-1], _Named), state)
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise ValueError(f"it uses the instruction {name}")
    raise ValueError("it ends too early")


def _made(function: Any, arguments: Any) -> _Named:
    """What numpy's functions would make: an empty array, or a dtype, which must be that of bytes."""
    name = _expect(function, _Named).name
    if name == "numpy.core.multiarray _reconstruct" and _expect(arguments[0], _Named).name == "numpy ndarray":
        return _Named("array")
    if name == "numpy dtype" and arguments[0] == "u1":
        return _Named("dtype")
    raise ValueError("it holds something other than an array of bytes")


def _fill(target: _Named, state: Any) -> None:
    """numpy's ``__setstate__``: a dtype's says nothing about bytes; an array's is shape, dtype, order, values."""
    if target.name == "dtype":
        return
    if target.name != "array":
        raise ValueError("it fills something other than an array")
    _, shape, dtype, by_columns, values = state
    if _expect(dtype, _Named).name != "dtype":
        raise ValueError("its array is not one of bytes")
    raw = _expect(values, str).encode("latin-1")
    # Sides are ints of any length: bounded before they are multiplied, and never printed.
    if len(_expect(shape, tuple)) > 2 or not all(type(side) is int and 0 <= side <= len(raw) for side in shape):
        raise ValueError("its array is not a table of bytes")
    if len(raw) != math.prod(shape):
        raise ValueError(f"its array's shape does not fit its {len(raw)} values")
    target.value = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if by_columns else "C")


def _popped(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("it takes what is not there")
    items = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return items


def _since_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _expect(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"it has a {type(value).__name__} where a {kind.__name__} belongs")
    return value
