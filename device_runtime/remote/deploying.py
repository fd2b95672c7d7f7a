"""A bundle and what runs it, onto a device."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from fbkit.device_runtime.bundle import Contents, read_contents
from fbkit.device_runtime.remote.adb import AdbLink
from fbkit.device_runtime.remote.link import Link, last_line, script
from fbkit.device_runtime.remote.shipping import NOTHING, Shipped, digest_of, digests_of, ship_folder
from fbkit.device_runtime.remote.ssh import SshLink
from fbkit.device_runtime.remote.survey import PROCESSORS, DevicePython, Survey, survey_device
from fbkit.device_runtime.remote.target import SshTarget, parse_target
from fbkit.device_runtime.remote.wheels import LEAST_PYTHON, gather_wheels, python_for
from fbkit.errors import UserError

RuntimeChoice = Literal["auto", "python", "native"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Deployed:
    """What a deployment did.

    Attributes:
        device: what it is.
        runtime: what runs the bundle there.
        bundle: its folder there.
        shipped: files and bytes, of runtime and bundle together.
        check: what ``check --json`` said there.
        seconds: by stage.
    """

    device: str
    runtime: str
    bundle: str
    shipped: Shipped
    check: dict[str, Any]
    seconds: dict[str, float]


def open_link(to: str) -> Link:
    """Raises UserError if ``to`` names no device."""
    target = parse_target(to)
    return SshLink(target) if isinstance(target, SshTarget) else AdbLink(target)


def deploy(
    bundle: Path, link: Link, choice: RuntimeChoice, native: Path | None, say: Say, signed_by: Path | None = None
) -> Deployed:
    """Bring a bundle and what runs it onto a device, and check it there.

    Args:
        native: the folder that ``make native`` made for the device, for the native runner.
        signed_by: public key that the bundle must be signed by.

    Raises:
        UserError: the bundle is not whole, nothing runs it there, or the device fails.
    """
    clock, seconds = time.monotonic(), dict[str, float]()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.monotonic()
        seconds[stage], clock = now - clock, now

    contents = read_contents(bundle, signed_by)
    say(f"{link.name}: finding out what the device is")
    survey = survey_device(link)
    say(f"{link.name}: {survey}")
    lap("survey")
    python = choose_python(contents, survey, choice, native)
    if python:
        wheels = gather_wheels(survey, python, contents.manifest.target, say)
        lap("gather")
        runtime, shipped = install_python(link, survey, python, wheels, say)
    else:
        runtime, shipped = install_native(link, survey, native, say)
    lap("runtime")
    place = bundle_place(contents)
    files = {name: bundle / name for name in ("manifest.json", *contents.manifest.files)}
    if (bundle / "signature.json").is_file():
        files["signature.json"] = bundle / "signature.json"
    shipped += ship_folder(link, survey.folder, files, place, survey.free, say)
    lap("bundle")
    program = program_of(survey.folder, runtime)
    note = f"{place}.runtime"
    lines = [f"cd {quote(survey.folder)}", f"printf %s {runtime} >{note}.partial", f"mv {note}.partial {note}"]
    script(link, lines, "note what runs the bundle")
    say(f"{link.name}: checking the bundle there")
    ended = link.run([*program, "check", f"{survey.folder}/{place}", "--json"])
    if ended.code:
        raise UserError(f"{link.name}: {last_line(ended.err) or f'check ended with {ended.code}'}")
    lap("check")
    return Deployed(str(survey), runtime, f"{survey.folder}/{place}", shipped, json.loads(ended.out), seconds)


def bundle_place(contents: Contents) -> str:
    """In fbkit's folder there."""
    return f"bundles/{contents.digest[:16]}"


def program_of(folder: str, runtime: str) -> list[str]:
    """The words that start a runtime."""
    if runtime.startswith("native-"):
        return [f"{folder}/runtimes/{runtime}/fbkit-device"]
    return [f"{folder}/runtimes/{runtime}/bin/python", "-m", "fbkit"]


