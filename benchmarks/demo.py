"""The whole story on real pictures: train two bodies, export them, personalize held-out clients, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fbkit.benchmarks.clients import write_clients
from fbkit.benchmarks.convergence import run_convergence
from fbkit.benchmarks.report import write_report
from fbkit.console import Reporter
from fbkit.device_runtime.solvers.sgd import Schedule
from fbkit.errors import Interrupted
from fbkit.export.exporting import export_run
from fbkit.files import refuse_existing, write_json
from fbkit.train.partition import partition
from fbkit.train.recipe import load_recipe
from fbkit.train.sources import load_dataset
from fbkit.train.training import train

ALGORITHMS = ("fedbabu", "fedavg")
EXPORTS = (("fedbabu", "onnx"), ("fedavg", "onnx"), ("fedbabu", "executorch"))
SCHEDULE = Schedule(epochs=20, lr=0.01)


@dataclass
class DemoResult:
    """Where everything is, and how long each stage took in seconds."""

    out: Path
    seconds: dict[str, float] = field(default_factory=dict)
    convergence: dict[str, Any] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.out / "report" / "index.html"


def run_demo(out: Path, settings: tuple[str, ...] = (), reporter: Reporter | None = None) -> DemoResult:
    """Run the demo into a new folder: runs/, bundles/, clients/, convergence/, report/ and demo.json.

    Args:
        out: the folder to make.
        settings: changes to the shipped recipe, as for ``load_recipe``; the same for both algorithms.
        reporter: where progress goes; None for nowhere.

    Raises:
        UserError: the folder exists, or an extra is missing.
    """
    refuse_existing(out)
    reporter = reporter or Reporter(quiet=True)
    result = DemoResult(out)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        result.seconds[stage] = round(time.perf_counter() - started, 2)

    runs = {}
    for algorithm in ALGORITHMS:
        with timed(f"train {algorithm}"):
            recipe = load_recipe(None, [*settings, f"training.algorithm={algorithm}"])
            try:
                runs[algorithm] = train(recipe, out / "runs" / algorithm, reporter=reporter)
            except Interrupted as stop:
                raise Interrupted(
                    f"the demo was stopped; to start it again remove {out} or choose another --out"
                ) from stop

    with timed("write the held-out clients' pictures"), reporter.stage("writing pictures", 1) as advance:
        recipe = runs[ALGORITHMS[0]].recipe
        dataset = load_dataset(recipe.data, recipe.seed)
        clients = partition(dataset, recipe.clients, recipe.seed)
        write_clients(dataset, clients, clients.held_out, out / "clients")
        advance("")

    bundles = []
    with reporter.stage("exporting", len(EXPORTS)) as advance:
        for algorithm, target in EXPORTS:
            with timed(f"export {algorithm} to {target}"):
                bundles.append(out / "bundles" / f"{algorithm}-{target}")
                export_run(runs[algorithm].folder, target, bundles[-1])
            advance(bundles[-1].name)

    with timed("personalize"):
        result.convergence = run_convergence(bundles, out / "clients", out / "convergence", SCHEDULE, reporter)
    with timed("report"):
        write_report(out / "report", runs, result.convergence)
    write_json(out / "demo.json", {"seconds": result.seconds, "convergence": result.convergence})
    return result
