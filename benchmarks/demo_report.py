"""The demo's page: one HTML file with its plots inside, readable without a network, on a phone and in the dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from fbkit.benchmarks.convergence.groups import Group, group, summarize
from fbkit.benchmarks.convergence.result import ConvergenceResult
from fbkit.benchmarks.plots import plot_convergence, plot_rounds
from fbkit.files import whole_folder, write_atomic
from fbkit.plotting import to_svg
from fbkit.train.metrics import read_metrics
from fbkit.train.recipe import recipe_to_toml
from fbkit.train.run_folder import Run

PAPER_EPOCHS = 5
TEMPLATES = Path(__file__).parent / "templates"


def write_report(out: Path, runs: dict[str, Run], convergence: ConvergenceResult) -> None:
    """Write ``out/index.html``.

    Args:
        out: folder to make.
        runs: the finished runs by algorithm.
        convergence: one group of curves for each bundle, all of as many epochs.

    Raises:
        UserError: ``out`` exists.
    """
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    groups = group(convergence)
    page = templates.get_template("demo.html").render(
        rows=[bundle_row(each, convergence) for each in groups],
        runs=[run_rows(name, run) for name, run in runs.items()],
        epochs=groups[0].curves[0].epochs[-1],
        clients=convergence.clients,
        machine=convergence.machine,
        recipe=recipe_to_toml(next(iter(runs.values())).recipe),
        rounds_plot=to_svg(plot_rounds({name: read_metrics(run.folder) for name, run in runs.items()})),
        convergence_plot=to_svg(plot_convergence(groups)),
        paper_epochs=PAPER_EPOCHS,
    )
    with whole_folder(out) as folder:
        write_atomic(folder / "index.html", page.encode())


def bundle_row(curves: Group, convergence: ConvergenceResult) -> dict[str, Any]:
    """The figures of one bundle for a table: accuracies in percent, means over clients; milliseconds, medians."""
    table = np.array([curve.accuracy for curve in curves.curves])
    accuracy = table.mean(0)
    found = summarize(curves)
    subject = convergence.subjects[curves.curves[0].subject]
    return {
        "name": curves.source,
        "runtime": subject.runtime,
        "kilobytes": subject.bytes / 1000,
        "initial": accuracy[0],
        "one_epoch": accuracy[1],
        "paper": accuracy[min(PAPER_EPOCHS, len(accuracy) - 1)],
        "last": accuracy[-1],
        "std": found.spread,
        "worst": table[:, -1].min(),
        "gain": accuracy[-1] - accuracy[0],
        "milliseconds_features": 1000 * (found.features_seconds or 0.0),
        "milliseconds": 1000 * found.seconds,
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
