"""``fbkit evaluate-run``: further questions to a finished run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fbkit.errors import UserError
from fbkit.train.recipe import EvaluationRecipe, PersonalizationRecipe, load_recipe
from fbkit.train.records import Evaluation
from fbkit.train.run_evaluation import evaluate_run
from fbkit.train.run_folder import Run
from fbkit.train.training import resume, train
from tests.conftest import SMALL, Outcome


@pytest.fixture(scope="module")
def fedper_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = [*SMALL, "training.algorithm=fedper", "training.calibrate=false", "evaluation.statistics=['batch']"]
    settings += ["personalization=[]", "evaluation.clients=all"]
    return train(load_recipe(None, settings), tmp_path_factory.mktemp("fedper") / "run", workers=1)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_asked_the_same_a_run_answers_the_same_on_any_number_of_workers(small_run: Run) -> None:
    before = files_of(small_run.folder)
    assert evaluate_run(small_run.folder, workers=1) == small_run.evaluation
    assert evaluate_run(small_run.folder, workers=2) == small_run.evaluation
    assert files_of(small_run.folder) == before


@pytest.mark.parametrize("norm", ["running", "group"])
def test_other_normalisations_answer_the_same_too(norm: str, tmp_path: Path) -> None:
    run = train(load_recipe(None, [*SMALL, f"model.norm={norm}"]), tmp_path / "run", workers=1)
    assert run.evaluation.calibration.kept == {"running": "running", "group": "not-needed"}[norm]
    assert evaluate_run(run.folder, workers=1) == run.evaluation
    # As after Ctrl-C in the evaluation: all rounds are done, none is run again.
    before = (run.folder / "body.safetensors").read_bytes()
    (run.folder / "evaluation.json").unlink()
    (run.folder / "body.safetensors").unlink()
    resumed = resume(run.folder, workers=1)
    assert (run.folder / "body.safetensors").read_bytes() == before
    assert resumed.evaluation == evaluate_run(run.folder, workers=1)


def test_heads_of_clients_answer_the_same_too(fedper_run: Run) -> None:
    found = evaluate_run(fedper_run.folder, workers=1)
    assert found == fedper_run.evaluation
    assert found.own_part == "head"
    assert found.initial.static is None
    assert len(found.without_own) == 100 - len(list((fedper_run.folder / "clients").iterdir()))


def test_a_lost_head_is_noticed(fedper_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(fedper_run.folder, folder)
    lost = sorted((folder / "clients").iterdir())[0]
    shutil.rmtree(lost)
    for workers in (1, 2):
        with pytest.raises(UserError, match=rf"clients/{lost.name}/round-0000\d\.safetensors: no such file"):
            evaluate_run(folder, workers=workers)


def test_the_pictures_may_have_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place, kind in enumerate("ab"):
        (tmp_path / "here" / kind).mkdir(parents=True)
        for number in range(25):
            Image.new("L", (8, 8), 10 * number + 5 * place).save(tmp_path / "here" / kind / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    settings = ["data.source=class-folders", "data.root=here", "data.size=8", "clients.count=4", "clients.held_out=1"]
    settings += ["training.rounds=1", "training.cohort=2", "model.width=4", "personalization=[]"]
    run = train(load_recipe(None, settings), tmp_path / "run", workers=1)
    monkeypatch.chdir("/")
    assert evaluate_run(run.folder, workers=1) == run.evaluation
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UserError, match="here: no such folder"):
        evaluate_run(run.folder, workers=1)
    assert evaluate_run(run.folder, workers=1, data_root=tmp_path / "there") == run.evaluation


def test_the_command_writes_figures_a_table_and_a_plot(
    small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    out = tmp_path / "asked"
    outcome = fbkit(
        *(
            "evaluate-run",
            small_run.folder,
            "--out",
            out,
            "--part",
            "head, full",
            "--epochs",
            "1,2",
            "--lr",
            "0.01,0.1,",
        ),
        *("--clients", "held-out", "--statistics", "static", "--templates", "--pooled", "--workers", 1),
    )
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in out.iterdir()) == [
        "clients.csv",
        "evaluation.json",
        "evaluation.png",
        "evaluation.svg",
    ]
    found = Evaluation.model_validate(json.loads((out / "evaluation.json").read_text()))
    assert [(after.part, after.lr, after.epochs) for after in found.personalized] == [
        (part, lr, epochs) for part in ("head", "full") for lr in (0.01, 0.1) for epochs in (1, 2)
    ]
    rows = list(csv.DictReader((out / "clients.csv").open()))
    assert len(rows) == 10 * (1 + 1 + 8)
    mine = [float(row["accuracy"]) for row in rows if (row["part"], row["epochs"], row["lr"]) == ("full", "2", "0.1")]
    assert mine == pytest.approx(found.personalized[-1].per_client, abs=1e-3)
    assert "nearest class template, no head, static statistics: " in outcome.out
    assert "linear probe" in outcome.out
    assert "after full fine-tuning, 2 epochs at 0.1, static statistics: " in outcome.out


def test_fine_tuning_agrees_with_the_function(small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    out = tmp_path / "asked"
    assert fbkit("evaluate-run", small_run.folder, "--out", out, "--part", "body", "--workers", 1).code == 0
    hows = [
        PersonalizationRecipe(part="body", epochs=(1, 5), lr=(0.01,), statistics=statistics)
        for statistics in ("batch", "static")
    ]
    expected = evaluate_run(small_run.folder, EvaluationRecipe(clients="held-out"), hows, workers=1)
    assert json.loads((out / "evaluation.json").read_text()) == expected.model_dump()


def test_what_cannot_be_asked_is_refused_in_one_line(
    small_run: Run, fedper_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(small_run.folder, unfinished)
    (unfinished / "evaluation.json").unlink()
    taken = tmp_path / "taken"
    taken.mkdir()
    new = tmp_path / "new"
    cases = [
        ((tmp_path / "none", "--out", new), "none: no such run folder"),
        ((unfinished, "--out", new), "this run is not complete; finish it with: fbkit train"),
        ((small_run.folder, "--out", taken), f"{taken}: exists already"),
        ((small_run.folder, "--out", new, "--part", "tail"), "personalization.0.part: "),
        ((small_run.folder, "--out", new, "--part", "head", "--epochs", "many"), "--epochs many: expected numbers"),
        ((small_run.folder, "--out", new, "--part", "head", "--lr", "-1"), "personalization.0.lr.0: "),
        ((small_run.folder, "--out", new, "--epochs", "3"), "say also what, with --part"),
        ((small_run.folder, "--out", new, "--clients", "nobody"), "evaluation.clients: "),
        ((small_run.folder, "--out", new, "--statistics", "running"), "evaluation.statistics.0: "),
        ((fedper_run.folder, "--out", new, "--pooled"), "every client has its own head"),
        ((fedper_run.folder, "--out", new, "--statistics", "static"), "static statistics need training.calibrate"),
    ]
    for arguments, said in cases:
        outcome = fbkit("evaluate-run", *arguments)
        assert outcome.code == 2, arguments
        assert said in outcome.err, (arguments, outcome.err)
        assert len(outcome.err.strip().splitlines()) == 1, outcome.err
        assert not new.exists()


def test_a_run_whose_pictures_changed_is_refused(small_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    description = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(description | {"data_fingerprint": "0" * 64}))
    with pytest.raises(UserError, match="was trained on other pictures"):
        evaluate_run(folder, workers=1)
