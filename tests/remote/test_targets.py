"""What stands behind ``--to``, and what a device is taken for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from fbkit.device_runtime.bundle import read_contents
from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.remote.deploying import choose_python
from fbkit.device_runtime.remote.link import Ended
from fbkit.device_runtime.remote.survey import Survey, survey_device
from fbkit.device_runtime.remote.target import AdbTarget, SshTarget, parse_target
from fbkit.errors import UserError
from tests.conftest import Outcome


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://pi@raspberrypi.local", SshTarget("raspberrypi.local", "pi", None, None)),
        ("ssh://10.0.0.7:2222/home/pi/a%20b/", SshTarget("10.0.0.7", None, 2222, "/home/pi/a b")),
        ("ssh://[fe80::1]:22", SshTarget("fe80::1", None, 22, None)),
        ("adb", AdbTarget(None)),
        ("adb:emulator-5554", AdbTarget("emulator-5554")),
        ("adb:127.0.0.1:6555", AdbTarget("127.0.0.1:6555")),
    ],
)
def test_targets_are_read(text: str, expected: SshTarget | AdbTarget) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "pi@host", "ssh://", "ssh:///x", "http://host", "adb:", "adb: x", "adb:-x", "ssh://pi:secret@host"),
        *(
            "ssh://-oProxyCommand=touch%20x",
            "ssh://host:99999",
            "ssh://host/x?y",
            "ssh://a b",
            "ssh://-l@host",
            "ssh://h\n",
        ),
    ],
)
def test_what_is_no_target_is_refused(text: str, fbkit: Callable[..., Outcome]) -> None:
    with pytest.raises(UserError, match=r"--to .*: must be ssh://"):
        parse_target(text)
    outcome = fbkit("deploy", FOLDER / "bundle", f"--to={text}")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1


class Here:
    """A link to this machine, on which programs come from a folder of the test's first."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.name, self.folder, self._programs = "here", str(folder), programs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, command: list[str], given: bytes = b"", speaks: bool = False) -> Ended:  # noqa: ARG002
        path = {"PATH": f"{self._programs}:/usr/bin:/bin"}
        ended = subprocess.run(command, input=given, capture_output=True, check=False, env=path)
        return Ended(ended.returncode, ended.stdout, ended.stderr.decode())

    def stream(self, command: list[str]) -> int:
        return self.run(command).code

    def send(self, path: Path, place: str, held: int) -> int:  # noqa: ARG002
        raise AssertionError


@pytest.fixture
def surveyed(tmp_path: Path) -> Callable[..., Survey]:
    """The survey of a machine whose programs say what is given."""

    def survey(**said: str) -> Survey:
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        for python in ("python3", *(f"python3.{minor}" for minor in range(11, 16))):
            said.setdefault(python, "exit 1")
        for name, script in said.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        return survey_device(Here(programs, tmp_path / 'a place\'s "$(touch pwned)"'))

    return survey


def uname(machine: str) -> str:
    return f'[ "$1" = -m ] && echo {machine} || echo Linux'


PYTHON = "echo 3.13 64 2.41 /usr/bin/python3"
ONNX = read_contents(FOLDER / "bundle")
PTE = replace(ONNX, manifest=replace(ONNX.manifest, target="executorch"))


def test_a_pi_with_a_64_bit_system_runs_python(surveyed: Callable[..., Survey], tmp_path: Path) -> None:
    survey = surveyed(uname=uname("aarch64"), getconf="echo 64", python3=PYTHON)
    assert str(survey).startswith("Linux aarch64, Python 3.13, ")
    assert survey.free > 0
    assert Path(survey.folder).is_dir()
    assert not (tmp_path / "pwned").exists()
    for contents in (ONNX, PTE):
        python = choose_python(contents, survey, "auto", None)
        assert python
        assert (python.version, python.glibc) == ((3, 13), (2, 41))


def test_a_python_too_old_for_pte_files_leaves_them_to_the_native_runner(
    surveyed: Callable[..., Survey], tmp_path: Path
) -> None:
    survey = surveyed(uname=uname("aarch64"), getconf="echo 64", python3="echo 3.11 64 2.36 /usr/bin/python3")
    assert choose_python(ONNX, survey, "auto", None)
    assert choose_python(PTE, survey, "auto", tmp_path) is None
    with pytest.raises(UserError, match="give --native FOLDER"):
        choose_python(PTE, survey, "auto", None)
    with pytest.raises(UserError, match=r"needs 64-bit Linux with glibc and Python 3\.12 there"):
        choose_python(PTE, survey, "python", None)


@pytest.mark.parametrize(
    "said",
    [
        {"uname": uname("aarch64"), "getconf": "echo 64"},
        {"uname": uname("aarch64"), "getconf": "echo 64", "python3": "echo 3.13 64 none /usr/bin/python3"},
        {"uname": uname("aarch64"), "getconf": "echo 64", "getprop": "echo arm64-v8a", "python3": PYTHON},
    ],
    ids=["no Python", "musl", "Android"],
)
def test_devices_without_wheels_get_the_native_runner(
    said: dict[str, str], surveyed: Callable[..., Survey], tmp_path: Path
) -> None:
    survey = surveyed(**said)
    with pytest.raises(UserError, match="export the run for it"):
        choose_python(ONNX, survey, "auto", tmp_path)
    assert choose_python(PTE, survey, "auto", tmp_path) is None


@pytest.mark.parametrize(
    "said",
    [
        {"uname": uname("armv7l"), "getconf": "echo 32", "python3": "echo 3.13 32 2.41 /usr/bin/python3"},
        {"uname": uname("aarch64"), "getconf": "echo 32", "python3": "echo 3.13 32 2.41 /usr/bin/python3"},
        {"uname": uname("riscv64"), "getconf": "echo 64", "python3": PYTHON},
    ],
    ids=["32-bit board", "32-bit system", "another processor"],
)
def test_devices_that_nothing_of_fbkit_runs_on_are_refused(
    said: dict[str, str], surveyed: Callable[..., Survey], tmp_path: Path
) -> None:
    survey = surveyed(**said)
    for contents in (ONNX, PTE):
        with pytest.raises(UserError, match=r"the device is Linux .*; fbkit runs on 64-bit systems"):
            choose_python(contents, survey, "auto", tmp_path)


def test_a_device_without_a_shells_usual_tools_is_refused(tmp_path: Path) -> None:
    class Bare(Here):
        def run(self, command: list[str], given: bytes = b"", speaks: bool = False) -> Ended:  # noqa: ARG002
            ended = subprocess.run(command, input=given, capture_output=True, check=False, env={"PATH": "/nowhere"})
            return Ended(ended.returncode, ended.stdout, ended.stderr.decode())

    with pytest.raises((UserError, FileNotFoundError)):
        survey_device(Bare(tmp_path, tmp_path / "folder"))
