"""The whole story on real pictures: train two bodies, export them, personalize held-out clients, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fbkit.benchmarks.clients import write_clients
from fbkit.benchmarks.convergence.comparison import measure_sources, write_results
from fbkit.benchmarks.convergence.plan import Plan
from fbkit.benchmarks.convergence.result import ALL, ConvergenceResult
from fbkit.benchmarks.convergence.sources import Source
from fbkit.benchmarks.demo_report import write_report
from fbkit.console import Reporter, called_as
from fbkit.errors import Interrupted
from fbkit.export.exporting import export_run
from fbkit.files import refuse_existing, write_json
from fbkit.train.partition import partition
from fbkit.train.recipe import load_recipe
from fbkit.train.sources import load_dataset
from fbkit.train.training import train

ALGORITHMS = ("fedbabu", "fedavg")
EXPORTS = (("fedbabu", "onnx"), ("fedavg", "onnx"), ("fedbabu", "executorch"))
PLAN = Plan(solvers=("sgd:0.01",), per_class=(ALL,), epochs=20)


@dataclass
class DemoResult:
    """Where everything is, and how long each stage took in seconds."""

    out: Path
    seconds: dict[str, float] = field(default_factory=dict)
    convergence: ConvergenceResult | None = None

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

    sources = []
    with reporter.stage("exporting", len(EXPORTS)) as advance:
        for algorithm, target in EXPORTS:
            name = f"{algorithm}-{target}"
            with timed(f"export {algorithm} to {target}"):
                export_run(runs[algorithm].folder, target, out / "bundles" / name)
            sources.append(Source(name, recipe.seed, target, "fp32", out / "bundles" / name, out / "clients"))
            advance(name)

    with timed("personalize"):
        (out / "convergence" / "curves").mkdir(parents=True)
        convergence = measure_sources(sources, PLAN, out / "convergence", called_as(), reporter)
        write_results(convergence, out / "convergence")
    with timed("report"):
        write_report(out / "report", runs, convergence)
    result.convergence = convergence
    write_json(out / "demo.json", {"seconds": result.seconds, "convergence": convergence.to_json()}, compact=True)
    return result
