from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fbkit.benchmarks.paper.asking import Asked, ask
from fbkit.benchmarks.paper.cells import PAPER, SMALL, Cell, Condition, Scale, pictures_of, recipe_of
from fbkit.benchmarks.paper.plan import Plan
from fbkit.benchmarks.paper.questions import QUESTIONS
from fbkit.benchmarks.paper.wanted import PAPER_TUNING, Tuning, Wanted
from fbkit.errors import UserError
from fbkit.train.recipe import load_recipe, recipe_to_toml
from tests.conftest import Outcome


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The whole protocol on 200 + 200 made-up pictures: two rounds of a narrow net on ten clients, two seeds."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("train", "t10k"):
        labels = np.repeat(np.arange(10, dtype=np.uint8), 20)
        images = rng.integers(0, 120, (200, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[2 * label + 3 : 2 * label + 6] += 100
        (root / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 200, 28, 28) + images.tobytes())
        (root / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 200) + labels.tobytes())
    return replace(
        SMALL,
        data={"source": "mnist", "root": str(root), "crop_padding": 1},
        model={"name": "conv4", "width": 4},
        clients=10,
        shards=(2, 5),
        conditions=(Condition(0.2, 1, 2), Condition(0.4, 1, 2), Condition(0.2, 2, 2)),
        base=Condition(0.2, 1, 2),
        alone=Condition(1.0, 1, 1),
        seeds=(0, 1),
        mus=(0.01, 0.1),
    )


@dataclass(frozen=True)
class Done:
    out: Path
    asked: Asked
    plan: Plan


def go(numbers: list[int], scale: Scale, out: Path, **options: object) -> Done:
    plans: list[Plan] = []
    asked = ask(numbers, scale, out, show_plan=plans.append, **options)  # type: ignore[arg-type]
    return Done(out, asked, plans[0])


@pytest.fixture(scope="module")
def asked(tiny: Scale, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """RQ1 and RQ3 from nothing, in two processes."""
    return go([1, 3], replace(tiny, shards=(2,)), tmp_path_factory.mktemp("paper") / "out", workers=2)


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def reports_of(out: Path, number: int) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / f"rq{number}").iterdir()}


@pytest.mark.parametrize("scale", [SMALL, PAPER], ids=lambda scale: scale.name)
def test_the_base_cells_are_the_same_run_in_every_question(scale: Scale) -> None:
    for algorithm in ("fedavg", "fedbabu"):
        for seed in scale.seeds:
            base = Cell(algorithm, scale.shards[0], scale.base, seed)
            assert all(base in question.wanted(scale) for question in QUESTIONS.values())
    penalised = Cell("fedprox", scale.shards[0], scale.base)
    assert penalised in QUESTIONS[3].wanted(scale)
    assert penalised in QUESTIONS[5].wanted(scale)


@pytest.mark.parametrize("scale", [SMALL, replace(PAPER, data={**PAPER.data, "root": "/data"})], ids=["small", "paper"])
def test_every_cell_has_a_recipe_that_train_can_load(scale: Scale, tmp_path: Path) -> None:
    cells = {cell for question in QUESTIONS.values() for cell in question.wanted(scale)}
    for cell in cells:
        recipe = recipe_of(cell, scale)
        path = tmp_path / f"{cell.name}.toml"
        assert not path.exists()  # every cell has a name of its own
        path.write_text(recipe_to_toml(recipe))
        assert load_recipe(path) == recipe
    grid = {
        (cell.shards, cell.condition.f, cell.condition.tau, cell.condition.rounds)
        for cell in QUESTIONS[1].wanted(scale)
    }
    if scale.name == "paper":
        assert grid == {
            (s, f, tau, rounds)
            for s in (10, 50, 100)
            for f in (0.1, 1.0)
            for tau, rounds in ((1, 320), (4, 80), (10, 32))
        }
    else:
        assert len(grid) == 9
        assert all(cell.condition.rounds >= 50 for cell in QUESTIONS[1].wanted(scale))
        assert {cell.seed for cell in cells} == {0, 1, 2}


