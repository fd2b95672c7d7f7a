"""``fbkit bench compare``: what moved beyond noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbkit.benchmarks.comparing import compare, interval
from fbkit.benchmarks.convergence.result import ConvergenceResult
from fbkit.benchmarks.device.result import DeviceResult
from tests.benchmarks.made_up import made_up_convergence
from tests.benchmarks.test_report import made_up_device
from tests.conftest import Outcome


@pytest.fixture
def compared(tmp_path: Path, fbkit: Callable[..., Outcome]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Exit code and what was found."""

    def run(before: ConvergenceResult | DeviceResult, after: ConvergenceResult | DeviceResult, *options: object) -> Any:
        for name, result in (("before", before), ("after", after)):
            (tmp_path / f"{name}.json").write_text(json.dumps(result.to_json()))
        asked = ("bench", "compare", tmp_path / "before.json", tmp_path / "after.json", *options)
        outcome = fbkit(*asked, "--json")
        assert outcome.code in (0, 1), outcome
        assert fbkit(*asked).code == outcome.code
        return outcome.code, json.loads(outcome.out)

    return run


def test_noise_alone_is_no_regression(compared: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, found = compared(made_up_convergence(noise=1), made_up_convergence(noise=2))
    assert code == 0
    assert found["regressed"] == 0
    assert len(found["changes"]) == 2 * 3 * 2 * 3
    moved = [compared(made_up_convergence(noise=1), made_up_convergence(noise=other))[1] for other in range(3, 13)]
    assert sum(any(change["moved"] for change in each["changes"]) for each in moved) <= 2


def test_a_body_that_became_worse_is_told_from_one_that_did_not(
    compared: Callable[..., tuple[int, dict[str, Any]]],
) -> None:
    before, after = made_up_convergence(noise=1), made_up_convergence(points=-2.0, noise=2)
    code, found = compared(before, after)
    assert code == 1
    regressed = [change for change in found["changes"] if change["regressed"]]
    assert all("fedbabu" in change["what"] for change in regressed)
    ends = [change for change in regressed if change["what"].startswith("accuracy afterwards")]
    assert len(ends) == 6
    for change in ends:
        assert change["change"] == pytest.approx(-2, abs=1)
        assert change["low"] <= change["change"] <= change["high"] < 0
        assert change["pairs"] == 20
    assert compared(after, before)[0] == 0, "better is no regression"
    assert compared(before, after, "--points", 5)[0] == 0


def test_slower_is_a_regression_past_the_threshold(compared: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    before, after = made_up_convergence(), made_up_convergence(slower=1.3, noise=1)
    code, found = compared(before, after, "--points", 100)
    assert code == 1
    regressed = [change for change in found["changes"] if change["regressed"]]
    assert {change["what"].partition(":")[0] for change in regressed} == {"time"}
    for change in regressed:
        assert change["change"] == pytest.approx(30, abs=5)
    assert compared(before, after, "--points", 100, "--percent", 50)[0] == 0
    emulated = replace(after, machine=replace(after.machine, emulated=True))
    assert compared(before, emulated, "--points", 100)[0] == 0


def test_changes_are_means_over_pairs_and_intervals_hold_them() -> None:
    before, after = made_up_convergence(noise=1), made_up_convergence(points=-1.0, noise=2)
    name = "accuracy afterwards: fedbabu, onnx fp32, sgd, 1 a class"
    change = next(each for each in compare(before, after, 0.5, 10) if each.what == name)
    pairs = [
        new.accuracy[-1] - old.accuracy[-1]
        for old, new in zip(before.curves, after.curves, strict=True)
        if before.subjects[old.subject].source == "fedbabu" and (old.solver, old.per_class) == ("sgd", 1)
    ]
    assert change.pairs == len(pairs) == 20
    assert change.change == pytest.approx(np.mean(pairs))
    assert change.low < np.mean(pairs) < change.high


@pytest.mark.parametrize("count", [10, 30])
def test_an_interval_holds_the_truth_as_often_as_it_says(count: int) -> None:
    """Of normal values, and against Student's t, which is exact for them: 2.262 and 2.045 standard errors."""
    rng = np.random.default_rng(5)
    student = {10: 2.262, 30: 2.045}[count]
    held, widths = 0, []
    for _ in range(300):
        values = rng.normal(0, 1, count)
        low, high = interval(values, 0.025)
        held += low <= 0 <= high
        widths.append((high - low) / 2 / (values.std(ddof=1) / np.sqrt(count)))
    assert 0.92 <= held / 300 <= 0.98
    assert np.median(widths) == pytest.approx(student, rel=0.1)
    assert interval(np.array([3.0]), 0.025) == (3.0, 3.0)
    assert interval(np.full(7, 2.0), 0.025) == (2.0, 2.0)


def test_devices_are_compared_by_their_times(compared: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, found = compared(made_up_device(2.0, emulated=False), made_up_device(3.0, emulated=False))
    assert code == 1
    regressed = {change["what"]: change["change"] for change in found["changes"] if change["regressed"]}
    assert regressed["prediction, 1 at once, 1 thread"] == pytest.approx(50)
    assert "start" not in regressed
    assert compared(made_up_device(2.0, emulated=False), made_up_device(2.01, emulated=False))[0] == 0
    code, found = compared(made_up_device(2.0, emulated=True), made_up_device(9.0, emulated=True))
    assert code == 0
    assert {change["what"].partition(":")[0] for change in found["changes"]} == {"accuracy afterwards"}


def test_what_cannot_be_compared_is_refused(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    curves, device = made_up_convergence(), made_up_device(2.0, emulated=False)
    others = replace(curves, subjects=tuple(replace(each, source="fedper") for each in curves.subjects))
    for name, result in (("curves", curves), ("device", device), ("others", others)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result.to_json()))
    for before, after, said in (
        ("curves", "device", "compare like"),
        ("curves", "others", "nothing in common"),
        ("curves", "none", "no such file"),
    ):
        outcome = fbkit("bench", "compare", tmp_path / f"{before}.json", tmp_path / f"{after}.json")
        assert outcome.code == 2
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
