"""The native runner, cross-compiled for 64-bit Arm, gives on the emulated device what Python gives on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from tests.arm64.conftest import Device
from tests.conftest import Outcome
from tests.native.agreement import TOLERANCE, assert_same_profile
from tests.native.conftest import build

PICTURES = DEMO / "pictures"


@dataclass(frozen=True)
class Program:
    """The program on the emulated device."""

    device: Device
    path: Path

    def json(self, *arguments: object) -> Any:
        return json.loads(self.device.run(self.path, *map(str, arguments), "--json"))


@pytest.fixture(scope="module")
def program(full: bool, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    if not full:
        pytest.skip("cross-compiles the runner: in full only (make test-all)")
    device: Device = request.getfixturevalue("device")
    return Program(device, build(tmp_path_factory, "aarch64") / "fbkit-device")


def python(fbkit: Callable[..., Outcome], *arguments: object) -> Any:
    outcome = fbkit(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize(
    ("options", "python_only"),
    [((), ()), (("--solver", "sgd", "--absent", "mask"), ("--step", "graph"))],
    ids=["exact", "step graph"],
)
def test_heads_features_and_verdicts_are_pythons(
    options: tuple[str, ...],
    python_only: tuple[str, ...],
    program: Program,
    pte_bundle: Path,
    fbkit: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    there = program.json("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "there", *options)
    given = ("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "here", *options, *python_only)
    here = python(fbkit, *given)
    assert_same_profile(tmp_path / "there", tmp_path / "here", Bundle.open(pte_bundle))
    assert there["verdict"]["reason"] == here["verdict"]["reason"]
    assert there["loss_after"] == pytest.approx(here["loss_after"], rel=TOLERANCE)

    test = PICTURES / "test"
    found, expected = (
        run("evaluate", pte_bundle, test, "--profile", tmp_path / side)
        for run, side in ((program.json, "there"), (lambda *a: python(fbkit, *a), "here"))
    )
    assert found == pytest.approx(expected, rel=TOLERANCE)
    paths = sorted(test.glob("*/*"))
    predicted = program.json("predict", pte_bundle, *paths, "--profile", tmp_path / "there")["predictions"]
    known = Personalizer(Bundle.open(pte_bundle), tmp_path / "here").predict(paths)
    for own, other in zip(predicted, known, strict=True):
        assert own["label"] == other.label
        assert own["probabilities"] == pytest.approx(other.probabilities, abs=TOLERANCE)


def test_200_pictures_in_colour_through_an_int8_body(
    program: Program, tmp_path: Path, full: bool, request: pytest.FixtureRequest
) -> None:
    """JPEG and PNG of every kind: a profile made on the device is continued here, and predicts the same on both."""
    if not full:
        pytest.skip("in full only (make test-all)")
    colour_bundle, mixed = (request.getfixturevalue(name) for name in ("colour_bundle", "mixed"))
    bundle = Bundle.open(colour_bundle)
    assert program.json("check", colour_bundle)["ok"]
    given = ("personalize", colour_bundle, mixed, "--profile", tmp_path / "profile", "--solver", "exact")
    assert sum(program.json(*given)["pictures"].values()) == 200
    paths = sorted(mixed.glob("*/*"))
    predicted = program.json("predict", colour_bundle, *paths, "--profile", tmp_path / "profile")["predictions"]
    known = Personalizer(bundle, tmp_path / "profile").predict(paths)
    decided = 0
    for own, other in zip(predicted, known, strict=True):
        error = max(abs(own["probabilities"][name] - value) for name, value in other.probabilities.items())
        assert error < 0.02
        first, second = sorted(other.probabilities.values())[:-3:-1]
        if first - second > 2 * error:
            decided += 1
            assert own["label"] == other.label
    assert decided > 180
    assert Personalizer(bundle, tmp_path / "profile").fit(mixed).computed == 0