def test_the_budget_counts_what_training_counts() -> None:
    counted = {
        algorithm: pictures_of(recipe_of(Cell(algorithm, 2, SMALL.base), SMALL), 10_000)
        for algorithm in ("fedavg", "fedrep", "ditto", "centralized")
    }
    assert counted == {"fedavg": 50_000, "fedrep": 100_000, "ditto": 100_000, "centralized": 500_000}


def test_two_wishes_for_one_fine_tuning_become_one() -> None:
    both = Wanted(tunings=(Tuning("full", 0.001, (1, 5)),)) | Wanted(templates=True, tunings=(PAPER_TUNING,))
    assert both == Wanted(templates=True, tunings=(Tuning("full", 0.001, (1, 5)),))
    assert both.names == ["templates", "full-lr0.001"]


def test_a_second_call_trains_nothing_and_reports_the_same(asked: Done, tiny: Scale) -> None:
    cells = 2 * 3 + 10 - 2  # RQ1's, and RQ3's without the two that they share
    assert len(asked.plan.tasks) == len(asked.plan.to_do) == 2 * cells
    assert len(list((asked.out / "runs").iterdir())) == len(list((asked.out / "evaluations").iterdir())) == 2 * cells
    assert len(list((asked.out / "recipes").iterdir())) == 2 * cells
    reports = {number: reports_of(asked.out, number) for number in (1, 3)}
    assert all(set(files) == {"report.md", "table.csv", "figure.png", "figure.svg"} for files in reports.values())
    before = files_below(asked.out / "runs") | files_below(asked.out / "evaluations")
    again = go([3, 1], replace(tiny, shards=(2,)), asked.out)
    assert again.plan.to_do == []
    assert files_below(asked.out / "runs") | files_below(asked.out / "evaluations") == before
    assert {number: reports_of(asked.out, number) for number in (1, 3)} == reports


def test_another_question_measures_only_what_is_new(asked: Done, tiny: Scale) -> None:
    scale = replace(tiny, shards=(2,), seeds=(0,))
    first = reports_of(asked.out, 1)["table.csv"]
    before = files_below(asked.out / "runs")
    both = go([2, 4], scale, asked.out, workers=1)
    assert {task.label for task in both.plan.to_do if not task.is_trained} == {
        "centralized-s2-seed0",
        "centralized-fixed-head-s2-seed0",
    }
    kept = files_below(asked.out / "runs")
    assert before.items() <= kept.items()
    assert len(both.asked.answers[2].tables[1].rows) == 2 * 4
    # RQ2 asks for more epochs of the fine-tuning that RQ1 has measured; RQ1's figure stays the same to the last digit.
    go([1], replace(tiny, shards=(2,)), asked.out)
    assert reports_of(asked.out, 1)["table.csv"] == first
    index = (asked.out / "index.md").read_text()
    assert [f"rq{number}/report.md" in index for number in range(1, 6)] == [True, True, True, True, False]


