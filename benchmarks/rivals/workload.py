"""A benchmark's workload: a folder with the pictures, who has which, the start of the net and how to train."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

FORMAT = "fbkit.workload"
VERSION = 1


class WorkloadError(Exception):
    """A workload that cannot be used, said in a line."""


@dataclass(frozen=True)
class Spec:
    """How to train; the names are those of spec.json."""

    rounds: int
    warmup_rounds: int
    batch_size: int
    local_epochs: int
    learning_rates: list[float]
    momentum: float
    weight_decay: float
    weighting: str
    crop_padding: int
    flip: bool
    mean: list[float]
    std: list[float]
    classes: int
    width: int
    seed: int
    workers: int
    channels_last: bool
    bfloat16: bool


@dataclass(frozen=True)
class Workload:
    """images: uint8 [N, C, H, W]; labels: int64 [N]; cohorts: int64 [rounds, cohort]; weights: the net's start.

    ``indices`` holds the pictures of all clients, one client after the other; ``offsets`` says where each begins.
    """

    spec: Spec
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]
    cohorts: NDArray[np.int64]
    weights: dict[str, NDArray[np.float32]]

    @property
    def clients(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def sizes(self) -> list[int]:
        """How many pictures each client has."""
        sizes: list[int] = np.diff(self.offsets).tolist()
        return sizes

    def pictures_of(self, client: int) -> NDArray[np.int64]:
        """The indices of a client's pictures."""
        return self.indices[self.offsets[client] : self.offsets[client + 1]]


def read_workload(folder: Path) -> Workload:
    """Read and check a workload.

    Raises:
        WorkloadError: a file is missing or damaged, or one does not fit the other.
    """
    workload = Workload(
        spec=_read_spec(folder / "spec.json"),
        images=_read_array(folder / "images.npy", np.uint8, 4),
        labels=_read_array(folder / "labels.npy", np.int64, 1),
        indices=_read_array(folder / "indices.npy", np.int64, 1),
        offsets=_read_array(folder / "offsets.npy", np.int64, 1),
        cohorts=_read_array(folder / "cohorts.npy", np.int64, 2),
        weights=_read_weights(folder / "weights.safetensors"),
    )
    _check_spec(workload.spec, folder / "spec.json", workload.images.shape[1])
    _check_arrays(workload, folder)
    _check_weights(workload, folder / "weights.safetensors")
    return workload


def _read_spec(path: Path) -> Spec:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WorkloadError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise WorkloadError(f"{path}: not the description of a workload of version {VERSION}")
    values: dict[str, Any] = {}
    for name, wanted in get_type_hints(Spec).items():
        if name not in content:
            raise WorkloadError(f"{path}: {name} is missing")
        if not _is_a(content[name], wanted):
            raise WorkloadError(f"{path}: {name} = {content[name]!r} is not of the kind that it must be")
        values[name] = content[name]
    return Spec(**values)


def _is_a(value: object, wanted: object) -> bool:
    """Whether JSON's ``value`` is of the type; true and false are no numbers, and a number is finite."""
    if wanted == list[float]:
        return isinstance(value, list) and all(_is_a(item, float) for item in value)
    if wanted is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return type(value) is wanted


def _check_spec(spec: Spec, path: Path, channels: int) -> None:
    for name in ("rounds", "batch_size", "local_epochs", "classes", "width", "workers"):
        if getattr(spec, name) < 1:
            raise WorkloadError(f"{path}: {name} must be at least 1")
    for name in ("warmup_rounds", "momentum", "weight_decay", "crop_padding", "seed"):
        if getattr(spec, name) < 0:
            raise WorkloadError(f"{path}: {name} must not be negative")
    if spec.warmup_rounds >= spec.rounds:
        raise WorkloadError(f"{path}: of {spec.rounds} rounds {spec.warmup_rounds} are for warming up; none is left")
    if len(spec.learning_rates) != spec.rounds or min(spec.learning_rates) < 0:
        raise WorkloadError(f"{path}: learning_rates needs one number for each of the {spec.rounds} rounds")
    if spec.weighting not in ("clients", "examples"):
        raise WorkloadError(f"{path}: weighting is 'clients' or 'examples', not {spec.weighting!r}")
    if len(spec.mean) != channels or len(spec.std) != channels or min(spec.std, default=0) <= 0:
        raise WorkloadError(f"{path}: mean and std need a number for each of {channels} channels, std above 0")


def _check_arrays(workload: Workload, folder: Path) -> None:
    spec, count = workload.spec, len(workload.images)
    if not workload.images.size:
        raise WorkloadError(f"{folder / 'images.npy'}: holds no pictures")
    if len(workload.labels) != count or not _within(workload.labels, spec.classes):
        raise WorkloadError(f"{folder / 'labels.npy'}: must hold a class below {spec.classes} for each picture")
    if not _within(workload.indices, count):
        raise WorkloadError(f"{folder / 'indices.npy'}: must hold numbers of pictures, below {count}")
    ends = workload.offsets[[0, -1]].tolist() if len(workload.offsets) > 1 else []
    if ends != [0, len(workload.indices)] or min(workload.sizes) < 1:
        raise WorkloadError(f"{folder / 'offsets.npy'}: must rise from 0 to {len(workload.indices)}")
    cohorts = workload.cohorts
    if len(cohorts) != spec.rounds or not cohorts.size or not _within(cohorts, workload.clients):
        raise WorkloadError(f"{folder / 'cohorts.npy'}: must hold clients below {workload.clients} for each round")
    if any(len(set(cohort)) < len(cohort) for cohort in cohorts.tolist()):
        raise WorkloadError(f"{folder / 'cohorts.npy'}: a client is in a round twice")


def _check_weights(workload: Workload, path: Path) -> None:
    """Refuse weights that are not those of the 4-conv net, by their names and shapes."""
    width, classes = workload.spec.width, workload.spec.classes
    channels, height, breadth = workload.shape
    wanted: dict[str, tuple[int, ...]] = {}
    for layer in range(4):
        wanted[f"body.{4 * layer}.weight"] = (width, channels, 3, 3)
        for name in (f"{4 * layer}.bias", f"{4 * layer + 1}.weight", f"{4 * layer + 1}.bias"):
            wanted[f"body.{name}"] = (width,)
        channels, height, breadth = width, (height + 1) // 2, (breadth + 1) // 2
    wanted |= {"head.weight": (classes, width * height * breadth), "head.bias": (classes,)}
    found = {name: values.shape for name, values in workload.weights.items()}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise WorkloadError(f"{path}: not the weights of the net that spec.json describes; see {', '.join(wrong[:3])}")


def _within(numbers: NDArray[np.int64], limit: int) -> bool:
    return bool(((numbers >= 0) & (numbers < limit)).all())


def _read_array(path: Path, dtype: type[np.generic], dimensions: int) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise WorkloadError(f"{path}: not readable as an array ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != dimensions:
        raise WorkloadError(f"{path}: must be an array of {np.dtype(dtype)} with {dimensions} dimensions")
    return array


def _read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        weights: dict[str, NDArray[Any]] = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise WorkloadError(f"{path}: not a whole safetensors file ({error})") from error
    for name, values in weights.items():
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise WorkloadError(f"{path}: {name} must hold finite numbers of float32")
    return weights
