"""How fast does personalization converge? Accuracy and loss of each client against epochs and seconds."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fbkit.benchmarks.clients import ClientFolder, find_clients
from fbkit.benchmarks.machine import describe_machine
from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.solvers.sgd import Schedule
from fbkit.errors import UserError
from fbkit.files import read_json, whole_folder, write_atomic, write_json

SCHEMA = "fbkit.convergence"
VERSION = 1


@dataclass(frozen=True)
class Point:
    """The state after an epoch (0: as shipped).

    seconds: since the personalization began, decoding and the body's pass included, judging left out.
    train_loss: mean over the epoch (epoch 0: of the shipped head). test_accuracy: percent.
    """

    epoch: int
    seconds: float
    train_loss: float
    test_loss: float
    test_accuracy: float


@dataclass(frozen=True)
class Curve:
    """One client's points under one bundle; seconds_features is when its features were ready."""

    bundle: str
    client: str
    pictures: int
    seconds_features: float
    points: tuple[Point, ...]


def run_convergence(
    bundles: Sequence[Path],
    clients: Path,
    out: Path,
    schedule: Schedule | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Personalize every client with every bundle, as a device does, and write what was seen.

    Args:
        bundles: bundle folders; the folders' names tell them apart.
        clients: folder ``CLIENT/{train,test}/CLASS/PICTURE``.
        out: folder to make: curves.csv, convergence.json, convergence.svg, convergence.png and the clients' profiles.
        schedule: of SGD; None for the default.
        reporter: where progress goes; None for nowhere.

    Returns:
        What convergence.json holds: machine, schedule and, for each bundle, means and spread across clients by epoch.

    Raises:
        UserError: a bundle, a client's folder or ``out`` cannot be used.
    """
    from fbkit.benchmarks.plots import plot_convergence  # matplotlib is slow to import

    schedule = schedule or Schedule()
    reporter = reporter or Reporter(quiet=True)
    names = [bundle.resolve().name for bundle in bundles]
    if len(set(names)) < len(names):
        raise UserError(f"bundles must have different folder names, found {', '.join(names)}")
    folders = find_clients(clients)
    with whole_folder(out) as folder:
        curves = []
        opened = {name: Bundle.open(path) for name, path in zip(names, bundles, strict=True)}
        for name, bundle in opened.items():
            with reporter.stage(f"personalizing with {name}", len(folders)) as advance:
                for client in folders:
                    profile = folder / "profiles" / name / client.name
                    curves.append(measure(name, bundle, client, profile, schedule))
                    advance(f"{curves[-1].points[-1].test_accuracy:.1f}%")
        result = {
            "schema": SCHEMA,
            "version": VERSION,
            "machine": describe_machine(),
            "schedule": asdict(schedule),
            "clients": [client.name for client in folders],
            "bundles": {
                name: summarize([curve for curve in curves if curve.bundle == name], bundle)
                for name, bundle in opened.items()
            },
        }
        write_json(folder / "convergence.json", result)
        write_atomic(folder / "curves.csv", _to_csv(curves).encode())
        figure = plot_convergence(result)
        for suffix in ("svg", "png"):
            figure.savefig(folder / f"convergence.{suffix}")
    return result


def measure(name: str, bundle: Bundle, client: ClientFolder, profile: Path, schedule: Schedule) -> Curve:
    """One client's curve. The heads are kept as they come and judged afterwards, so judging costs no measured time."""
    personalizer = Personalizer(bundle, profile)
    test_features, test_labels = personalizer.read_folder(client.test)
    heads: list[tuple[int, float, float, Head]] = []
    started = time.perf_counter()
    result = personalizer.fit(
        client.train,
        schedule,
        listener=lambda epoch, head, loss: heads.append((epoch, time.perf_counter() - started, loss, head)),
    )
    trail = [(0, 0.0, result.loss_before, bundle.head), *heads]
    return Curve(
        bundle=name,
        client=client.name,
        pictures=sum(result.pictures.values()),
        seconds_features=result.seconds["decode"] + result.seconds["body"],
        points=tuple(
            Point(
                epoch, seconds, loss, head.loss(test_features, test_labels), head.accuracy(test_features, test_labels)
            )
            for epoch, seconds, loss, head in trail
        ),
    )


def summarize(curves: Sequence[Curve], bundle: Bundle) -> dict[str, Any]:
    """Means over clients by epoch, and each client's first and last accuracy."""
    table = {
        key: np.array([[getattr(point, key) for point in curve.points] for curve in curves])
        for key in ("seconds", "train_loss", "test_loss", "test_accuracy")
    }
    accuracy = table["test_accuracy"]
    return {
        "identity": bundle.manifest.identity,
        "target": bundle.manifest.target,
        "runtime": bundle.body.runtime,
        "bytes": sum(entry.bytes for entry in bundle.manifest.files.values()),
        "pictures_per_client": float(np.mean([curve.pictures for curve in curves])),
        "seconds_features": float(np.median([curve.seconds_features for curve in curves])),
        "epochs": [point.epoch for point in curves[0].points],
        "seconds": np.median(table["seconds"], axis=0).tolist(),
        "train_loss": table["train_loss"].mean(0).tolist(),
        "test_loss": table["test_loss"].mean(0).tolist(),
        "test_accuracy": accuracy.mean(0).tolist(),
        "test_accuracy_std": accuracy.std(0).tolist(),
        "test_accuracy_worst": accuracy.min(0).tolist(),
        "clients": {
            curve.client: {"initial": row[0], "personalized": row[-1]}
            for curve, row in zip(curves, accuracy.tolist(), strict=True)
        },
    }


def read_convergence(folder: Path) -> dict[str, Any]:
    """What ``run_convergence`` wrote.

    Raises:
        UserError: not such a folder.
    """
    result = read_json(folder / "convergence.json")
    if result.get("schema") != SCHEMA or result.get("version") != VERSION:
        raise UserError(f"{folder / 'convergence.json'}: not a convergence result of version {VERSION}")
    return result


def _to_csv(curves: Sequence[Curve]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["bundle", "client", "pictures", *Point.__dataclass_fields__])
    for curve in curves:
        for point in curve.points:
            values = asdict(point).values()
            writer.writerow([curve.bundle, curve.client, curve.pictures, *(f"{value:.6g}" for value in values)])
    return text.getvalue()