def test_pictures_may_move_between_two_questions(tiny: Scale, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains twice: in full only (make test-all)")
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(tiny.data["root"], here)
    scale = replace(
        tiny, shards=(2,), seeds=(0,), conditions=(tiny.base,), mus=(0.1,), data={**tiny.data, "root": str(here)}
    )
    go([5], scale, tmp_path / "out")
    here.rename(there)
    moved = go([4], replace(scale, data={**tiny.data, "root": str(there)}), tmp_path / "out")
    assert moved.plan.to_do
    assert all(task.is_trained for task in moved.plan.to_do)


def test_tables_are_means_and_deviations_of_the_evaluations(asked: Done, tiny: Scale) -> None:
    initial, personalized = asked.asked.answers[1].tables
    assert initial.columns == ("s", "method", "f=0.2, tau=1", "f=0.4, tau=1", "f=0.2, tau=2")
    assert [row[:2] for row in initial.rows] == [["2", "FedAvg"], ["2", "FedBABU"]]
    for row, algorithm in enumerate(("fedavg", "fedbabu")):
        for column, where in enumerate(tiny.conditions):
            starts, ends = [], []
            for seed in (0, 1):
                (path,) = (asked.out / "evaluations").glob(
                    f"{Cell(algorithm, 2, where, seed).name}-*-full-lr0.001.json"
                )
                record = json.loads(path.read_text())
                (after,) = [entry for entry in record["personalized"] if entry["epochs"] == 5]
                starts.append(np.mean(record["initial"]["batch"]["per_client"]))
                ends.append(np.mean(after["per_client"]))
            for table, values in ((initial, starts), (personalized, ends)):
                expected = f"{np.mean(values):.1f} ± {abs(values[0] - values[1]) / 2**0.5:.1f}"
                assert table.rows[row][2 + column] == expected

    rows = list(csv.DictReader((asked.out / "rq3" / "table.csv").open()))
    assert len(rows) == 10 * 2 * 2  # methods, seeds, before and after
    for line in rows:
        (path,) = (asked.out / "evaluations").glob(f"{line['run']}-full-lr0.001.json")
        record = json.loads(path.read_text())
        found = record["initial"]["batch"] if line["what"] == "initial" else record["personalized"][-1]
        if line["what"] == "fine-tuned":
            found = next(entry for entry in record["personalized"] if entry["epochs"] == int(line["epochs"]))
        ordered = sorted(found["per_client"])
        assert float(line["accuracy"]) == pytest.approx(np.mean(ordered), abs=1e-4)
        assert float(line["worst_decile"]) == pytest.approx(ordered[0], abs=1e-4)
        assert line["own_part"] == record["own_part"]
        assert int(line["clients_without_own"]) == len(record["without_own"])
    report = (asked.out / "rq3" / "report.md").read_text()
    assert "FedPer (own head)" in report
    assert "Local only: every client trains alone for 1 epochs" in report
    assert f"fbkit bench paper --rq 3 --scale small --out {asked.out}" in report


SCRIPT = """
import json, sys
from pathlib import Path
from fbkit.benchmarks.paper.asking import ask
from fbkit.benchmarks.paper.cells import Condition, SMALL
from fbkit.console import Reporter
from fbkit.errors import Interrupted
from dataclasses import replace

if __name__ == "__main__":
    long = Condition(0.2, 1, 100)  # rounds enough to be caught in the middle
    scale = replace(SMALL, data=json.loads(sys.argv[1]), model={"name": "conv4", "width": 4}, clients=10, shards=(2,),
                    conditions=(long,), base=long, seeds=(0,), mus=(0.1,))
    try:
        ask([5], scale, Path(sys.argv[2]), 2, reporter=Reporter())
    except Interrupted as error:
        sys.exit(str(error))
"""


def test_a_killed_or_interrupted_command_goes_on_to_the_same_result(tiny: Scale, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("kills runs of a hundred rounds: in full only (make test-all)")
    script, out, undisturbed = tmp_path / "script.py", tmp_path / "out", tmp_path / "undisturbed"
    script.write_text(SCRIPT)
    long = Condition(0.2, 1, 100)  # rounds enough to be caught in the middle
    scale = replace(tiny, shards=(2,), conditions=(long,), base=long, seeds=(0,), mus=(0.1,))
    command = [sys.executable, str(script), json.dumps(scale.data), str(out)]
    for number in (signal.SIGKILL, signal.SIGINT):
        before = set(out.glob("runs/*/checkpoints/*"))
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_until(lambda before=before: set(out.glob("runs/*/checkpoints/*")) - before)  # type: ignore[misc]
        os.killpg(process.pid, number)  # as a terminal does
        said = process.communicate(timeout=60)[1]
        assert process.returncode == (-9 if number == signal.SIGKILL else 1), said
        if number == signal.SIGINT:
            assert "stopped; what was done is kept, and the same command goes on from there" in said
            assert "Traceback" not in said
        wait_until(lambda: is_still(out))
    unfinished = [run for run in (out / "runs").iterdir() if not (run / "evaluation.json").exists()]
    assert unfinished
    done = go([5], scale, out, workers=1)
    assert any(task.label.startswith("fed") for task in done.plan.to_do)
    go([5], scale, undisturbed, workers=2)
    assert reports_of(out, 5)["table.csv"] == reports_of(undisturbed, 5)["table.csv"]


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_still(folder: Path) -> bool:
    """Whether nobody writes below the folder any more."""
    before = files_below(folder)
    time.sleep(1)
    return files_below(folder) == before


def test_a_failed_run_is_named(tiny: Scale, tmp_path: Path) -> None:
    scale = replace(tiny, shards=(50,), seeds=(0,))  # 50 shards a client are more than there are pictures
    for workers in (1, 2):
        with pytest.raises(UserError, match=r"-s50-.*shards of every class, but class") as failure:
            ask([1], scale, tmp_path / str(workers), workers)
        assert "\n" not in str(failure.value)


def test_a_damaged_evaluation_is_named(asked: Done, tiny: Scale) -> None:
    path = next((asked.out / "evaluations").glob("fedavg-s2-f0.4*.json"))
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:100])
        with pytest.raises(UserError, match="remove the file, and the same command measures it again"):
            ask([1], replace(tiny, shards=(2,)), asked.out)
    finally:
        path.write_bytes(whole)


