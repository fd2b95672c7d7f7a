"""What a device is: system, processor, Python, room."""

from __future__ import annotations

import re
from dataclasses import dataclass
from shlex import quote

from fbkit.device_runtime.remote.link import Link, script

PROCESSORS = ("aarch64", "x86_64")

_SCRIPT = r"""
folder=$1
say() { printf '%s=%s\n' "$1" "$2"; }
[ -n "$folder" ] || folder=$HOME/.local/share/fbkit
say folder "$folder"
say system "$(uname -s)"
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null || true)"
say android "$(getprop ro.product.cpu.abi 2>/dev/null || true)"
command -v sha256sum >/dev/null || { echo "it has no sha256sum" >&2; exit 1; }
mkdir -p "$folder"
chmod 700 "$folder"
say df "$(df -Pk "$folder" | tail -n 1)"
ask='import os, struct, sys
glibc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
print("%d.%d" % sys.version_info[:2], 8 * struct.calcsize("P"), (glibc or "none").split()[-1], sys.executable)'
for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do
  command -v "$python" >/dev/null 2>&1 || continue
  say python "$("$python" -c "$ask" 2>/dev/null || true)"
done
"""


@dataclass(frozen=True)
class DevicePython:
    """version: such as (3, 13); bits: 32 or 64; glibc: (2, 36), None where the C library is another."""

    version: tuple[int, int]
    bits: int
    glibc: tuple[int, int] | None
    program: str

    @property
    def words(self) -> str:
        """Such as 3.13."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        folder: where fbkit keeps its files there; absolute.
        system, machine: as uname has them: Linux, aarch64.
        bits: of programs there, 32 or 64: a 64-bit kernel may carry a 32-bit system.
        android: the ABI, None where it is not Android.
        free: bytes.
        pythons: one of each version, newest last.
    """

    folder: str
    system: str
    machine: str
    bits: int
    android: str | None
    free: int
    pythons: tuple[DevicePython, ...]

    @property
    def processor(self) -> str:
        """x86_64, aarch64, or what it is called with the bits of its programs."""
        name = {"arm64": "aarch64", "amd64": "x86_64"}.get(self.machine, self.machine)
        return name if self.bits == 64 else f"{name}, 32-bit"

    def __str__(self) -> str:
        pythons = ", ".join(python.words for python in self.pythons)
        system = f"Android {self.android}" if self.android else f"{self.system} {self.processor}"
        return f"{system}, Python {pythons or 'missing'}, {self.free // 10**6} MB free"


def survey_device(link: Link) -> Survey:
    """Ask a device what it is.

    Raises:
        UserError: it has no POSIX shell with the usual tools, or fbkit's folder cannot be made.
    """
    arguments = f"set -- {quote(link.folder or '')}"
    found = script(link, [arguments, _SCRIPT], "find out what the device is")
    values: dict[str, str] = {}
    pythons: dict[tuple[int, int], DevicePython] = {}
    for line in found.splitlines():
        key, _, value = line.partition("=")
        if key == "python" and (match := re.fullmatch(r"(\d+)\.(\d+) (\d+) (?:(\d+)\.(\d+)|\S+) (/.*)", value)):
            version = int(match[1]), int(match[2])
            glibc = (int(match[4]), int(match[5])) if match[4] else None
            pythons.setdefault(version, DevicePython(version, int(match[3]), glibc, match[6]))
        values[key] = value
    room = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%", values.get("df", ""))
    wide = values["machine"] in ("aarch64", "arm64", "x86_64", "amd64")
    return Survey(
        folder=values["folder"],
        system=values["system"],
        machine=values["machine"],
        bits=int(values["bits"]) if values.get("bits", "").isdigit() else 64 if wide else 32,
        android=values.get("android") or None,
        free=1024 * int(room[1]) if room else 0,
        pythons=tuple(sorted(pythons.values(), key=lambda python: python.version)),
    )