def choose_python(
    contents: Contents, survey: Survey, choice: RuntimeChoice, native: Path | None
) -> DevicePython | None:
    """The Python that is to run the bundle; None for the native runner.

    Raises:
        UserError: neither can.
    """
    target = contents.manifest.target
    if survey.processor not in PROCESSORS:
        raise UserError(f"the device is {survey}; fbkit runs on 64-bit systems on Arm and x86 processors")
    python = python_for(survey, target)
    if choice == "python" and python is None:
        least = ".".join(map(str, LEAST_PYTHON[target]))
        raise UserError(
            f"the device is {survey}; a bundle for {target} needs 64-bit Linux with glibc and Python {least} there"
        )
    if choice == "native" or (python is None and choice == "auto"):
        why = "" if choice == "native" else f"the device is {survey}, without a Python that fbkit runs on; "
        if target != "executorch":
            raise UserError(f"{why}the native runner takes bundles of --target executorch; export the run for it")
        if native is None:
            raise UserError(f"{why}give --native FOLDER, which make native, make native-arm64 or docs/android.md makes")
        return None
    return python


def install_python(
    link: Link, survey: Survey, python: DevicePython, wheels: list[Path], say: Say
) -> tuple[str, Shipped]:
    """A virtual environment of fbkit's own there; the system's Python is left as it is."""
    files = {wheel.name: wheel for wheel in wheels}
    digest = digest_of(digests_of(files))[:16]
    runtime, root = f"python-{digest}", quote(survey.folder)
    there = script(link, [f"[ ! -e {root}/runtimes/{runtime} ] || echo yes"], "look at what is there")
    if there.strip() == "yes":
        return runtime, NOTHING
    shipped = ship_folder(link, survey.folder, files, f"wheels/{digest}", survey.free, say)
    say(f"{link.name}: installing {len(wheels)} packages")
    (pip,) = (name for name in files if name.startswith("pip-"))
    packages = " ".join(f"./{quote(name)}" for name in files if name != pip)
    partial = f"{root}/runtimes/{runtime}.partial"
    install = (
        f"{partial}/bin/python ./{quote(pip)}/pip install --quiet --no-index --no-deps --no-compile --no-cache-dir"
    )
    lines = [
        f"mkdir -p {root}/runtimes && rm -rf {partial}",
        f"undo() {{ rm -rf {partial}; }}",  # where the disk is full, nothing stays
        "trap undo EXIT",
        f"{quote(python.program)} -m venv --without-pip {partial}",
        f"cd {root}/wheels/{digest}",
        f"{install} --disable-pip-version-check {packages} >&2",
        f"mv {partial} {root}/runtimes/{runtime}",
        f"rm -rf {root}/wheels/{digest}",
    ]
    script(link, lines, "install fbkit")
    return runtime, shipped


def install_native(link: Link, survey: Survey, native: Path | None, say: Say) -> tuple[str, Shipped]:
    """The native runner's folder, which must be for the device's processor."""
    assert native is not None  # noqa: S101  choose_python looked
    program = native / "fbkit-device"
    if not program.is_file():
        raise UserError(f"{native}: holds no fbkit-device; give the folder that make native made")
    _check_machine(program, survey)
    files = {str(path.relative_to(native)): path for path in sorted(native.rglob("*")) if path.is_file()}
    runtime = f"native-{digest_of(digests_of(files))[:16]}"
    return runtime, ship_folder(link, survey.folder, files, f"runtimes/{runtime}", survey.free, say)


_MACHINES = {62: "x86_64", 183: "aarch64"}  # in an ELF file's header


def _check_machine(program: Path, survey: Survey) -> None:
    with program.open("rb") as file:
        header = file.read(20)
    machine = _MACHINES.get(int.from_bytes(header[18:20], "little")) if header[:4] == b"\x7fELF" else None
    if machine != survey.processor:
        raise UserError(f"{program}: is a program for {machine or 'something else'}, the device is {survey}")
