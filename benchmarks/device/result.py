"""What ``fbkit bench device`` finds: the same from Python and from the native runner, a JSON object of one schema."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fbkit.benchmarks.device.facts import Conditions, Machine
from fbkit.benchmarks.fresh_process import FreshProcess
from fbkit.benchmarks.typed import read_as
from fbkit.device_runtime.fitting import Solver
from fbkit.errors import UserError

SCHEMA, VERSION = "fbkit.bench-device", 1
BATCHES = (1, 4, 16, 32)
SOLVERS: tuple[Solver, ...] = ("exact", "sgd")


@dataclass(frozen=True)
class Subject:
    """What was measured.

    Attributes:
        name: the bundle's folder.
        digest: the bundle's identity.
        pixels: of a side, the longer one.
        runtime: what ran the body.
        pictures, unseen: how many were learned from, and judged by.
    """

    name: str
    digest: str
    target: str
    precision: str
    pixels: int
    classes: int
    features: int
    runtime: str
    pictures: int
    unseen: int


@dataclass(frozen=True)
class Disk:
    """Bytes of the bundle and of what runs it, its libraries included."""

    bundle: int
    runtime: int


@dataclass(frozen=True)
class Latency:
    """Seconds of one call for a batch of decoded pictures, body and head: median and percentiles of ``count`` calls.

    threads: None where the runtime takes none to choose.
    """

    threads: int | None
    batch: int
    count: int
    median: float
    p95: float
    p99: float

    @property
    def pictures_per_second(self) -> float:
        return self.batch / self.median


@dataclass(frozen=True)
class Point:
    """A head on its way.

    Attributes:
        round: epoch of sgd, iteration of exact; 0 for the shipped head.
        steps: of sgd, so far; of exact, iterations.
        seconds: since the pictures were given, decoding and body included; median over turns.
        accuracy: percent of unseen pictures.
        loss: mean cross-entropy of unseen pictures.
    """

    round: int
    steps: int
    seconds: float
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Learning:
    """A personalization: seconds of its stages (decode, body, solver, judging, write), turn by turn, and its curve."""

    solver: str
    turns: tuple[dict[str, float], ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class DeviceResult:
    """before, after: how the machine fared. start: fresh processes, turn by turn."""

    machine: Machine
    before: Conditions
    after: Conditions
    subject: Subject
    disk: Disk
    start: tuple[FreshProcess, ...]
    latency: tuple[Latency, ...]
    learning: tuple[Learning, ...]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": VERSION, **asdict(self)}


def device_result_from_json(value: Any, origin: str) -> DeviceResult:
    """Check what should be ``DeviceResult.to_json``'s.

    Args:
        value: of any type and content.
        origin: for messages.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, dict) or (value.get("schema"), value.get("version")) != (SCHEMA, VERSION):
        raise UserError(f"{origin}: is no result of fbkit bench device, or of another version of fbkit")
    return read_as(DeviceResult, value, origin)
