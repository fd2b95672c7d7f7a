"""``fbkit bench device``."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fbkit.benchmarks.device.facts import describe_device
from fbkit.benchmarks.device.result import BATCHES, DeviceResult, device_result_from_json
from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from fbkit.device_runtime.fitting import default_recipe
from fbkit.errors import UserError
from tests.conftest import Outcome, run_fbkit

PICTURES = DEMO / "pictures"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("device") / "result.json"
    ended = run_fbkit("bench", "device", DEMO / "bundle", PICTURES, "--out", out, "--turns", 2, "--threads", 1)
    assert ended.returncode == 0, ended.stderr
    assert "afterwards" in ended.stdout
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def assert_curves_are_those_of_plain_fits(result: DeviceResult, bundle: Bundle, folder: Path) -> None:
    """Each point's accuracy and loss, by fits of so many epochs, without a listener."""
    features, labels = Personalizer(bundle).read_folder(PICTURES / "test")
    assert [learned.solver for learned in result.learning] == ["exact", "sgd"]
    for learned in result.learning:
        first, *_, last = learned.points
        assert first.loss == pytest.approx(bundle.head.loss(features, labels), rel=1e-4)
        assert [point.round for point in learned.points] == list(range(len(learned.points)))
        seconds = [point.seconds for point in learned.points]
        assert seconds == sorted(seconds)
        profile = folder / learned.solver
        recipe = default_recipe(bundle.manifest.personalization, learned.solver)  # type: ignore[arg-type]
        Personalizer(bundle, profile).fit(PICTURES / "train", recipe)
        expected = Personalizer(bundle, profile).evaluate(PICTURES / "test")
        assert last.accuracy == expected.personal_accuracy
        assert last.loss == pytest.approx(expected.personal_loss, rel=1e-3)
        assert last.loss < first.loss
        for turn in learned.turns:
            assert set(turn) == {"decode", "body", "solver", "judging", "write"}
            assert all(value > 0 for value in turn.values())
    sgd = result.learning[1]
    assert [point.steps for point in sgd.points] == [point.round for point in sgd.points]  # 20 pictures, batches of 50


def test_a_result_holds_what_was_asked_for(measured: dict[str, Any], tmp_path: Path) -> None:
    result = device_result_from_json(measured, "here")
    assert json.loads(json.dumps(result.to_json())) == measured
    assert result.machine == describe_device()
    assert not result.machine.emulated
    assert result.machine.cores >= 1
    assert result.machine.memory > 10**8
    assert result.before.load >= 0
    assert result.subject.target == "onnx"
    assert (result.subject.pictures, result.subject.unseen) == (20, len(list(PICTURES.glob("test/*/*"))))
    assert result.disk.bundle == sum(path.stat().st_size for path in (DEMO / "bundle").iterdir())
    assert result.disk.runtime > 10**7
    for start in result.start:
        assert 0 < start.start < 60
        assert start.opening > 0
        assert start.first_prediction > 0
        assert start.memory_predicting
        assert start.memory_personalizing
        assert start.memory_steady
        assert start.memory_steady <= start.memory_predicting <= start.memory_personalizing
    assert [latency.batch for latency in result.latency] == list(BATCHES)
    for latency in result.latency:
        assert latency.threads == 1
        assert latency.count >= 5
        assert 0 < latency.median <= latency.p95 <= latency.p99
    assert_curves_are_those_of_plain_fits(result, Bundle.open(DEMO / "bundle"), tmp_path)


def test_what_cannot_be_measured_is_refused(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    for given, said in (
        ((tmp_path, PICTURES), "manifest.json"),
        ((DEMO / "bundle", tmp_path / "pictures"), "holds no pictures"),
        ((DEMO / "bundle", tmp_path / "nowhere"), "no such folder"),
        ((DEMO / "bundle", PICTURES, "--turns", 0), "turns"),
    ):
        outcome = fbkit("bench", "device", *given, "--out", tmp_path / "result.json")
        assert outcome.code == 2
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
    assert not (tmp_path / "result.json").exists()


def damaged(result: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(result)
    place: Any = result
    for step in path[:-1]:
        place = place[step]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("schema",), "other", "is no result of fbkit bench device"),
        (("version",), 2, "is no result of fbkit bench device"),
        (("machine",), [], "machine: must be an object"),
        (("machine", "cores"), True, "machine: cores: must be a whole number"),
        (("machine", "processor"), "a\x1b[2J", "machine: processor: must be printable text"),
        (("machine", "features"), "fma", "machine: features: must be a list"),
        (("latency", 1, "median"), "1", r"latency\[1\]: median: must be a number"),
        (("learning", 0, "points", 2, "loss"), KeyError, r"learning\[0\]: points\[2\]: loss is missing"),
        (("learning", 0, "turns", 0, "body"), None, r"learning\[0\]: turns\[0\].body: must be a number"),
        (("before", "throttled"), "no", "before: throttled: must be true or false"),
    ],
)
def test_a_damaged_result_is_refused_by_its_key(
    measured: dict[str, Any], path: tuple[str | int, ...], value: Any, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        device_result_from_json(damaged(measured, path, value), "x.json")
