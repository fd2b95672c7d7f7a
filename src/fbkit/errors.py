"""The one exception that people see: bad input, said in a line.

It lives beside the four parts because they may not import each other and all of them need it.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class UserError(Exception):
    """Input that cannot be used. The message is one line: what is wrong, where, and what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class Interrupted(Exception):
    """The user stopped long work, and what was done is kept. The message says how to go on."""


def printable(text: str) -> str:
    """Text, such as a file's name, without what a screen or an XML file cannot show or would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def describe(error: BaseException) -> str:
    """An error in a line: its kind and the first line of its message."""
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, or say which extra of fbkit brings it.

    Raises:
        UserError: the module, or something it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"this needs the package {error.name!r}, which the extra {extra!r} brings: pip install 'fbkit[{extra}]'"
        ) from error
