"""Whole runs through the public door, with real worker processes, real signals and real torchrun."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fbkit.errors import UserError
from fbkit.train.metrics import read_metrics
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run, open_run
from fbkit.train.training import resume, train
from fbkit.train.weights import save_weights
from tests.conftest import FBKIT, SMALL, Outcome, run_fbkit
from tests.train import processes
from tests.train.processes import TORCHRUN, children_of, flags, names_in, wait_for_round

WEIGHTS = ("body.safetensors", "head.safetensors")

# Few pictures a client, so that twenty rounds take seconds.
TWENTY_ROUNDS = (
    "model.width=6",
    "clients.count=1000",
    "clients.held_out=10",
    "training.rounds=20",
    "training.cohort=7",
    "training.weighting=examples",
    "personalization=[]",
    "evaluation.every=0",
)


def weights_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in WEIGHTS]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(load_recipe(None, TWENTY_ROUNDS), tmp_path_factory.mktemp("runs") / "undisturbed", workers=1)


def test_two_workers_and_one_give_the_same_bits_over_twenty_rounds(undisturbed: Run, tmp_path: Path) -> None:
    two = train(load_recipe(None, TWENTY_ROUNDS), tmp_path / "two", workers=2)
    assert weights_of(two.folder) == weights_of(undisturbed.folder)
    assert two.evaluation == undisturbed.evaluation
    losses = [[line["train_loss"] for line in read_metrics(run.folder)] for run in (two, undisturbed)]
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(small_run: Run, tmp_path: Path) -> None:
    again = train(small_run.recipe, tmp_path / "again", workers=1)
    assert weights_of(again.folder) == weights_of(small_run.folder)
    other = train(small_run.recipe.model_copy(update={"seed": 1}), tmp_path / "other", workers=1)
    assert weights_of(other.folder) != weights_of(small_run.folder)


def test_torchrun_says_what_is_wrong_once(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    command = (TORCHRUN, "--standalone", "--nproc-per-node", "2", FBKIT, "train", "--out", tmp_path / "taken")
    process = processes.start(*command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.count("exists already; choose another folder") == 1
    assert "RuntimeError" not in errors


def test_a_run_folder_holds_what_its_format_says(small_run: Run) -> None:
    folder = small_run.folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "body.safetensors",
        "checkpoints",
        "evaluation.json",
        "head.safetensors",
        "metrics.jsonl",
        "recipe.toml",
        "run.json",
        "tensorboard",
    ]
    assert load_recipe(folder / "recipe.toml") == small_run.recipe
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert [line["round"] for line in lines if "initial_accuracy" in line] == [2, 3]
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    values = [event.value for event in events.Scalars("train_loss")]
    assert values == pytest.approx([line["train_loss"] for line in lines])
    description = json.loads((folder / "run.json").read_text())
    assert description["seed"] == 0
    assert description["environment"]["torch"]
    evaluation = small_run.evaluation
    assert len(evaluation.clients) == 10
    assert [statistics for statistics, _ in evaluation.initial.measured()] == ["batch", "static"]
    assert evaluation.personalized[0].part == "head"


def test_fedbabus_head_in_the_run_is_the_one_drawn_from_the_seed(small_run: Run) -> None:
    start = small_run.build_model()
    head = load_file(small_run.folder / "head.safetensors")
    assert torch.equal(head["weight"], start.head.weight)
    assert torch.equal(head["bias"], start.head.bias)


def start_training(folder: Path, *more: str) -> subprocess.Popen[str]:
    return processes.start_training(folder, TWENTY_ROUNDS, *more)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_leaves_a_run_that_resume_continues_to_the_same_weights(
    undisturbed: Run, tmp_path: Path, workers: str, full: bool
) -> None:
    if not full and workers == "1":
        pytest.skip("with two workers here, with one in full (make test-all)")
    folder = tmp_path / "run"
    process = start_training(folder, "--workers", workers)
    wait_for_round(folder, 4)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("fbkit: stopped after round ")
    assert "--resume" in errors
    assert "Traceback" not in errors
    stopped = len(read_metrics(folder))
    assert 4 <= stopped < 20
    assert not (folder / "evaluation.json").exists()
    result = run_fbkit("train", "--out", folder, "--resume", "--workers", "1")
    assert result.returncode == 0, result.stderr
    assert weights_of(folder) == weights_of(undisturbed.folder)
    assert [line["round"] for line in read_metrics(folder)] == list(range(1, 21))


def test_ctrl_c_while_workers_start_ends_at_once_in_one_line(tmp_path: Path, full: bool) -> None:
    for place, seconds in enumerate([0.4, 1.0, 1.8, 2.4, 3.0] if full else [1.0, 2.2]):
        folder = tmp_path / str(place)
        process = start_training(folder, "--workers", "2", "--set", "training.rounds=100000")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert errors.strip().splitlines()[-1].startswith(("fbkit: interrupted", "fbkit: stopped")), errors
        assert "Traceback" not in errors


def test_sigterm_to_every_process_stops_after_the_round(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start_training(folder, "--workers", "2", "--set", "training.rounds=100000")
    wait_for_round(folder, 3)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    stopped = read_metrics(folder)[-1]["round"]
    assert errors.strip().splitlines()[-1].startswith(f"fbkit: stopped after round {stopped} ")
    assert names_in(folder / "checkpoints")[-1] == f"round-{stopped:05d}.safetensors"


def test_of_two_that_begin_or_go_on_with_one_run_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    endless = ("--workers", "1", "--set", "training.rounds=100000")
    both = [start_training(folder, *endless, "--resume") for _ in range(2)]
    wait_for_round(folder, 1)
    with pytest.raises(UserError, match="another fbkit train works there"):
        resume(folder, workers=1)
    while all(process.poll() is None for process in both):
        time.sleep(0.01)
    works, refused = sorted(both, key=lambda process: process.poll() is not None)
    _, errors = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert re.search(f"{folder}: (another fbkit train works there|cannot be made|exists already)", errors), errors
    assert works.poll() is None
    os.killpg(works.pid, signal.SIGKILL)
    works.communicate(timeout=60)


def test_resume_with_a_recipe_begins_a_run_that_is_not_there_and_refuses_that_of_another(
    small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    command = ("train", "--out", tmp_path / "run", "--workers", 1, "--resume", *flags(SMALL))
    began = fbkit(*command)
    assert began.code == 0, began.err
    assert weights_of(tmp_path / "run") == weights_of(small_run.folder)
    lines = [line for line in began.err.splitlines() if " round " in line]  # one a round, where there is no terminal
    assert [line.partition(":")[0] for line in lines] == [f"fedbabu round {number}/3" for number in (1, 2, 3)]
    assert all(re.search(r": loss \d+\.\d{3}, \d+ pictures/s", line) for line in lines)
    assert ["accuracy before personalization" in line for line in lines] == [False, True, True]
    complete = fbkit(*command)
    assert (complete.code, complete.err) == (0, "")
    for change, said in (
        ("training.rounds=4", "was begun with training.rounds = 3, not 4; to go on with it leave RECIPE and --set"),
        ("personalization=[]", "was begun with personalization = "),
    ):
        outcome = fbkit(*command, "--set", change)
        assert outcome.code == 2
        assert said in outcome.err
    outcome = fbkit("train", "--out", tmp_path / "run", *flags(SMALL))
    assert outcome.code == 2
    assert "exists already; choose another folder, or go on with this run: --resume" in outcome.err


def test_a_worker_that_dies_ends_the_run_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start_training(folder, "--workers", "2", "--set", "training.rounds=100000")
    wait_for_round(folder, 3)
    (worker,) = children_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "a training worker ended early (exit code -9)" in errors
    assert "Traceback" not in errors


def test_an_unfinished_run_is_not_loaded_and_a_finished_one_is_not_trained_again(
    small_run: Run, tmp_path: Path
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(small_run.folder, copied)
    before = weights_of(copied)
    assert resume(copied).is_complete
    assert weights_of(copied) == before
    (copied / "evaluation.json").unlink()
    with pytest.raises(UserError, match="not complete; finish it with: fbkit train"):
        open_run(copied).load_model()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    settings = [
        *SMALL,
        "training.lr=10",
        "training.weight_decay=100",
        "training.checkpoint_every=1",
        "training.rounds=50",
    ]
    with pytest.raises(UserError, match=r"training loss is (nan|inf) in round \d+; lower training\.lr"):
        train(load_recipe(None, settings), tmp_path / "run", workers=1)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())


def break_checkpoint(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:-100])


def rename_the_checkpoint(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    path.rename(path.with_name("round-00099.safetensors"))


def edit_description(folder: Path, **changes: object) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_input(folder: Path, **changes: object) -> None:
    edit_description(folder, input={**json.loads((folder / "run.json").read_text())["input"], **changes})


def shrink_a_tensor(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    tensors = load_file(path)
    save_weights(path, {**tensors, "head.bias": torch.zeros(3)}, {"round": "3"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_checkpoint, "not a whole safetensors file"),
        (shrink_a_tensor, "head.bias is torch.float32 [3], the recipe's model has torch.float32 [10]"),
        (lambda folder: (folder / "run.json").write_text("{"), "run.json: not readable as JSON"),
        (
            lambda folder: (folder / "run.json").write_text('{"schema": "fbkit.run", "version": 1}'),
            "format version 1, this fbkit reads 2",
        ),
        (lambda folder: edit_description(folder, classes=["a"]), "run.json: classes: List should have at least 2"),
        (lambda folder: (folder / "run.json").write_text("{}"), "run.json: schema: Field required"),
        (lambda folder: edit_description(folder, version=True), "run.json: format version True"),
        (lambda folder: edit_description(folder, data_fingerprint="x"), "was trained on other pictures"),
        (lambda folder: edit_input(folder, std=[0.0]), "run.json: input.std.0: "),
        (lambda folder: edit_input(folder, mean=[0.1, 0.2]), "mean and std need one number for each channel"),
        (rename_the_checkpoint, "does not carry the round that its name says"),
        (lambda folder: (folder / "metrics.jsonl").write_bytes(b"\xff\xfe{}\n{}\n"), "line 1 is broken"),
        (lambda folder: (folder / "recipe.toml").write_text("rounds = 3"), "was changed after training began"),
        (lambda folder: (folder / "metrics.jsonl").write_text("{\n{}\n"), "line 1 is broken"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(
    damage: Callable[[Path], object],
    said: str,
    small_run: Run,
    tmp_path: Path,
    fbkit: Callable[..., Outcome],
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(small_run.folder, folder)
    (folder / "evaluation.json").unlink()
    damage(folder)
    outcome = fbkit("train", "--out", folder, "--resume", "--workers", 1)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_commands_refuse_bad_input_in_one_line(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    cases = [
        (("train",), "Missing option '--out'"),
        (("train", "--out", full), f"{full}: exists already"),
        (("train", "--out", tmp_path / "new", "--workers", "0"), "--workers"),
        (("train", tmp_path / "none.toml", "--out", tmp_path / "new"), "none.toml: no recipe can be read"),
        (("train", "--out", tmp_path / "new", "--set", "training.rounds=0"), "training.rounds: "),
        (("train", "--out", tmp_path / "new", "--set", "clients.count=7"), "clients.held_out = 10 leaves none"),
        (("train", "--out", tmp_path / "new", "--resume"), "new: no such run folder"),
        (("train", "--out", tmp_path / "new", "--set", "clients.shards_per_client=3", "--workers", "1",
          "--set", "clients.count=33"), "cannot be dealt evenly"),
    ]  # fmt: skip
    for arguments, said in cases:
        outcome = fbkit(*arguments)
        assert outcome.code == 2, arguments
        assert said in outcome.err, arguments
        assert len(outcome.err.strip().splitlines()) == 1, outcome.err
        assert not (tmp_path / "new").exists()
