"""``fbkit-device bench`` beside ``fbkit bench device``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fbkit.benchmarks.convergence.result import convergence_result_from_json
from fbkit.benchmarks.device.facts import describe_device, observe
from fbkit.benchmarks.device.result import BATCHES, device_result_from_json
from fbkit.device_runtime import Bundle
from fbkit.device_runtime.demo import FOLDER as DEMO
from tests.benchmarks.test_bench_device import assert_curves_are_those_of_plain_fits
from tests.conftest import Outcome
from tests.native.conftest import Native

PICTURES = DEMO / "pictures"


def test_the_native_runner_gives_the_same_kind_of_result(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    ended = native.run("bench", pte_bundle, PICTURES, "--out", tmp_path / "result.json", "--turns", 2)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "result.json").read_text())
    result = device_result_from_json(found, "native")
    here = describe_device()
    assert json.loads(json.dumps(result.to_json())) == found
    for what in ("model", "processor", "architecture", "cores", "features", "memory", "system", "kernel", "emulated"):
        assert getattr(result.machine, what) == getattr(here, what)
    assert result.before.governor == observe().governor
    assert result.subject.name == pte_bundle.name
    assert [latency.batch for latency in result.latency] == list(BATCHES)
    assert all(0 < each.median <= each.p95 <= each.p99 for each in result.latency)
    assert all(start.memory_steady and start.opening > 0 for start in result.start)
    assert_curves_are_those_of_plain_fits(result, Bundle.open(pte_bundle), tmp_path)


def test_a_comparison_has_the_native_runner_beside_python(
    sanitized: Path, pte_bundle: Path, clients: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    asked = ("--solver", "exact", "--solver", "nearest", "--pictures", 3, "--native", sanitized)
    ended = fbkit("bench", "convergence", pte_bundle, "--clients", clients, "--out", tmp_path / "out", *asked)
    assert ended.code == 0, ended.err
    result = convergence_result_from_json(json.loads((tmp_path / "out" / "convergence.json").read_text()), "x")
    assert [subject.target for subject in result.subjects] == ["executorch", "native"]
    curves = {(curve.subject, curve.solver, curve.client): curve for curve in result.curves}
    assert len(curves) == 3 * len(result.clients)  # the native runner knows no templates
    for client in result.clients:
        python, native = (curves[subject, "exact", client] for subject in (0, 1))
        assert native.pictures == python.pictures
        assert native.accuracy[0] == python.accuracy[0]
        assert python.loss
        assert native.loss
        assert native.loss[-1] == pytest.approx(python.loss[-1], rel=1e-2)


def test_what_cannot_be_measured_is_refused(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    for given, said in (
        ((tmp_path, PICTURES), "manifest.json"),
        ((pte_bundle, tmp_path), "no such folder"),
        ((pte_bundle, PICTURES, "--turns", 0), "turns"),
        ((pte_bundle, PICTURES, "--out", tmp_path / "nowhere" / "x.json"), "nowhere"),
    ):
        ended = native.run("bench", *given, *(() if "--turns" in given else ("--turns", 1)))
        assert ended.code == 2
        assert said in ended.err
