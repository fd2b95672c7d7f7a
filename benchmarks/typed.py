"""JSON from disk as the dataclass it was written from, or a line that names the key that is wrong."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from fbkit.errors import UserError

T = TypeVar("T")
_MOST_TEXT = 10_000


def read_as(kind: type[T], value: Any, origin: str) -> T:
    """Check a JSON value against a type, and make it of that type.

    Args:
        kind: a dataclass, str, bool, int, float, None, a union of these, ``tuple[kind, ...]`` or ``dict[str, kind]``.
        value: of any type and content. Keys that the dataclass does not have are passed over.
        origin: for messages.

    Raises:
        UserError: it is not of that type.
    """
    made: T = _read(kind, value, origin)
    return made


def _read(kind: Any, value: Any, origin: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return _read_union(get_args(kind), value, origin)
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        return tuple(_read(of, each, f"{origin}[{place}]") for place, each in enumerate(_of(list, value, origin)))
    if get_origin(kind) is dict:
        of = get_args(kind)[1]
        return {key: _read(of, each, f"{origin}.{key[:50]}") for key, each in _of(dict, value, origin).items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, _of(dict, value, origin), origin)
    if kind is float:
        return float(_of(int, value, origin) if isinstance(value, int) else _of(float, value, origin))
    made = _of(kind, value, origin)
    if isinstance(made, str) and not (made.isprintable() and len(made) <= _MOST_TEXT):
        raise UserError(f"{origin}: must be printable text")
    return made


def _read_union(kinds: tuple[Any, ...], value: Any, origin: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))
    return _read(kind, value, origin)


def _read_dataclass(kind: Any, values: dict[str, Any], origin: str) -> Any:
    hints = get_type_hints(kind)
    made = {}
    for field in dataclasses.fields(kind):
        if field.name not in values:
            raise UserError(f"{origin}: {field.name} is missing")
        made[field.name] = _read(hints[field.name], values[field.name], f"{origin}: {field.name}")
    return kind(**made)


_IN_WORDS = {list: "a list", dict: "an object", str: "text", bool: "true or false", int: "a whole number"}


def _of(kind: type, value: Any, origin: str) -> Any:
    if type(value) is not kind:
        raise UserError(f"{origin}: must be {_IN_WORDS.get(kind, 'a number')}")
    return value
