"""Devices to deploy to: this machine behind a real sshd, and an emulated Arm device behind a real adbd."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import FBKIT
from tests.native.conftest import build

HERE = Path(__file__).parent
ADBD = HERE / "adbd.sh"
ARM = HERE.parents[1] / ".cache" / "adb"
UNFETCHABLE = 75  # the scripts' exit code where the network or the registries are to blame


@dataclass(frozen=True)
class Sshd:
    """A server for this machine's user on loopback; ``folder`` has its keys and a program ``ssh`` that knows them."""

    folder: Path
    port: int
    process: int
    identity: str = "user"

    def target(self, place: Path) -> str:
        return f"ssh://127.0.0.1:{self.port}{place}"

    def fbkit(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of fbkit's for which ``ssh`` is the one in ``folder``."""
        return subprocess.run(
            [FBKIT, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(environment),
        )

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "IDENTITY": str(self.folder / self.identity), **(more or {})}

    def with_a_strangers_key(self) -> Sshd:
        return replace(self, identity="stranger")


# As a user has it in ~/.ssh; and a line that breaks after so many bytes of what is sent.
SSH = """#!/bin/sh
ssh() {{ {program} -F none -o IdentityFile="$IDENTITY" -o IdentitiesOnly=yes -o UserKnownHostsFile={known} \\
  -o StrictHostKeyChecking=yes "$@"; }}
case "$*" in
  *"cat >"*) [ -z "$BREAK_AFTER" ] || {{ head -c "$BREAK_AFTER" | ssh "$@"; echo "Connection closed" >&2; exit 255; }};;
esac
ssh "$@"
"""


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server, client = host_program("sshd", "openssh-server"), host_program("ssh", "openssh-client")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutil.copy(folder / "user.pub", folder / "authorized")
    kind, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH.format(program=client, known=folder / "known"))
    program.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen([server, "-D", "-f", folder / "config"], stderr=subprocess.PIPE) as process:
        for _ in range(100):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.05)
        yield Sshd(folder, port, process.pid)
        process.kill()


def host_program(name: str, package: str) -> str:
    """A program of this machine, installed where root can do that."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *command], capture_output=True, check=False)
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        pytest.skip(f"{package} is not installed and cannot be")
    return found


@pytest.fixture(scope="session")
def native_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native runner for this machine, as the tests of it build it."""
    return build(tmp_path_factory, platform.machine(), "-DFBKIT_SANITIZE=ON")


@dataclass(frozen=True)
class AdbDevice:
    """An emulated device; see adbd.sh. ``runs`` counts what was left there: each run of adbd finds it again."""

    folder: Path

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script of this machine, for which ``adb:$SERIAL`` is the device and ``fbkit`` this one."""
        path = f"{FBKIT.parent}:{os.environ['PATH']}"
        return subprocess.run(
            [ADBD, "with", self.folder, "bash", "-eu", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": path, **environment},
        )


@pytest.fixture(scope="session")
def adb_device(tmp_path_factory: pytest.TempPathFactory) -> AdbDevice:
    """A fresh copy of what is kept in .cache; skipped only where it cannot be made."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the Arm device is emulated on Linux on x86-64 only")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("making the emulated Arm device and its network namespace needs root and apt-get")
    ended = subprocess.run([ADBD, "setup", ARM], capture_output=True, text=True, check=False)
    if ended.returncode == UNFETCHABLE:
        pytest.skip(ended.stderr.strip().splitlines()[-1])
    assert ended.returncode == 0, f"adbd.sh setup: exit code {ended.returncode}\n{ended.stderr}"
    copy = tmp_path_factory.mktemp("adb") / "device"
    subprocess.run(["cp", "-a", "--reflink=auto", ARM, copy], check=True)
    namespace = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(namespace, capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    ended = subprocess.run([ADBD, "with", copy, "true"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"adbd.sh with: exit code {ended.returncode}\n{ended.stderr}"
    return AdbDevice(copy)


@pytest.fixture(scope="session")
def native_arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory, "aarch64")


@pytest.fixture(autouse=True)
def wheels_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads outlive the session: they are what a user's cache is for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(HERE.parents[1] / ".cache" / "deploy"))
