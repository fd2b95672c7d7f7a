"""No byte leaves the device: with no network at all, with every attempt watched, and with telemetry held off."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import FBKIT
from tests.device_runtime.conftest import BUNDLE, PICTURES, some
from tests.device_runtime.studio_server import Studio

# As a shell would run the commands one after another, but Python starts once.
STORY = """
import json, sys
from fbkit.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["fbkit", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
"""
# Attempts that each have to be found: a name look-up, a connection, a packet.
TALKATIVE = """
import socket
for attempt in (
    lambda: socket.getaddrinfo("fbkit.invalid", 443),
    lambda: socket.create_connection(("192.0.2.1", 443), 1),
    lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("2001:db8::1", 53)),
):
    try:
        attempt()
    except OSError:
        pass
"""
ISOLATED = ("unshare", "--map-root-user", "--net")
STRACE = ("strace", "--follow-forks", "--quiet=all", "--trace=network,?open,openat", "--string-limit=200")


def works(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


needs_namespaces = pytest.mark.skipif(
    not works(*ISOLATED, "true"), reason="unshare is missing, or may make no network namespace here"
)
needs_strace = pytest.mark.skipif(
    not works("strace", "--output=/dev/null", "true"), reason="strace is missing, or may trace nothing here"
)


def story(folder: Path) -> str:
    profile, test = folder / "profile", PICTURES / "test"
    commands: list[list[object]] = [
        ["check", BUNDLE],
        ["personalize", BUNDLE, PICTURES / "train", "--profile", profile],
        ["personalize", BUNDLE, PICTURES / "train", "--profile", profile, "--solver", "sgd", "--step", "graph"],
        ["predict", BUNDLE, *some("sneaker", 2, "test"), "--profile", profile],
        ["evaluate", BUNDLE, test, "--profile", profile],
        ["profile", "remove", BUNDLE, profile, "--class", "sneaker"],
        ["profile", "show", BUNDLE, profile],
    ]
    return json.dumps([list(map(str, command)) for command in commands])


def run(home: Path, *command: object) -> str:
    """In an environment that holds neither an opt-out of telemetry nor a sign of a CI, which would be one, too."""
    passed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
    environment = {**passed, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    result = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def left_in(home: Path) -> set[str]:
    return {str(path.relative_to(home).parent) for path in home.rglob("*") if path.is_file()}


def attempts(trace: Path) -> list[str]:
    """Lines of strace's that try to reach something outside this machine, or to look a name up."""
    found = []
    for line in trace.read_text().splitlines():
        addresses = re.findall(r'inet_addr\("([^"]*)"\)|inet_pton\(AF_INET6, "([^"]*)"', line)
        outside = any(not address.startswith("127.") and address != "::1" for address in map("".join, addresses))
        if outside or re.search(r'/nscd/|"/etc/(resolv\.conf|hosts)"', line):
            found.append(line)
    return found


@needs_namespaces
def test_the_whole_story_needs_no_network(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    said = run(home, *ISOLATED, sys.executable, "-c", STORY, story(tmp_path))
    assert "10 pictures are forgotten, 10 are left" in said
    assert left_in(home) == {".cache/fbkit/verdicts"}, "something else was left in the home folder"


@needs_strace
def test_nothing_tries_to_reach_the_network(tmp_path: Path) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    run(home, *STRACE, f"--output={trace}", sys.executable, "-c", STORY, story(tmp_path))
    assert str(tmp_path / "profile" / "profile.json") in trace.read_text(), "strace sees what the commands do"
    assert "body.onnx" in trace.read_text()
    assert not attempts(trace)
    assert left_in(home) == {".cache/fbkit/verdicts"}, "something else was left in the home folder"


@contextmanager
def traced(trace: Path, *command: object) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until it is ended; strace itself would not pass the signal on."""
    arguments = [*STRACE, f"--output={trace}", FBKIT, *command]
    with subprocess.Popen(
        list(map(str, arguments)), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0


@needs_strace
def test_neither_studio_nor_watch_tries_to_reach_the_network(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with traced(trace, "studio", BUNDLE, "--profile", tmp_path / "profile") as process:
        assert process.stdout
        studio = Studio(process, process.stdout.readline().removeprefix("open ").strip(), tmp_path / "profile")
        for path in some("sneaker", 2):
            assert studio.ask("POST", "/api/pictures?class=sneaker", path.read_bytes()).status == 201
        assert studio.post("/api/fit").status == 202
        assert studio.ask("POST", "/api/predict", path.read_bytes()).status == 200
    assert "profile.json" in trace.read_text()
    assert f"htons({studio.port})" in trace.read_text(), "strace sees what it does"
    assert not attempts(trace)

    with traced(trace, "watch", BUNDLE, PICTURES / "test", "--profile", tmp_path / "other", "--settle", 0) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("watching")
        assert "new pictures" in process.stdout.readline()
    assert not attempts(trace)


@needs_strace
@needs_namespaces
def test_attempts_to_reach_the_network_would_be_found(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    run(tmp_path, *ISOLATED, *STRACE, f"--output={trace}", sys.executable, "-c", TALKATIVE)
    found = "\n".join(attempts(trace))
    for sign in ("resolv.conf", "192.0.2.1", "2001:db8::1"):
        assert sign in found


def test_onnxruntime_imported_after_fbkit_has_no_telemetry(tmp_path: Path) -> None:
    """Also where nothing of fbkit was used yet."""
    run(tmp_path, sys.executable, "-c", "import fbkit.device_runtime, onnxruntime")
    assert left_in(tmp_path) == set()


def test_telemetry_is_switched_off_by_its_api_where_onnxruntime_was_imported_first(tmp_path: Path) -> None:
    """What onnxruntime noted while it was imported no API takes back."""
    watched = """
import onnxruntime
called = []
switch, session = onnxruntime.disable_telemetry_events, onnxruntime.InferenceSession
onnxruntime.disable_telemetry_events = lambda: called.append("switched off") or switch()
onnxruntime.InferenceSession = lambda *given, **more: called.append("session") or session(*given, **more)
"""
    program = watched + STORY + "print(*called, sep=', ')"
    said = run(tmp_path, sys.executable, "-c", program, json.dumps([["check", str(BUNDLE)]]))
    assert said.splitlines()[-1].startswith("switched off, session")
