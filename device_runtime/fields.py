"""A JSON object read from disk, checked field by field, with messages that name file and key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fbkit.errors import UserError

_LARGEST = 1e30


class Fields:
    """One JSON object read from disk, with its place for messages."""

    def __init__(self, path: Path, place: str, values: dict[str, Any]) -> None:
        self._path, self._place, self.values = path, place, values

    def error(self, key: str, what: str) -> UserError:
        return UserError(f"{self._path}: {self._place}{key} {what}")

    def value(self, key: str) -> Any:
        if key not in self.values:
            raise self.error(key, "is missing")
        return self.values[key]

    def section(self, key: str) -> Fields:
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.error(key, "must be an object")
        return Fields(self._path, f"{self._place}{key}.", value)

    def item(self, key: str, place: int, value: dict[str, Any]) -> Fields:
        """An object in the list that stands under ``key``."""
        return Fields(self._path, f"{self._place}{key}[{place}].", value)

    def text(self, key: str) -> str:
        value = self.value(key)
        if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= 1000:
            raise self.error(key, "must be a printable text")
        return value

    def choice(self, key: str, known: Sequence[str]) -> str:
        value = self.text(key)
        if value not in known:
            raise self.error(key, f"is {value!r}; known: {', '.join(known)}")
        return value

    def flag(self, key: str) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        return self._integer(key, self.value(key), least, most)

    def integers(self, key: str, least: int, most: int) -> list[int]:
        values = self.value(key)
        if not isinstance(values, list) or len(values) > 100:
            raise self.error(key, "must be a list of whole numbers")
        return [self._integer(key, value, least, most) for value in values]

    def _integer(self, key: str, value: Any, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, f"must be a whole number from {least} to {most}")
        return value

    def number(self, key: str, above: float = -math.inf) -> float:
        return self._number(key, self.value(key), above)

    def numbers(self, key: str, count: int, above: float = -math.inf) -> tuple[float, ...]:
        values = self.value(key)
        if not isinstance(values, list) or len(values) != count:
            raise self.error(key, f"must be a list of {count} numbers")
        return tuple(self._number(key, value, above) for value in values)

    def _number(self, key: str, value: Any, above: float) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= _LARGEST
            or value <= above
        ):
            raise self.error(key, "must be a finite number" + (f" above {above:g}" if above > -math.inf else ""))
        return float(value)