def test_a_dry_run_writes_recipes_and_shows_the_budget(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    outcome = fbkit("bench", "paper", "--rq", 1, "--rq", 4, "--out", tmp_path / "out", "--dry-run")
    assert outcome.code == 0, outcome
    assert "9,900,000" in outcome.out  # 54 runs of 50, 150 or 200 thousand pictures, 5 epochs of fine-tuning each
    assert len(list((tmp_path / "out" / "recipes").iterdir())) == 54
    assert not list((tmp_path / "out" / "runs").iterdir())


def test_the_command_prints_tables_and_paths(
    tiny: Scale, tmp_path: Path, fbkit: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = replace(tiny, shards=(2,), seeds=(0,), mus=(0.1,), name="tiny")
    monkeypatch.setitem(__import__("fbkit.benchmarks.paper.cells", fromlist=["SCALES"]).SCALES, "tiny", scale)
    root = scale.data["root"]
    arguments = ("bench", "paper", "--rq", 5, "--scale", "tiny", "--data-root", root, "--workers", 1)
    outcome = fbkit(*arguments, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome
    for said in (
        "RQ5. Does it extend",
        "FedProx+BABU, mu=0.1",
        str(tmp_path / "out" / "rq5" / "report.md"),
        "index.md",
    ):
        assert said in outcome.out


def test_bad_input_ends_in_one_line(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    (tmp_path / "file").write_text("no")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").write_text("mine")
    (tmp_path / "of-paper").mkdir()
    (tmp_path / "of-paper" / "paper.json").write_text('{"schema": "fbkit.paper", "version": 1, "scale": "paper"}')
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "paper.json").write_text('{"schema": "fbkit.paper", "version": 9}')
    new = tmp_path / "new"
    cases = [
        (("--rq", 6, "--out", new), "--rq 6: the paper's questions are 1 to 5"),
        (("--rq", 0, "--out", new), "--rq 0"),
        (("--rq", 1, "--scale", "huge", "--out", new), "--scale huge: known are small and paper"),
        (("--rq", 1, "--scale", "paper", "--out", new), "give the folder that holds it with --data-root"),
        (("--rq", 1, "--scale", "paper", "--data-root", tmp_path, "--out", new), "CIFAR-100"),
        (("--rq", 1, "--out", tmp_path / "file"), "was not made by fbkit bench paper"),
        (("--rq", 1, "--out", tmp_path / "other"), "was not made by fbkit bench paper"),
        (("--rq", 1, "--out", tmp_path / "of-paper"), "holds results of --scale paper"),
        (("--rq", 1, "--out", tmp_path / "newer"), "choose another --out"),
    ]
    for arguments, said in cases:
        outcome = fbkit("bench", "paper", *arguments)
        assert outcome.code == 2, outcome
        assert said in outcome.err, outcome
        assert outcome.err.count("\n") == 1, outcome
    assert not new.exists()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thing"]


def test_one_command_at_a_time_works_in_a_folder(asked: Done, tiny: Scale) -> None:
    with pytest.raises(UserError, match="another fbkit bench paper works there"):
        ask(
            [1],
            replace(tiny, shards=(2,)),
            asked.out,
            show_plan=lambda _: void(ask([1], replace(tiny, shards=(2,)), asked.out)),
        )


def void(_: object) -> None:
    return None
