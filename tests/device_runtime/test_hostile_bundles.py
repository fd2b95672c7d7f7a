"""Thousands of ways to break a bundle: each is refused in a line and in time, or the bundle computes what it did."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.body import normalise
from fbkit.device_runtime.manifest import read_manifest
from fbkit.device_runtime.probe import relative_error
from fbkit.errors import UserError
from fbkit.export.exporting import Options, export_run
from fbkit.train.run_folder import Run
from tests.device_runtime.mutations import kinds
from tests.device_runtime.trial_server import fast_python

COUNT = 1100  # for each target; a sample has each kind of mutation once
REAL = 20  # one in so many is tried by the real command, which imports its runtime anew
SECONDS = 5.0


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with fast_python(tmp_path_factory.mktemp("server")) as program:
        yield program


@pytest.fixture(scope="module")
def whole(bundle_folder: Path, small_run: Run, full: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of each target; in full one with everything that a bundle can have."""
    if not full:
        return bundle_folder
    target = read_manifest(bundle_folder).target
    options = Options(with_model=True, with_training_module=target == "executorch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "0")  # the same bytes each time, and so the same mutations
        return export_run(small_run.folder, target, tmp_path_factory.mktemp("whole") / target, options).folder


def test_every_mutation_is_refused_by_name_and_in_time_or_does_no_harm(
    whole: Path, fast: Path, tmp_path: Path, own_cache: Path, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Bundle.open(whole)
    target = original.manifest.target
    drawn = kinds(target)
    tally: Counter[str] = Counter()
    for number in range(COUNT if full else len(drawn)):
        kind = drawn[number % len(drawn)]
        folder = Path(shutil.copytree(whole, tmp_path / "work" / "bundle"))
        kind.apply(folder, random.Random(f"{target} {number}"))  # noqa: S311  it hides nothing
        with monkeypatch.context() as patch:
            forked = number % REAL != REAL - 1
            if forked:
                patch.setattr(sys, "executable", str(fast))
            before, started = written(folder.parent, own_cache), time.monotonic()
            outcome = attempt(folder, original)
            seconds = time.monotonic() - started
        place = f"{target} {number}, {kind}"
        # The start of the real command is its imports, and as slow as the machine is busy.
        assert seconds < SECONDS or not forked, f"{place}: {outcome} after {seconds:.1f} s"
        if outcome != "opened":
            assert outcome in (*original.manifest.files, "manifest.json"), f"{place}: {outcome}"
            assert written(folder.parent, own_cache) == before, place
        tally["sealed" if kind.sealed else "not sealed"] += 1
        tally[outcome] += 1
        shutil.rmtree(folder.parent)
    sys.stdout.write(f"{target}: {dict(sorted(tally.items()))}\n")
    assert tally["sealed"] > tally["not sealed"]
    assert 0 < tally["opened"] < number // 4


def attempt(folder: Path, original: Bundle) -> str:
    """Open a mutated bundle: ``opened``, the name of the file for which it was refused, or what is wrong with that."""
    try:
        bundle = Bundle.open(folder)
    except UserError as error:
        message = str(error)
        if "\n" in message or len(message) > 1500:
            return f"not a line: {message}"
        names = [name for name in (*original.manifest.files, "manifest.json") if name in message]
        return min(names, key=message.index) if names else f"no file named: {message}"
    probe = original.probe
    features = bundle.body.features(normalise(probe.pictures, original.manifest.input))
    errors = [relative_error(features, probe.features), relative_error(bundle.head.logits(features), probe.logits)]
    return "opened" if np.max(errors) <= original.manifest.feature_tolerance else f"computes something else: {errors}"


def written(*folders: Path) -> dict[Path, tuple[int, int, int]]:
    """What lies in the folders, without reading it: some of it is a pipe, or ten gigabytes long."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            status = path.lstat()
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found
