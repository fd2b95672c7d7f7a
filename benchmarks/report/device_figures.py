"""Pictures of devices side by side; times of emulated ones are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fbkit.benchmarks.device.result import DeviceResult
from fbkit.benchmarks.report.tables import STAGES, stage_medians
from fbkit.plotting import COLOURS, label, line, plain_logarithm, style

Named = Sequence[tuple[str, DeviceResult]]


def draw_stages(results: Named) -> Figure:
    """Where the time of a personalization goes, a bar for each device and solver."""
    bars = [
        (f"{name}, {learned.solver}", stage_medians(learned)) for name, result in results for learned in result.learning
    ]
    places = np.arange(len(bars))[::-1]
    with style():
        figure = Figure(figsize=(11, 1.5 + 0.36 * len(bars)), layout="constrained")
        panel = figure.subplots()
        left = np.zeros(len(bars))
        for number, stage in enumerate(STAGES):
            widths = np.array([1000 * stages[stage] for _, stages in bars])
            panel.barh(places, widths, left=left, color=COLOURS[number], label=stage)
            left += widths
        panel.set_yticks(places, [name for name, _ in bars])
        label(panel, "milliseconds, medians over turns", "")
        figure.legend(loc="outside lower center", ncols=len(STAGES))
    return figure


def draw_latencies(results: Named) -> Figure:
    """Pictures a second against pictures at once, a line for each device and number of threads."""
    with style():
        figure = Figure(figsize=(11, 3.9), layout="constrained")
        waits, throughput = figure.subplots(1, 2)
        place = 0
        for name, result in results:
            for threads in dict.fromkeys(each.threads for each in result.latency):
                mine = [each for each in result.latency if each.threads == threads]
                batches = [each.batch for each in mine]
                said = name if threads is None else f"{name}, {threads} {'thread' if threads == 1 else 'threads'}"
                look = {"marker": "o", "markersize": 3.5, **line(place, said)}
                waits.plot(batches, [1000 * each.median for each in mine], **look)
                waits.fill_between(
                    batches,
                    [1000 * each.median for each in mine],
                    [1000 * each.p99 for each in mine],
                    color=look["color"],
                    alpha=0.12,
                    linewidth=0,
                )
                throughput.plot(batches, [each.pictures_per_second for each in mine], **look)
                place += 1
        for panel, up in ((waits, "milliseconds: median, up to 99th percentile"), (throughput, "pictures a second")):
            label(panel, "pictures at once", up)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            plain_logarithm(panel.yaxis)
            batches = sorted({each.batch for _, result in results for each in result.latency})
            panel.set_xticks(batches, [str(batch) for batch in batches])
        handles, labels = waits.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def draw_learning(results: Named) -> Figure:
    """Accuracy and loss against rounds, emulated devices too: lines of devices that agree lie on each other."""
    solvers = list(dict.fromkeys(learned.solver for _, result in results for learned in result.learning))
    with style():
        figure = Figure(figsize=(11, 5.8), layout="constrained")
        panels = figure.subplots(2, len(solvers), squeeze=False, sharey="row")
        for place, (name, result) in enumerate(results):
            said = f"{name} (emulated)" if result.machine.emulated else name
            for learned in result.learning:
                column = solvers.index(learned.solver)
                steps = [point.steps for point in learned.points]
                look = {"marker": "os^DvP"[place % 6], "markersize": max(10 - 2 * place, 3), **line(place, said)}
                panels[0][column].plot(steps, [point.accuracy for point in learned.points], **look)
                panels[1][column].plot(steps, [max(point.loss, 1e-6) for point in learned.points], **look)
        for column, solver in enumerate(solvers):
            panels[0][column].set_title(solver)
            label(panels[0][column], "", "accuracy, %" if column == 0 else "")
            label(panels[1][column], "steps", "loss, nats" if column == 0 else "")
            panels[1][column].set_yscale("log")
            plain_logarithm(panels[1][column].yaxis)
            for panel in (panels[0][column], panels[1][column]):
                panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
