"""fbkit and its few needs as wheels for a device's Python, gathered here because a device may have no network."""

from __future__ import annotations

import csv
import email
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import fbkit
from fbkit.device_runtime.remote.survey import PROCESSORS, DevicePython, Survey
from fbkit.errors import UserError
from fbkit.files import locked, sha256_bytes, whole_folder

LEAST_PYTHON = {"onnx": (3, 11), "executorch": (3, 12)}

_EXTRAS = {"onnx": "", "executorch": "pte"}
_OLDEST_GLIBC = 17  # 2.17, of the tags that wheels carry
_TIME = (1980, 1, 1, 0, 0, 0)


def python_for(survey: Survey, target: str) -> DevicePython | None:
    """The device's Python that wheels for a target can be had for; the oldest that will do, as most wheels are made."""
    if survey.system != "Linux" or survey.android:
        return None
    fits = [p for p in survey.pythons if p.bits == 64 and p.glibc and p.version >= LEAST_PYTHON[target]]
    return fits[0] if fits and survey.processor in PROCESSORS else None


def gather_wheels(survey: Survey, python: DevicePython, target: str, say: Callable[[str], None]) -> list[Path]:
    """Wheels of fbkit, all that it needs there, and pip; downloaded once and kept in the user's cache.

    Raises:
        UserError: there is none for this device, or they cannot be downloaded.
    """
    own = _own_wheel()
    needs = [*_requirements(own, _EXTRAS[target]), "pip"]
    version = python.words
    key = json.dumps([needs, version, survey.processor, python.glibc])
    folder = _cache() / f"{version}-{survey.processor}-{sha256_bytes(key.encode())[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        say(f"downloading wheels for Python {version} on {survey.processor}")
        with whole_folder(folder) as partial:
            _download(needs, python, survey.processor, partial)
    return [*sorted(folder.glob("*.whl")), own]


def _requirements(wheel: Path, extra: str) -> list[str]:
    """A wheel's needs, without markers: pip would judge these by this machine's Python."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(file.read(name))
    wanted = []
    for requirement in metadata.get_all("Requires-Dist", []):
        what, _, marker = requirement.partition(";")
        of = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
        if of is None or of[1] == extra:
            wanted.append(what.strip())
    return wanted


def _download(needs: list[str], python: DevicePython, processor: str, folder: Path) -> None:
    newest = python.glibc[1] if python.glibc else 0
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(_OLDEST_GLIBC, newest + 1)]
    platforms = [word for tag in [*tags, f"manylinux2014_{processor}"] for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python.words, *platforms, "--dest", str(folder), *needs]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ended.stderr.splitlines()
        what = f"wheels for Python {python.words} on {processor}"
        raise UserError(f"{what}: cannot be downloaded ({(errors or ['?'])[0]})")


def _own_wheel() -> Path:
    """This fbkit's wheel: built where it is a checkout, else put together from what is installed.

    Raises:
        UserError: it cannot be built.
    """
    root = Path(fbkit.__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        return _rebuilt_wheel(importlib.metadata.distribution("fbkit"))
    folder = _cache() / "own"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lock").touch()
    with locked(folder / "lock", "deployment"):
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation"] if find_spec("setuptools") else []  # else pip fetches it
        command += ["--wheel-dir", str(folder), str(root)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # the same bytes each time, to be sent once
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise UserError(f"{root}: no wheel can be built of this checkout ({ended.stderr.strip().splitlines()[-1:]})")
    return folder / f"fbkit-{fbkit.__version__}-py3-none-any.whl"


def _rebuilt_wheel(distribution: importlib.metadata.Distribution) -> Path:
    """A wheel of the files that pip installed, as its record lists them."""
    record = distribution.read_text("RECORD")
    if record is None:
        raise UserError("fbkit was installed without a record of its files; install it with pip")
    path = _cache() / "own" / f"fbkit-{distribution.version}-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    made_by_pip = ("INSTALLER", "REQUESTED", "direct_url.json")
    rows = [row for row in csv.reader(record.splitlines()) if row and not row[0].startswith("..")]
    rows = [row for row in rows if "__pycache__" not in row[0] and not row[0].endswith(made_by_pip)]
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, *_ in rows:
            content = Path(str(distribution.locate_file(name))).read_bytes()
            if name.endswith(".dist-info/RECORD"):
                content = "".join(f"{','.join(row)}\n" for row in rows).encode()
            wheel.writestr(zipfile.ZipInfo(name, _TIME), content)
    partial.replace(path)
    return path


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "fbkit" / "wheels"
