"""Which bundles this machine has found good, so that each is tried once: a file for each in the user's own cache.

A verdict holds for the bundle's exact bytes, the versions of what ran it, and the kind of machine; where any of them
changes, the bundle is tried again. A folder in which somebody else could have put a verdict is not used.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import stat
from contextlib import suppress
from pathlib import Path

import fbkit
from fbkit.errors import UserError
from fbkit.files import read_plain, sha256_bytes, write_atomic

_RUNTIMES = {
    "onnx": ("numpy", "onnxruntime"),
    "executorch": ("numpy", "executorch", "torch", "executorch-numpy-runtime"),
}
_CPU_INFO = Path("/proc/cpuinfo")


def is_known_good(digest: str, target: str) -> bool:
    """Whether the bundle whose ``manifest.json`` has this SHA-256 was found good here before."""
    verdict = _verdict(digest, target)
    try:
        folder = _folder()
        return _is_private(folder) and read_plain(folder / _name(verdict), len(verdict)) == verdict
    except (OSError, RuntimeError, UserError):
        return False


def remember_good(digest: str, target: str) -> None:
    """Remember that it was found good. Where that cannot be written it will be tried again."""
    verdict = _verdict(digest, target)
    with suppress(OSError, RuntimeError):
        folder = _folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if _is_private(folder):
            write_atomic(folder / _name(verdict), verdict, private=True)


def _folder() -> Path:
    """$XDG_CACHE_HOME, if absolute as its specification asks, or ~/.cache; RuntimeError where no home is known."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "fbkit" / "verdicts"


def _is_private(folder: Path) -> bool:
    """Whether only this user can have written into it."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _verdict(digest: str, target: str) -> bytes:
    verdict = {
        "manifest_sha256": digest,
        "fbkit": fbkit.__version__,
        "runtimes": {name: _version(name) for name in _RUNTIMES[target]},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cpu": _cpu()},
    }
    return (json.dumps(verdict, indent=2) + "\n").encode()


def _name(verdict: bytes) -> str:
    return f"{sha256_bytes(verdict)}.json"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str | None:
    """A digest of the processor's model and features: runtimes choose their kernels by them."""
    try:
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return None
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return sha256_bytes("\n".join(sorted(told)).encode())
