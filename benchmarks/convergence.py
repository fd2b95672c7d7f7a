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
from fbkit.device_runtime.fitting import Recipe
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.solvers.sgd import Schedule
from fbkit.errors import UserError
from fbkit.files import whole_folder, write_atomic, write_json

SCHEMA = "fbkit.convergence"
VERSION = 1
MEASURED = ("seconds", "train_loss", "test_loss", "test_accuracy")


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
        out: folder to make: curves.csv (each client), averages.csv, convergence.json (both), convergence.svg and .png,
            and the clients' profiles.
        schedule: of SGD; None for the default.
        reporter: where progress goes; None for nowhere.

    Returns:
        What convergence.json holds: machine, schedule and, for each bundle, its values by epoch: means over clients,
        spread across them, and each client's own.

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
        with reporter.stage("personalizing", len(folders) * len(opened)) as advance:
            # Client by client, the bundles each time in another order: whatever else the machine does, and the threads
            # that the bundle before has left spinning, fall on all of them alike.
            for number, client in enumerate(folders, start=1):
                for place in epoch_order(len(names), schedule.seed, number).tolist():
                    name = names[place]
                    bundle = opened[name]
                    profile = folder / "profiles" / name / client.name
                    curves.append(measure(name, bundle, client, profile, schedule))
                    advance(f"{name}: {curves[-1].points[-1].test_accuracy:.1f}%")
        result: dict[str, Any] = {
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
        write_atomic(folder / "curves.csv", _curves_to_csv(curves).encode())
        write_atomic(folder / "averages.csv", _averages_to_csv(result["bundles"]).encode())
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
        Recipe("sgd", "keep", schedule.penalty, schedule),
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
    """Means (of seconds: medians) over clients by epoch, and each client's own values."""
    table = {key: np.array([[getattr(point, key) for point in curve.points] for curve in curves]) for key in MEASURED}
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
            curve.client: {key: table[key][place].tolist() for key in MEASURED} for place, curve in enumerate(curves)
        },
    }


def _curves_to_csv(curves: Sequence[Curve]) -> str:
    rows = [
        [curve.bundle, curve.client, curve.pictures, *(f"{value:.6g}" for value in asdict(point).values())]
        for curve in curves
        for point in curve.points
    ]
    return _csv(["bundle", "client", "pictures", *Point.__dataclass_fields__], rows)


def _averages_to_csv(bundles: dict[str, Any]) -> str:
    columns = ["epochs", *MEASURED, "test_accuracy_std", "test_accuracy_worst"]
    rows = [
        [name, *(f"{value:.6g}" for value in values)]
        for name, bundle in bundles.items()
        for values in zip(*(bundle[column] for column in columns), strict=True)
    ]
    return _csv(["bundle", "epoch", *columns[1:]], rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
