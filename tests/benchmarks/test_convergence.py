"""``fbkit bench convergence``."""

from __future__ import annotations

import copy
import csv
import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbkit.benchmarks.clients import find_clients
from fbkit.benchmarks.convergence.groups import Group, confidence, group, line_of, summarize
from fbkit.benchmarks.convergence.measure import measure_client, nearest_template_head, some_of_each_class
from fbkit.benchmarks.convergence.result import Curve, convergence_result_from_json
from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.device_runtime.fitting import default_recipe
from fbkit.device_runtime.solvers.exact import fit_exact
from fbkit.device_runtime.solvers.sgd import Schedule, fit_sgd
from fbkit.errors import UserError
from fbkit.train.run_folder import Run
from tests.conftest import FBKIT, Outcome, run_fbkit

SHORT = ("--set", "training.rounds=2", "--set", "model.width=8", "--set", "training.cohort=2", "--seeds", 1)


def test_curves_are_those_of_the_solvers_on_so_many_pictures(onnx_bundle: Path, clients: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    for client in find_clients(clients):
        wanted = [("sgd:0.02", 0), ("exact", 0), ("nearest", 0), ("exact", 3)]
        sgd, exact, nearest, few = measure_client(bundle, client, wanted, epochs=4)
        personalizer = Personalizer(bundle)
        train, test = personalizer.read_folder(client.train), personalizer.read_folder(client.test)
        heads = [bundle.head]
        fit_sgd(
            bundle.head,
            *train,
            Schedule(epochs=4, lr=0.02),
            listener=lambda _n, head, _l, heads=heads: heads.append(head),  # type: ignore[misc]
        )
        assert sgd.accuracy == pytest.approx([head.accuracy(*test) for head in heads])
        assert sgd.loss == pytest.approx([head.loss(*test) for head in heads], rel=1e-4)
        assert sgd.steps == tuple(epoch * -(-len(train[1]) // 50) for epoch in range(5))
        assert sgd.seen == tuple(epoch * len(train[1]) for epoch in range(5))

        penalty = bundle.manifest.personalization.penalty
        assert exact.accuracy[-1] == fit_exact(bundle.head, *train, penalty).head.accuracy(*test)
        assert exact.accuracy[0] == bundle.head.accuracy(*test)

        features, labels = train
        means = {label: features[labels == label].mean(0) for label in set(labels.tolist())}
        distances = {label: np.linalg.norm(test[0] - mean, axis=1) for label, mean in means.items()}
        predicted = np.array(list(means))[np.argmin(list(distances.values()), axis=0)]
        assert nearest.accuracy == pytest.approx((bundle.head.accuracy(*test), 100 * np.mean(predicted == test[1])))
        assert nearest.loss is None

        for curve in (sgd, exact, nearest, few):
            assert curve.seconds[0] == 0
            assert list(curve.seconds) == sorted(curve.seconds)
            assert curve.features_seconds
            assert 0 < curve.features_seconds <= curve.seconds[1]
        held = Counter(picture.label for picture in read_class_folder(client.train, bundle.classes))
        assert few.pictures == sum(min(3, count) for count in held.values())
        assert exact.pictures == sum(held.values())


def test_who_has_more_pictures_has_the_fewer_among_them(onnx_bundle: Path, client: Path) -> None:
    pictures = read_class_folder(client / "train", Bundle.open(onnx_bundle).classes)
    drawn = {count: some_of_each_class(pictures, "client-1", count) for count in (1, 5, 20, 10_000)}
    for fewer, more in ((1, 5), (5, 20), (20, 10_000)):
        assert set(drawn[fewer]) <= set(drawn[more])
    assert all(count == 1 for count in Counter(picture.label for picture in drawn[1]).values())
    assert set(drawn[10_000]) == set(pictures)
    assert some_of_each_class(list(reversed(pictures)), "client-1", 5) == drawn[5]
    assert some_of_each_class(pictures, "client-2", 5) != drawn[5]


def test_a_class_without_pictures_has_no_template() -> None:
    features = np.array([[0, 0], [2, 0], [9, 9]], np.float32)
    head = nearest_template_head(features, np.array([0, 0, 2]), 4)
    assert head.logits(np.array([[1, 1], [8, 8], [-50, -50]], np.float32)).argmax(1).tolist() == [0, 2, 0]


def curve(accuracy: tuple[float, ...], client: str = "a", seconds: tuple[float, ...] | None = None) -> Curve:
    seconds = seconds or tuple(0.01 * place for place in range(len(accuracy)))
    return Curve(0, "sgd", 5, client, 60, 50, 0.001, seconds, accuracy, tuple(1.0 for _ in accuracy))


def grouped(*curves: Curve, seeds: tuple[int, ...] | None = None) -> Group:
    return Group("fedbabu", "onnx", "fp32", "sgd", 5, curves, seeds or tuple(0 for _ in curves))


def test_a_group_in_a_few_numbers() -> None:
    found = summarize(grouped(curve((10.0, 80, 94, 100)), curve((50.0, 96, 94, 95.0)), curve((30.0, 30, 30, 30.0))))
    assert (found.clients, found.pictures) == (3, 60)
    assert (found.shipped, found.final) == (30, 75)
    assert found.spread == pytest.approx(np.std([100, 95, 30]))
    assert found.worst == 30
    assert found.low <= 75 <= found.high
    # 90, 95 and 99% of its own end, for good: 2, 3, 3 epochs; 1, 1, 3; and none, 3 times.
    assert [reached.epochs for reached in found.reached] == [1, 1, 3]
    assert [reached.steps for reached in found.reached] == [2, 2, 6]
    assert [reached.seconds for reached in found.reached] == pytest.approx([0.01, 0.01, 0.03])
    assert summarize(grouped(*(curve((0.0, float(end))) for end in range(1, 31)))).worst == 2  # of 1, 2 and 3


def test_a_line_holds_each_clients_head_until_its_next() -> None:
    group = grouped(curve((10.0, 50, 90), "a", (0.0, 1.0, 4.0)), curve((20.0, 40), "b", (0.0, 2.0)))
    line = line_of(group, "seconds")
    assert line
    for at, mean in ((0.6, 15), (1.5, 35), (3.0, 45), (4.2, 65)):
        place = int(np.searchsorted(line.across, at))
        assert line.mean[place] == pytest.approx(mean)
    by_epochs = line_of(group, "epochs")
    assert by_epochs
    assert by_epochs.across.tolist() == [0, 1, 2]
    assert by_epochs.mean.tolist() == [15, 45, 65]
    assert (by_epochs.low <= by_epochs.mean).all()
    assert (by_epochs.mean <= by_epochs.high).all()
    assert (
        line_of(replace(group, curves=tuple(replace(each, loss=None) for each in group.curves)), "epochs", "loss")
        is None
    )


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        seeds = np.repeat(np.arange(20), 10)
        table = rng.normal(0, 1, 20)[seeds] + rng.normal(0, 1, 200)
        low, high = confidence(table[:, None], seeds.tolist())
        held += bool(low[0] <= 0 <= high[0])
    assert 0.85 <= held / 200 <= 1.0


@pytest.fixture(scope="module")
def compared(onnx_bundle: Path, pte_bundle: Path, clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("convergence") / "out"
    solvers = ("--solver", "exact", "--solver", "sgd", "--pictures", 2, "--pictures", 0, "--epochs", 3)
    ended = run_fbkit("bench", "convergence", onnx_bundle, pte_bundle, "--clients", clients, "--out", out, *solvers)
    assert ended.returncode == 0, ended.stderr
    assert "small-onnx" in ended.stdout
    assert str(out / "report" / "index.html") in ended.stdout
    return out


def test_bundles_are_compared_and_written_as_json_and_csv(compared: Path, clients: Path) -> None:
    value = json.loads((compared / "convergence.json").read_text())
    result = convergence_result_from_json(value, "x")
    assert json.loads(json.dumps(result.to_json())) == value
    assert len(result.curves) == 2 * 2 * 2 * 2  # bundles, clients, solvers, numbers of pictures
    assert [subject.target for subject in result.subjects] == ["onnx", "executorch"]
    assert result.clients == tuple(sorted(path.name for path in clients.iterdir()))
    assert result.command.startswith("fbkit bench convergence")
    rows = list(csv.DictReader((compared / "curves.csv").open()))
    assert len(rows) == sum(len(each.accuracy) for each in result.curves)
    assert {row["pictures_per_class"] for row in rows} == {"2", "all"}
    groups = group(result)
    assert len(groups) == 8
    onnx, pte = (
        next(each for each in groups if (each.target, each.solver, each.per_class) == (target, "exact", 0))
        for target in ("onnx", "executorch")
    )
    assert summarize(onnx).final == pytest.approx(summarize(pte).final, abs=0.5)


def test_the_same_command_measures_nothing_twice(
    compared: Path, onnx_bundle: Path, pte_bundle: Path, clients: Path, fbkit: Callable[..., Outcome]
) -> None:
    before = (compared / "convergence.json").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in (compared / "curves").iterdir()}
    asked = ("bench", "convergence", onnx_bundle, pte_bundle, "--clients", clients, "--out", compared)
    options = ("--solver", "exact", "--solver", "sgd", "--pictures", 2, "--pictures", 0, "--epochs", 3)
    assert fbkit(*asked, *options).code == 0
    after = json.loads((compared / "convergence.json").read_bytes())
    assert after["curves"] == json.loads(before)["curves"]
    assert {path: path.stat().st_mtime_ns for path in (compared / "curves").iterdir()} == stamps
    assert fbkit(*asked, *options[2:]).code == 0  # by sgd alone: what is kept of exact is not shown
    assert {each["solver"] for each in json.loads((compared / "convergence.json").read_text())["curves"]} == {"sgd"}
    assert fbkit(*asked, *options).code == 0
    assert json.loads((compared / "convergence.json").read_text())["curves"] == json.loads(before)["curves"]


def test_killed_it_goes_on_to_the_same_curves(
    compared: Path, onnx_bundle: Path, pte_bundle: Path, clients: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    options = ("--solver", "exact", "--solver", "sgd", "--pictures", 2, "--pictures", 0, "--epochs", 3)
    asked = ["bench", "convergence", onnx_bundle, pte_bundle, "--clients", clients, "--out", out, *options]
    process = subprocess.Popen([str(part) for part in (FBKIT, *asked)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("curves/*.json")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = run_fbkit(*asked)
    assert ended.returncode == 0, ended.stderr
    mine, theirs = (
        [
            {**each, "seconds": 0, "features_seconds": 0}
            for each in json.loads((folder / "convergence.json").read_text())["curves"]
        ]
        for folder in (out, compared)
    )
    assert mine == theirs


def test_a_run_is_exported_and_its_held_out_clients_personalize(
    small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    out = tmp_path / "out"
    options = ("--target", "onnx", "--solver", "nearest", "--pictures", 1, "--seeds")
    refused = fbkit("bench", "convergence", small_run.folder, "--out", out, *options, 2)
    assert refused.code == 2
    assert "--seeds is for bodies that are trained" in refused.err
    ended = fbkit("bench", "convergence", small_run.folder, "--out", out, *options[:-1])
    assert ended.code == 0, ended.err
    result = convergence_result_from_json(json.loads((out / "convergence.json").read_text()), "x")
    assert [(subject.source, subject.seed) for subject in result.subjects] == [("fedbabu", 0)]
    assert len(result.clients) == small_run.recipe.clients.held_out == 10


def test_bodies_are_trained_where_none_is_given(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains by four algorithms: in full only (make test-all)")
    algorithms = ("fedavg", "fedbabu", "fedper", "fedrep")
    asked = [part for algorithm in algorithms for part in ("--algorithm", algorithm)]
    targets = ("onnx", "executorch")
    asked += [part for target in targets for part in ("--target", target)]
    options = (*SHORT, *asked, "--solver", "exact", "--pictures", 2, "--out", tmp_path / "out")
    process = subprocess.Popen(
        [str(part) for part in (FBKIT, "bench", "convergence", *options)], stderr=subprocess.PIPE
    )
    while process.poll() is None and not list(tmp_path.glob("out/runs/*/metrics.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert b"the same command goes on from there" in said
    ended = run_fbkit("bench", "convergence", *options)
    assert ended.returncode == 0, ended.stderr
    result = convergence_result_from_json(json.loads((tmp_path / "out" / "convergence.json").read_text()), "x")
    assert [subject.source for subject in result.subjects] == [name for name in algorithms for _ in targets]
    assert len(result.curves) == 10 * len(algorithms) * len(targets)


def test_bad_input_ends_in_one_line_and_trains_nothing(
    onnx_bundle: Path, clients: Path, small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    twin = Path(shutil.copytree(onnx_bundle, tmp_path / "twin" / onnx_bundle.name))
    half = Path(shutil.copytree(clients, tmp_path / "half"))
    shutil.rmtree(next(half.iterdir()) / "test")
    broken = Path(shutil.copytree(clients, tmp_path / "broken"))
    next(broken.rglob("*.png")).write_bytes(b"no")
    unfinished = Path(shutil.copytree(small_run.folder, tmp_path / "unfinished"))
    (unfinished / "evaluation.json").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    given = ("--clients", clients)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((onnx_bundle, twin, *given), "there are two named"),
        ((onnx_bundle, "--clients", half), "test: no such folder; every client needs one"),
        ((onnx_bundle, "--clients", tmp_path / "empty"), "holds no clients"),
        ((onnx_bundle, "--clients", sorted(clients.iterdir())[0]), "is a single client; give the folder that holds it"),
        (("--clients", tmp_path / "none"), "no such folder"),
        ((onnx_bundle, "--clients", broken), "not a picture that can be read"),
        ((tmp_path / "none", *given), "no such run or bundle folder"),
        ((tmp_path / "empty", *given), "neither a run (run.json) nor a bundle (manifest.json)"),
        ((unfinished,), "this run is not complete"),
        ((onnx_bundle,), "--clients is missing"),
        ((onnx_bundle, *given, "--algorithm", "fedavg"), "--algorithm is for bodies that are trained"),
        ((onnx_bundle, *given, "--set", "seed=1"), "--set is for bodies that are trained"),
        ((onnx_bundle, *given, "--target", "onnx"), "--target is for runs"),
        ((onnx_bundle, *given, "--precision", "int8"), "--precision is for runs"),
        (("--target", "tflite"), "--target tflite: known are onnx and executorch"),
        (("--precision", "fp16"), "--precision fp16: known are fp32 and int8"),
        ((onnx_bundle, *given, "--solver", "adam"), "--solver adam: known are exact, nearest, sgd"),
        ((onnx_bundle, *given, "--solver", "sgd:-1"), "--solver sgd:-1: known are"),
        ((onnx_bundle, *given, "--pictures", 10_001), "--pictures 10001"),
        ((onnx_bundle, *given, "--pictures", -1), "--pictures"),
        ((onnx_bundle, *given, "--native", tmp_path), "no such program; make it with: make native"),
        (("--set", "training.rounds=-1"), "training.rounds"),
        (("--algorithm", "fedsgd"), "fedsgd"),
    ]
    for number, (arguments, said) in enumerate(cases):
        outcome = fbkit("bench", "convergence", *arguments, "--out", tmp_path / f"out-{number}")
        assert outcome.code == 2, (arguments, outcome)
        assert said in outcome.err, (arguments, outcome)
        assert outcome.err.count("\n") == 1, (arguments, outcome)
        assert not list(tmp_path.glob("out-*/runs/*")), arguments
    outcome = fbkit("bench", "convergence", onnx_bundle, *given, "--out", tmp_path / "mine")
    assert outcome.code == 2
    assert "was not made by fbkit bench convergence" in outcome.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("schema",), "other", "is no result of fbkit bench convergence"),
        (("version",), 2, "is no result of fbkit bench convergence"),
        (("curves", 0, "accuracy", 1), 101.0, r"curves\[0\]: accuracy must be from 0 to 100"),
        (("curves", 0, "accuracy"), [1.0], r"curves\[0\]: seconds, accuracy and loss must be equally long"),
        (("curves", 1, "subject"), 7, r"curves\[1\]: subject, pictures or batch is not possible"),
        (("curves", 1, "seconds", 1), -1.0, r"curves\[1\]: seconds must not fall"),
        (("subjects", 0, "source"), "a\x1b[2J", r"subjects\[0\]: source: must be printable text"),
        (("machine",), None, "machine: must be an object"),
    ],
)
def test_a_damaged_result_is_refused_by_its_key(
    compared: Path, path: tuple[str | int, ...], value: object, said: str
) -> None:
    damaged = copy.deepcopy(json.loads((compared / "convergence.json").read_text()))
    place: Any = damaged
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(UserError, match=said):
        convergence_result_from_json(damaged, "x.json")


def test_a_damaged_file_of_curves_is_named(
    compared: Path, onnx_bundle: Path, clients: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    for path in (out / "curves").iterdir():
        path.write_text("{}")
    ended = fbkit("bench", "convergence", onnx_bundle, "--clients", clients, "--out", out, "--epochs", 3)
    assert ended.code == 2
    assert "remove the file, and the same command measures it again" in ended.err


def test_defaults_are_the_bundles(onnx_bundle: Path, client: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    folder = next(each for each in find_clients(client.parent) if each.train.parent == client)
    (by_sgd,) = measure_client(bundle, folder, [("sgd", 0)], None)
    schedule = default_recipe(bundle.manifest.personalization, "sgd").schedule
    assert schedule
    assert len(by_sgd.accuracy) == schedule.epochs + 1
    assert by_sgd.batch == schedule.batch_size
