"""What ``fbkit bench personalize`` found: tables, aims beside figures, and accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.machine import describe_machine
from fbkit.benchmarks.personalize.measure import BODY_EACH_EPOCH, CACHED, FULL, Found, Plan
from fbkit.benchmarks.personalize.timing import Trail
from fbkit.files import write_atomic

_OURS = "fbkit, sgd"  # the same schedule as the others', so the one to compare
_AIMS = ((BODY_EACH_EPOCH, 5.0), (FULL, 10.0), (CACHED, 1.0))
_LOOK_AIMS = {96: 1.25, 224: 1.1}
_OVERHEAD_AIM = 0.05
_OPENING_AIM = 1.0  # seconds
_MEMORY_AIM = 200e6  # bytes


def to_markdown(found: Sequence[Found], plan: Plan) -> str:
    how = (
        "MobileNetV2, trained on the embedded pictures at 96 pixels for some minutes; "
        f"{plan.pictures} JPEG pictures of 640x480 from five classes to learn from, {plan.epochs} epochs "
        f"in batches of 50, {plan.threads} thread(s). Medians of {plan.turns} turns."
    )
    lines = [
        "# Personalizing, beside what people would do otherwise",
        "",
        how,
        "",
        ", ".join(f"{key} {value}" for key, value in describe_machine().items()) + ".",
        "",
    ]
    for one in found:
        lines += [f"## {one.side} pixels", "", *_contenders(one), "", *_figures(one), ""]
    return "\n".join(lines)


def _contenders(one: Found) -> list[str]:
    ours = one.trails[_OURS]
    rows = [
        ["way", "seconds after decoding", f"times of {_OURS}", "accuracy on other pictures"],
        ["---"] * 4,
    ]
    for name, trails in one.trails.items():
        rows.append([name, f"{_seconds(trails):.2f}", f"{_ratio(trails, ours):.2f}", f"{_accuracy(trails):.1f}%"])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _figures(one: Found) -> list[str]:
    look, prediction, fresh = one.one_look, one.prediction, one.fresh
    lines = [
        _aim(f"fbkit, {solver}: from the call to the head on disk, times one look", look.ratio(solver), aim)
        for solver in look.whole
        if (aim := _LOOK_AIMS.get(one.side))
    ]
    for name, least in _AIMS:
        times = _ratio(one.trails[name], one.trails[_OURS])
        lines.append(f"- {name} takes {times:.2f} times as long; at least {least:g}: {_word(times >= least)}")
    lines += [
        f"- one look at all pictures, decoding included: {median(look.look):.2f} s",
        _aim(
            "head, softmax and bookkeeping of a prediction, times the body's own time",
            prediction.overhead,
            _OVERHEAD_AIM,
        )
        + f" (body {1000 * prediction.body:.1f} ms, whole call with decoding {1000 * prediction.whole:.1f} ms)",
        _aim(
            "opening a verified bundle and the first prediction, s",
            fresh.opening + fresh.first_prediction,
            _OPENING_AIM,
        )
        + f"; the process starts in {fresh.start:.2f} s",
    ]
    if fresh.memory_personalizing is not None and fresh.memory_predicting is not None:
        memory = _aim("most memory while personalizing, MB", fresh.memory_personalizing / 1e6, _MEMORY_AIM / 1e6)
        lines.append(f"{memory}; predicting takes {fresh.memory_predicting / 1e6:.0f} MB")
    return lines


def _aim(what: str, value: float, most: float) -> str:
    return f"- {what}: {value:.3g}; at most {most:g}: {_word(value <= most)}"


def _word(is_reached: bool) -> str:
    return "reached" if is_reached else "missed"


def _seconds(trails: Sequence[Trail]) -> float:
    return median(trail.seconds[-1] for trail in trails)


def _ratio(trails: Sequence[Trail], ours: Sequence[Trail]) -> float:
    """The median over turns."""
    return median(one.seconds[-1] / other.seconds[-1] for one, other in zip(trails, ours, strict=True))


def _accuracy(trails: Sequence[Trail]) -> float:
    return median(trail.accuracy[-1] for trail in trails)


def write_markdown(text: str, path: Path) -> None:
    write_atomic(path, text.encode())


def draw(found: Sequence[Found], path: Path) -> None:
    """Accuracy against seconds, a mark after each epoch: a panel for each size."""
    with plotting.style():
        figure = Figure(figsize=(max(7, 5 * len(found)), 4.6), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for one, axes in zip(found, panels, strict=True):
            for place, (name, trails) in enumerate(one.trails.items()):
                seconds = [median(at) for at in zip(*(trail.seconds for trail in trails), strict=True)]
                accuracy = [median(at) for at in zip(*(trail.accuracy for trail in trails), strict=True)]
                marker = plotting.MARKERS[place]
                axes.plot(seconds, accuracy, marker=marker, markersize=4, **plotting.line(place, name))
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{one.side} pixels")
            plotting.label(axes, "seconds after decoding", "")
        panels[0].set_ylabel("accuracy on other pictures, %")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    plotting.save(figure, path)
