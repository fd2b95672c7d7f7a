"""Everything that is measured, size after size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fbkit.benchmarks.fresh_process import FreshProcess, measure_fresh_process
from fbkit.benchmarks.machine import describe_machine
from fbkit.benchmarks.personalize.contenders import (
    Contender,
    torch_body_each_epoch,
    torch_cached_features,
    torch_full,
)
from fbkit.benchmarks.personalize.joint_graph import executorch_joint_graph, lower_joint_graph
from fbkit.benchmarks.personalize.one_look import OneLook, Prediction, compare_with_one_look, time_predictions
from fbkit.benchmarks.personalize.subject import Place, prepare
from fbkit.benchmarks.personalize.timing import Trail, take_turns
from fbkit.console import Reporter
from fbkit.device_runtime.chatter import without_chatter
from fbkit.device_runtime.solvers.sgd import Schedule, default_schedule
from fbkit.export.quiet import quiet_exporters
from fbkit.files import write_json
from fbkit.train.memory import keep_freed_memory

SCHEMA, VERSION = "fbkit.bench-personalize", 1

BODY_EACH_EPOCH = "PyTorch, body each epoch"
CACHED = "PyTorch, cached features"
JOINT = "ExecuTorch, joint graph"
FULL = "PyTorch, everything"


@dataclass(frozen=True)
class Plan:
    """What is asked for: sides in pixels, and how often each thing is done."""

    sides: tuple[int, ...]
    pictures: int
    epochs: int
    turns: int
    threads: int
    rounds: int | None


@dataclass(frozen=True)
class Found:
    """Of one size."""

    side: int
    one_look: OneLook
    prediction: Prediction
    fresh: FreshProcess
    trails: dict[str, list[Trail]]


def measure(plan: Plan, out: Path, reporter: Reporter) -> list[Found]:
    """Make what is not there yet, and measure.

    Raises:
        UserError: the folder holds a run of another number of rounds, or a process that is measured fails.
    """
    torch.set_num_threads(plan.threads)
    keep_freed_memory()  # as fbkit's own training does: PyTorch is to be at its best
    _set_executorch_threads(plan.threads)
    return [_measure_side(side, plan, Place(out), out / "scratch", reporter) for side in plan.sides]


def _measure_side(side: int, plan: Plan, place: Place, scratch: Path, reporter: Reporter) -> Found:
    subject = prepare(place, side, plan.pictures, plan.rounds, plan.threads, reporter)
    recommended = default_schedule(subject.bundle.manifest.personalization)
    schedule = Schedule(plan.epochs, recommended.lr, recommended.momentum, recommended.batch_size)
    joint = lower_joint_graph(subject, schedule.batch_size)
    contenders: dict[str, Contender] = {
        CACHED: torch_cached_features,
        BODY_EACH_EPOCH: torch_body_each_epoch,
        JOINT: partial(executorch_joint_graph, joint),
        FULL: torch_full,
    }
    fresh = measure_fresh_process(place.bundle(side), subject.personal, plan.threads)
    one_look = compare_with_one_look(subject, schedule, scratch / "profile", plan.turns, reporter)
    prediction = time_predictions(subject, scratch / "profile")
    trails = take_turns(contenders, subject, schedule, scratch, plan.turns, reporter)
    return Found(side, one_look, prediction, fresh, trails)


def _set_executorch_threads(threads: int) -> None:
    with quiet_exporters(), without_chatter():
        from executorch.extension.pybindings import _C

        _C._unsafe_reset_threadpool(threads)


def write_results(found: Sequence[Found], plan: Plan, path: Path) -> None:
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "machine": describe_machine(),
        "plan": asdict(plan),
        "found": [asdict(one) for one in found],
    }
    write_json(path, result)
