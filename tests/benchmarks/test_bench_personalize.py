"""Everyone starts from the same, and the ways to train the head alone all lead to the same head."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbkit.benchmarks.fresh_process import measure_fresh_process
from fbkit.benchmarks.personalize.contenders import (
    Contender,
    torch_body_each_epoch,
    torch_cached_features,
    torch_full,
)
from fbkit.benchmarks.personalize.joint_graph import executorch_joint_graph, lower_joint_graph
from fbkit.benchmarks.personalize.one_look import OneLook, Prediction, compare_with_one_look, time_predictions
from fbkit.benchmarks.personalize.subject import JPEG_SIZE, Subject, subject_of, write_user
from fbkit.benchmarks.personalize.timing import take_turns
from fbkit.console import Reporter
from fbkit.device_runtime import Bundle, Schedule
from fbkit.train import Run
from tests.conftest import Outcome

SCHEDULE = Schedule(epochs=3, lr=0.05, batch_size=8)  # 20 pictures: the last batch of an epoch is not full
QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def subject(small_run: Run, onnx_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    user = tmp_path_factory.mktemp("bench") / "user"
    write_user(user, 20)
    model = small_run.load_model()
    model.eval()
    return subject_of(Bundle.open(onnx_bundle, threads=1), model, user)


def test_all_ways_to_train_the_head_lead_to_the_same_predictions(subject: Subject, tmp_path: Path) -> None:
    joint = lower_joint_graph(subject, SCHEDULE.batch_size)
    contenders: dict[str, Contender] = {
        "each epoch": torch_body_each_epoch,
        "cached": torch_cached_features,
        "joint": partial(executorch_joint_graph, joint),
        "full": torch_full,
    }
    trails = take_turns(contenders, subject, SCHEDULE, tmp_path / "scratch", 2, QUIET)
    assert list(trails) == ["fbkit, exact", "fbkit, sgd", *contenders]
    assert not (tmp_path / "scratch").exists()
    for turns in trails.values():
        first, second = turns
        assert first.accuracy == second.accuracy, "the same start leads to the same end"
        assert all(list(one.seconds) == sorted(one.seconds) and one.seconds[0] > 0 for one in turns)
    for name in ("each epoch", "cached", "joint"):
        assert trails[name][0].accuracy == trails["fbkit, sgd"][0].accuracy[: SCHEDULE.epochs], name
    assert len(trails["full"][0].accuracy) == SCHEDULE.epochs
    start = float(
        (
            subject.bundle.head.logits(subject.bundle.body.features(subject.unseen)).argmax(1) == subject.unseen_labels
        ).mean()
    )
    assert trails["fbkit, exact"][0].accuracy[-1] > 100 * start


def test_the_user_has_camera_pictures_and_others_to_be_asked_of(tmp_path: Path) -> None:
    write_user(tmp_path / "user", 7)
    learned = sorted((tmp_path / "user" / "personal").glob("*/*.jpg"))
    unseen = sorted((tmp_path / "user" / "unseen").glob("*/*.jpg"))
    assert (len(learned), len(unseen)) == (7, 200)
    assert not {path.name for path in learned} & {path.name for path in unseen}
    with Image.open(learned[0]) as picture:
        assert picture.size == JPEG_SIZE
        assert np.abs(np.diff(np.asarray(picture.convert("L")).astype(int))).mean() > 2, "it lacks a sensor's noise"


def test_one_look_a_prediction_and_a_fresh_process_are_measured(subject: Subject, tmp_path: Path) -> None:
    look = compare_with_one_look(subject, SCHEDULE, tmp_path / "scratch", 2, QUIET)
    assert len(look.look) == len(look.whole["exact"]) == len(look.whole["sgd"]) == 2
    assert min(*look.look, *look.whole["exact"]) > 0
    prediction = time_predictions(subject, tmp_path / "scratch")
    assert prediction.whole > prediction.body > 0
    assert not (tmp_path / "scratch").exists()
    fresh = measure_fresh_process(subject.bundle.folder, subject.personal, threads=1)
    assert fresh.memory_personalizing is not None
    assert fresh.memory_predicting is not None
    assert fresh.memory_personalizing >= fresh.memory_predicting > 30e6


def test_ratios_are_taken_pair_by_pair() -> None:
    assert OneLook((1.0, 2.0, 4.0), {"exact": (1.1, 4.0, 4.2)}).ratio("exact") == pytest.approx(1.1)
    assert Prediction(look=0.010, body=0.008, whole=0.0104).overhead == pytest.approx(0.05)


def test_the_command_leaves_tables_and_a_plot(fbkit: Callable[..., Outcome], tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains a MobileNetV2 for a minute or two: in full only (make test-all)")
    out = tmp_path / "out"
    command = ("bench", "personalize", "--out", out, "--rounds", 1, "--pictures", 10, "--turns", 1, "--threads", 1)
    shown = fbkit(*command, "--size", 32, "--size", 96)
    assert shown.code == 0, shown.err
    text = (out / "personalize.md").read_text()
    assert text in shown.out
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## 32 pixels", "## 96 pixels"]
    result = json.loads((out / "personalize.json").read_text())
    assert [one["side"] for one in result["found"]] == [32, 96]
    assert (out / "personalize.png").stat().st_size > 10_000
    refused = fbkit("bench", "personalize", "--out", out, "--rounds", 2)
    assert refused.code == 2
    assert "has other --rounds" in refused.err


def test_a_folder_of_something_else_is_left_alone(fbkit: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    refused = fbkit("bench", "personalize", "--out", tmp_path)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]
