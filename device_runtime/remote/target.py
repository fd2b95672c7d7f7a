"""Where a device is: ``ssh://pi@host:22/folder`` or ``adb:SERIAL``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from fbkit.errors import UserError

_FORMS = "ssh://[USER@]HOST[:PORT][/FOLDER] or adb[:SERIAL]"
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:%-]*")  # a dash at the start would be an option to ssh
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\+-]*")
_SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*")


@dataclass(frozen=True)
class SshTarget:
    """folder: absolute on the device; None for fbkit's own in the user's home."""

    host: str
    user: str | None
    port: int | None
    folder: str | None

    def __str__(self) -> str:
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"ssh://{user}{self.host}{port}{quote(self.folder or '')}"


@dataclass(frozen=True)
class AdbTarget:
    """serial: None for the only device that adb knows."""

    serial: str | None

    def __str__(self) -> str:
        return f"adb:{self.serial}" if self.serial else "adb"


def parse_target(text: str) -> SshTarget | AdbTarget:
    """Read what stands behind ``--to``.

    Raises:
        UserError: it is of neither form.
    """
    kind, _, serial = text.partition(":")
    if kind == "adb" and (text == "adb" or _SERIAL.fullmatch(serial)):
        return AdbTarget(serial or None)
    if text.startswith("ssh://") and text.isprintable():
        try:
            parts = urlsplit(text)
            host, user, port = parts.hostname, parts.username, parts.port
        except ValueError:
            host = user = port = None
        plain = not (parts.query or parts.fragment or parts.password) if host else False
        if plain and host and _HOST.fullmatch(host) and (user is None or _USER.fullmatch(unquote(user))):
            folder = unquote(parts.path).rstrip("/")
            return SshTarget(host, unquote(user) if user else None, port, folder or None)
    raise UserError(f"--to {text[:100]}: must be {_FORMS}")
