"""The measuring, on Python's device runtime."""

from __future__ import annotations

import importlib.metadata
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from fbkit.benchmarks.device.facts import describe_device, observe
from fbkit.benchmarks.device.result import BATCHES, SOLVERS, DeviceResult, Disk, Latency, Learning, Point, Subject
from fbkit.benchmarks.fresh_process import measure_fresh_process
from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.device_runtime.fitting import Recipe, Solver, default_recipe
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.tensors import Bytes, Float, Labels

_SECONDS, _MOST_SECONDS = 0.5, 5.0  # of one latency
_LEAST, _MOST = 20, 1000  # calls
_WARM_UP = 3


def measure_device(
    folder: Path, pictures: Path, threads: Sequence[int | None], turns: int, reporter: Reporter
) -> DeviceResult:
    """Measure a bundle on this machine.

    Args:
        pictures: folder ``train/CLASS/PICTURE`` to learn from, and ``test/CLASS/PICTURE`` to be judged by.
        threads: of an ONNX body, each of them; None leaves it to onnxruntime.
        turns: how often processes are started and heads are fitted.

    Raises:
        UserError: the bundle or the pictures cannot be used.
    """
    before = observe()
    bundle = Bundle.open(folder, threads[0])
    train, test = (read_class_folder(pictures / part, bundle.classes) for part in ("train", "test"))
    with reporter.stage("fresh processes", turns) as advance:
        start = []
        for _ in range(turns):
            start.append(measure_fresh_process(folder, pictures / "train", threads[0]))
            advance("")
    decoded = [bundle.decode(picture.path.read_bytes(), str(picture.path)) for picture in test[: max(BATCHES)]]
    latency = []
    choices = threads if bundle.manifest.target == "onnx" else [None]
    with reporter.stage("predictions", len(choices) * len(BATCHES)) as advance:
        for choice in choices:
            opened = Bundle.open(folder, choice)
            for batch in BATCHES:
                latency.append(_latency(opened, decoded, batch, choice))
                advance("")
    with reporter.stage("personalizations", len(SOLVERS) * turns) as advance, TemporaryDirectory() as scratch:
        learning = []
        features, labels = Personalizer(bundle).read_folder(pictures / "test")
        for solver in SOLVERS:
            learned = []
            for turn in range(turns):
                profile = Path(scratch) / f"{solver}-{turn}"
                learned.append(_learn(bundle, pictures / "train", profile, solver, features, labels))
                advance("")
            learning.append(_median(learned))
    manifest = bundle.manifest
    return DeviceResult(
        machine=describe_device(),
        before=before,
        after=observe(),
        subject=Subject(
            name=folder.resolve().name,
            digest=manifest.identity,
            target=manifest.target,
            precision=manifest.precision,
            pixels=max(manifest.input.height, manifest.input.width),
            classes=len(manifest.classes),
            features=manifest.features,
            runtime=bundle.body.runtime,
            pictures=len(train),
            unseen=len(test),
        ),
        disk=Disk(
            sum(path.stat().st_size for path in folder.iterdir()), _runtime_bytes(bundle.body.runtime.split()[0])
        ),
        start=tuple(start),
        latency=tuple(latency),
        learning=tuple(learning),
    )


def _latency(bundle: Bundle, decoded: Sequence[Bytes], batch: int, threads: int | None) -> Latency:
    pictures = [decoded[place % len(decoded)] for place in range(batch)]
    seconds: list[float] = []
    for _ in range(_WARM_UP):
        bundle.head.probabilities(bundle.features(pictures))
    began = time.perf_counter()
    while len(seconds) < _MOST:
        started = time.perf_counter()
        bundle.head.probabilities(bundle.features(pictures))
        ended = time.perf_counter()
        seconds.append(ended - started)
        if ended - began > (_SECONDS if len(seconds) >= _LEAST else _MOST_SECONDS):
            break
    return Latency(threads, batch, len(seconds), median(seconds), *np.percentile(seconds, (95, 99)).tolist())


def _learn(bundle: Bundle, train: Path, profile: Path, solver: Solver, features: Float, labels: Labels) -> Learning:
    """The heads are kept as they come and judged afterwards, so that judging costs no measured time."""
    heads: list[tuple[int, float, Head]] = [(0, 0.0, bundle.head)]
    recipe = default_recipe(bundle.manifest.personalization, solver)
    began = time.perf_counter()
    result = Personalizer(bundle, profile).fit(
        train,
        recipe,
        listener=lambda number, head, _: heads.append((number, time.perf_counter() - began, head)),
    )
    steps = _steps_a_round(recipe, sum(result.pictures.values()))
    points = [
        Point(number, number * steps, seconds, head.accuracy(features, labels), head.loss(features, labels))
        for number, seconds, head in heads
    ]
    return Learning(solver, (result.seconds,), tuple(points))


def _steps_a_round(recipe: Recipe, pictures: int) -> int:
    return 1 if recipe.schedule is None else -(-pictures // recipe.schedule.batch_size)


def _median(learned: Sequence[Learning]) -> Learning:
    """All turns' stages; the curve, which is the same each time, with the median of its times."""
    points = [
        replace(turns[0], seconds=median(point.seconds for point in turns))
        for turns in zip(*(each.points for each in learned), strict=True)
    ]
    return Learning(learned[0].solver, tuple(each.turns[0] for each in learned), tuple(points))


def _runtime_bytes(runtime: str) -> int:
    """Of the installed files of fbkit, of what runs the body, and of all packages that they need."""
    wanted, seen, size = ["fbkit", runtime], set[str](), 0
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # for another system
            continue
        paths = [Path(str(found.locate_file(file))) for file in found.files or []]
        size += sum(path.stat().st_size for path in paths if path.is_file())
        needs = [need for need in found.requires or [] if not re.search(r";.*\bextra\b", need)]
        wanted += [re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0] for need in needs]
    return size
