"""What a device is, and how it fares: processor, memory, temperature, clock. None where the system does not tell."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from fbkit.benchmarks.machine import describe_machine
from fbkit.device_runtime.trial import physical_memory

_CPU = Path("/sys/devices/system/cpu/cpu0")
_THROTTLED_NOW = 0xF  # of a Raspberry Pi's firmware: too little voltage, too hot, slowed down


@dataclass(frozen=True)
class Machine:
    """Attributes:
    model: of the board or the computer.
    processor: as the system names it; of Arm, its maker and part by number.
    features: the processor's, as the system names them.
    memory: bytes.
    emulated: whether instructions are another processor's, or the device is Android's emulator: its times say nothing.
    versions: of fbkit and what it runs on.
    """

    model: str | None
    processor: str
    architecture: str
    cores: int
    features: tuple[str, ...]
    memory: int
    system: str
    kernel: str
    emulated: bool
    versions: dict[str, str]


@dataclass(frozen=True)
class Conditions:
    """At a moment.

    Attributes:
        celsius: of the hottest zone.
        megahertz: of the first core.
        throttled: whether the system slows the processor down now; as Raspberry Pis tell.
        load: how many processes wanted to run, over a minute.
    """

    celsius: float | None
    megahertz: float | None
    governor: str | None
    throttled: bool | None
    load: float


def describe_device() -> Machine:
    versions = describe_machine()
    cpuinfo = _cpuinfo()
    return Machine(
        model=_first(Path("/proc/device-tree/model"), Path("/sys/class/dmi/id/product_name")),
        processor=_processor(cpuinfo, str(versions["processor"])),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        features=tuple(sorted(cpuinfo.get("Features", cpuinfo.get("flags", "")).split())),
        memory=physical_memory(),
        system=_system(),
        kernel=platform.release(),
        emulated=_is_emulated(),
        versions={key: str(value) for key, value in versions.items() if key not in ("processor", "cores", "system")},
    )


def observe() -> Conditions:
    zones = [_number(path, 1e-3) for path in Path("/sys/class/thermal").glob("*/temp")]
    return Conditions(
        celsius=max((zone for zone in zones if zone is not None), default=None),
        megahertz=_number(_CPU / "cpufreq" / "scaling_cur_freq", 1e-3),
        governor=_first(_CPU / "cpufreq" / "scaling_governor"),
        throttled=_is_throttled(),
        load=os.getloadavg()[0],
    )


def _cpuinfo() -> dict[str, str]:
    """Of the first processor."""
    found: dict[str, str] = {}
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def _processor(cpuinfo: dict[str, str], otherwise: str) -> str:
    if "CPU implementer" in cpuinfo and "model name" not in cpuinfo:
        return f"Arm {cpuinfo['CPU implementer']}/{cpuinfo.get('CPU part', '?')}"
    return cpuinfo.get("model name", otherwise)


def _system() -> str:
    for line in (_text(Path("/etc/os-release")) or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return platform.system()


def _is_emulated() -> bool:
    """qemu shows a process the program that it emulates as its own, but a thread the program that runs: qemu."""
    if any(Path(path).exists() for path in ("/dev/goldfish_pipe", "/dev/qemu_pipe")):
        return True
    kinds = [_elf_machine(Path(path)) for path in ("/proc/self/exe", "/proc/thread-self/exe")]
    return None not in kinds and kinds[0] != kinds[1]


def _elf_machine(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return None
    return header[18:20] if header[:4] == b"\x7fELF" else None


def _first(*paths: Path) -> str | None:
    return next((text for text in map(_text, paths) if text), None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def _number(path: Path, unit: float) -> float | None:
    try:
        return int(path.read_text()) * unit
    except (OSError, ValueError):
        return None


def _is_throttled() -> bool | None:
    flags = _text(Path("/sys/devices/platform/soc/soc:firmware/get_throttled"))
    try:
        return None if flags is None else bool(int(flags, 16) & _THROTTLED_NOW)
    except ValueError:
        return None
