"""The demo's page: one HTML file with its plots inside, readable without a network, on a phone and in the dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from fbkit.benchmarks.plots import plot_convergence, plot_rounds
from fbkit.files import whole_folder, write_atomic
from fbkit.plotting import to_svg
from fbkit.train.metrics import read_metrics
from fbkit.train.recipe import recipe_to_toml
from fbkit.train.run_folder import Run

PAPER_EPOCHS = 5


def write_report(out: Path, runs: dict[str, Run], convergence: dict[str, Any]) -> None:
    """Write ``out/index.html``.

    Args:
        out: folder to make.
        runs: the finished runs by algorithm.
        convergence: what ``run_convergence`` gave.

    Raises:
        UserError: ``out`` exists.
    """
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
    )
    page = templates.get_template("demo.html").render(
        rows=[bundle_row(name, bundle) for name, bundle in convergence["bundles"].items()],
        runs=[run_rows(name, run) for name, run in runs.items()],
        schedule=convergence["schedule"],
        clients=convergence["clients"],
        machine=convergence["machine"],
        recipe=recipe_to_toml(next(iter(runs.values())).recipe),
        rounds_plot=to_svg(plot_rounds({name: read_metrics(run.folder) for name, run in runs.items()})),
        convergence_plot=to_svg(plot_convergence(convergence)),
        paper_epochs=PAPER_EPOCHS,
    )
    with whole_folder(out) as folder:
        write_atomic(folder / "index.html", page.encode())


def bundle_row(name: str, bundle: dict[str, Any]) -> dict[str, Any]:
    """The figures of one bundle for a table: accuracies in percent, means over clients; milliseconds, medians."""
    accuracy = bundle["test_accuracy"]
    at_paper = bundle["epochs"].index(PAPER_EPOCHS) if PAPER_EPOCHS in bundle["epochs"] else -1
    return {
        "name": name,
        "runtime": bundle["runtime"],
        "kilobytes": bundle["bytes"] / 1000,
        "initial": accuracy[0],
        "one_epoch": accuracy[1],
        "paper": accuracy[at_paper],
        "last": accuracy[-1],
        "std": bundle["test_accuracy_std"][-1],
        "worst": bundle["test_accuracy_worst"][-1],
        "gain": accuracy[-1] - accuracy[0],
        "milliseconds_features": 1000 * bundle["seconds_features"],
        "milliseconds": 1000 * bundle["seconds"][-1],
    }


def run_rows(name: str, run: Run) -> dict[str, Any]:
    """The figures of one run as training measured them on the cluster."""
    evaluation = run.evaluation
    return {
        "name": name,
        "calibration": evaluation.calibration.kept,
        "initial": {name: figures.mean for name, figures in evaluation.initial.measured()},
        "personalized": evaluation.personalized,
    }
