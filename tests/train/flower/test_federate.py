"""Runs over silos without Flower in between: the same run as the engine's, what leaves a silo, and who fails how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.export import export_run
from fbkit.train import evaluate_run, open_run, train
from fbkit.train.flower.federate import federate
from fbkit.train.flower.letters import DESCRIBE, EVALUATE, STATISTICS, TRAIN, Letter
from fbkit.train.flower.settings import read_recipe, read_settings
from fbkit.train.flower.silo_pictures import Place
from fbkit.train.metrics import read_metrics
from fbkit.train.run_folder import Run
from fbkit.train.weights import read_weights, save_weights
from tests.conftest import Outcome
from tests.train.flower.silos import (
    CLASSES,
    Direct,
    assert_same_model,
    direct,
    engine_recipe,
    settings,
    write_recipe,
    write_silos,
)

pytestmark = pytest.mark.usefixtures("cache_home")


class Notes(Reporter):
    """Keeps what people are told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return write_silos(tmp_path / "silos")


def run_over(
    channel: Direct,
    tmp_path: Path,
    notes: Reporter | None = None,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    recipe = read_recipe(write_recipe(tmp_path / "recipe.toml", **changes))
    chosen = settings({"out": str(tmp_path / "run"), **(options or {})})
    return federate(recipe, chosen, channel, notes or Reporter(quiet=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"algorithm": "fedbabu"}},
        {"training": {"algorithm": "fedavg", "weighting": "examples"}},
        {"training": {"algorithm": "fedbabu", "cohort": 1}, "model": {"norm": "running"}},
        {
            "training": {"algorithm": "fedavg", "momentum": 0.0},
            "model": {"norm": "group"},
            "data": {"channels": 1, "mean": [0.4], "std": [0.3]},
            "evaluation": {"templates": True, "statistics": ["static"]},
        },
    ],
    ids=["fedbabu-batch", "fedavg-batch-by-examples", "fedbabu-running-one-a-round", "fedavg-group-grey"],
)
def test_silos_end_where_the_engine_ends(changes: dict[str, Any], folders: list[Path], tmp_path: Path) -> None:
    least = {"min-answers": changes["training"].get("cohort", 2)}
    run = run_over(direct(folders), tmp_path, options=least, **changes)
    engine = train(engine_recipe(tmp_path / "silos", **changes), tmp_path / "engine", workers=1)

    assert_same_model(run, engine)
    assert run.description.input == engine.description.input
    assert run.description.classes == engine.description.classes
    assert run.description.clients == engine.description.clients == 2
    assert run.evaluation.initial == engine.evaluation.initial
    assert run.evaluation.templates == engine.evaluation.templates
    assert run.evaluation.personalized == engine.evaluation.personalized
    assert run.evaluation.calibration.kept == engine.evaluation.calibration.kept
    for ours, theirs in zip(read_metrics(run.folder), read_metrics(engine.folder), strict=True):
        assert ours.keys() == theirs.keys()
        assert (ours["round"], ours["lr"]) == (theirs["round"], theirs["lr"])
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)


def test_what_leaves_a_silo(folders: list[Path], tmp_path: Path) -> None:
    channel = direct(folders)
    run = run_over(channel, tmp_path)
    body, head = (read_weights(run.folder / f"{part}.safetensors")[0] for part in ("body", "head"))
    weights = {name for name in body if not name.endswith(("running_mean", "running_var"))}
    layers = {name.rpartition(".")[0] for name in body if name.endswith("running_mean")}
    values: dict[str, set[str]] = {kind: set() for kind in (DESCRIBE, TRAIN, STATISTICS, EVALUATE)}
    tensors: dict[str, set[str]] = {kind: set() for kind in values}
    for kind, _, letter in channel.sent:
        values[kind] |= set(letter.values)
        tensors[kind] |= set(letter.tensors)
        assert not any(tensor.shape == head["weight"].shape for tensor in letter.tensors.values())
    assert values == {
        DESCRIBE: {"client", "train_pictures", "test_pictures", "sums", "squares"},
        TRAIN: {"loss", "pictures"},
        STATISTICS: {"loss"},
        EVALUATE: {"evaluation"},
    }
    assert tensors == {
        DESCRIBE: set(),
        TRAIN: weights,
        STATISTICS: {f"body.{layer}.{kind}" for layer in layers for kind in ("mean", "variance")},
        EVALUATE: set(),
    }


def test_with_fedavg_the_head_travels_too(folders: list[Path], tmp_path: Path) -> None:
    channel = direct(folders)
    run_over(channel, tmp_path, training={"algorithm": "fedavg"}, model={"norm": "group"})
    sent = [letter for kind, _, letter in channel.sent if kind == TRAIN]
    assert all({"head.weight", "head.bias"} <= letter.tensors.keys() for letter in sent)


def test_sums_stay_at_home_where_the_recipe_gives_mean_and_std(folders: list[Path], tmp_path: Path) -> None:
    channel = direct(folders)
    given = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    run = run_over(channel, tmp_path, data=given, training={"rounds": 1}, model={"norm": "group"})
    assert run.description.input.mean == given["mean"]
    described = [letter.values for kind, _, letter in channel.sent if kind == DESCRIBE]
    assert all(said["sums"] == said["squares"] == [] for said in described)


def test_the_run_is_exported_inspected_and_personalized(
    folders: list[Path], tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    run = run_over(direct(folders), tmp_path, training={"rounds": 1})
    assert open_run(run.folder).is_complete
    exported = fbkit("export", run.folder, "--target", "onnx", "--out", tmp_path / "bundle")
    assert exported.code == 0, exported.err
    assert "predictions agree on 100.0%" in exported.out
    assert fbkit("inspect", tmp_path / "bundle").code == 0
    tuned = fbkit("personalize", tmp_path / "bundle", folders[0] / "train", "--profile", tmp_path / "profile")
    assert tuned.code == 0, tuned.err


@pytest.mark.parametrize("cohort", [1, 2])
def test_nothing_is_judged_on_made_up_pictures(cohort: int, folders: list[Path], tmp_path: Path) -> None:
    once: dict[str, Any] = {"training": {"cohort": cohort, "rounds": 1}, "model": {"norm": "group"}}
    given = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    run = run_over(direct(folders), tmp_path, options={"min-answers": 1}, data=given, **once)
    with pytest.raises(UserError, match="was trained on other pictures"):
        evaluate_run(run.folder, workers=1)


def test_a_moved_run_is_exported_with_its_made_up_pictures(folders: list[Path], tmp_path: Path) -> None:
    run = run_over(direct(folders), tmp_path, training={"rounds": 1}, model={"norm": "group"})
    moved = run.folder.rename(tmp_path / "elsewhere")
    bundle = export_run(moved, "onnx", tmp_path / "bundle", data_root=moved / "made-up-pictures")
    assert bundle.manifest.classes == CLASSES


def test_a_body_to_start_from_travels(folders: list[Path], tmp_path: Path) -> None:
    once: dict[str, Any] = {"training": {"rounds": 1}, "model": {"norm": "group"}}
    first = run_over(direct(folders), tmp_path, **once)
    again: dict[str, Any] = once | {"model": {"norm": "group", "init": str(first.folder / "body.safetensors")}}
    second = run_over(direct(folders), tmp_path, options={"out": str(tmp_path / "second")}, **again)
    engine = train(engine_recipe(tmp_path / "silos", **again), tmp_path / "engine", workers=1)
    assert_same_model(second, engine)

    body, head = (read_weights(first.folder / f"{part}.safetensors")[0] for part in ("body", "head"))
    whole = {f"body.{name}": values for name, values in body.items()}
    whole |= {f"head.{name}": values + 1 for name, values in head.items()}
    save_weights(tmp_path / "whole.safetensors", whole)
    again["model"]["init"] = str(tmp_path / "whole.safetensors")
    with pytest.raises(UserError, match="brings a head of its own"):
        run_over(direct(folders), tmp_path, options={"out": str(tmp_path / "third")}, **again)


def test_a_silo_that_makes_another_head_takes_no_part(folders: list[Path], tmp_path: Path) -> None:
    def other_head(_kind: str, node: int, letter: Letter) -> Letter:
        return replace(letter, values=letter.values | {"head_sha256": "0" * 64}) if node == 1001 else letter

    with pytest.raises(UserError, match=r"1 of the 2 silos .* node 1001: makes another head from the run's seed"):
        run_over(direct(folders, intercept=other_head), tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_class_that_the_run_does_not_know_is_named_only_at_home(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_over(direct(folders), tmp_path, options={"classes": "bee, cat"})
    assert "node 1001: has pictures of a class that the run does not know; the run's are bee, cat" in str(caught.value)
    assert "dog" not in str(caught.value)


def test_two_silos_with_one_number_are_refused(folders: list[Path], tmp_path: Path) -> None:
    channel = Direct({7: Place(folders[0], 0), 8: Place(folders[1], 0)})
    with pytest.raises(UserError, match="nodes 7 and 8 both say that they are client 0"):
        run_over(channel, tmp_path)


def test_a_folder_that_cannot_be_read_is_named_only_at_home(folders: list[Path], tmp_path: Path) -> None:
    channel = Direct({7: Place(folders[0], 0), 8: Place(tmp_path / "of-mrs-smith", 1)})
    with pytest.raises(UserError) as caught:
        run_over(channel, tmp_path)
    assert "node 8: could not do it" in str(caught.value)
    assert "smith" not in str(caught.value)


BROKEN: dict[str, Callable[[Letter], Letter | str | None]] = {
    "did not answer in time": lambda _letter: None,
    "Node Unavailable": lambda _letter: "Node Unavailable",
    "holds values that are not finite": lambda letter: replace(
        letter, tensors=letter.tensors | {"0.weight": letter.tensors["0.weight"] * float("nan")}
    ),
    "it differs in 0.weight": lambda letter: replace(
        letter, tensors={name: values for name, values in letter.tensors.items() if name != "0.weight"}
    ),
    "the recipe's model has torch.float32": lambda letter: replace(
        letter, tensors=letter.tensors | {"0.weight": letter.tensors["0.weight"][:1]}
    ),
    "its loss cannot be used": lambda letter: replace(letter, values=letter.values | {"loss": float("nan")}),
    "its pictures cannot be used": lambda letter: replace(letter, values={"loss": 0.5}),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_round_goes_on_with_those_that_answered(why: str, folders: list[Path], tmp_path: Path) -> None:
    def break_it(kind: str, node: int, letter: Letter) -> Letter | str | None:
        return BROKEN[why](letter) if (kind, node) == (TRAIN, 1001) else letter

    notes, channel = Notes(), direct(folders, meddle=break_it)
    once: dict[str, Any] = {"training": {"rounds": 1}, "model": {"norm": "group"}}
    run = run_over(channel, tmp_path, notes, {"min-answers": 1}, **once)
    (alone,) = (letter.tensors for kind, node, letter in channel.sent if (kind, node) == (TRAIN, 1000))
    body = read_weights(run.folder / "body.safetensors")[0]
    assert all(torch.equal(body[name], values) for name, values in alone.items())
    assert [line for line in notes.lines if line.startswith("round 1/1: goes on without client 1: ") and why in line]

    (tmp_path / "again").mkdir()
    with pytest.raises(
        UserError, match=r"round 1/1: 1 of 2 silos answered, but min-answers is 2; client 1: .*"
    ) as caught:
        run_over(direct(folders, meddle=break_it), tmp_path / "again", **once)
    assert why in str(caught.value)


def test_a_run_that_ends_early_keeps_what_it_trained(folders: list[Path], tmp_path: Path) -> None:
    def gone(kind: str, _node: int, letter: Letter) -> Letter | None:
        return None if (kind, letter.values["round_number"]) == (TRAIN, 3) else letter

    changes: dict[str, Any] = {"training": {"rounds": 4}, "model": {"norm": "group"}}
    with pytest.raises(UserError, match="round 3/4: 0 of 2 silos answered"):
        run_over(direct(folders, intercept=gone), tmp_path, **changes)
    checkpoint = tmp_path / "run" / "checkpoints" / "round-00002.safetensors"
    assert [line["round"] for line in read_metrics(tmp_path / "run")] == [1, 2]
    assert not open_run(tmp_path / "run").is_complete

    changes["model"]["init"] = str(checkpoint)  # fedbabu's head is still the seed's
    assert run_over(direct(folders), tmp_path, options={"out": str(tmp_path / "next")}, **changes).is_complete


def test_a_silo_that_is_started_anew_takes_its_old_place(folders: list[Path], tmp_path: Path) -> None:
    def restart(kind: str, node: int, letter: Letter) -> Letter | str:
        if (kind, node, letter.values["round_number"]) == (TRAIN, 1001, 2):
            channel.places[2001] = channel.places.pop(1001)
            return "Node Unavailable"
        return letter

    notes = Notes()
    channel = direct(folders, intercept=restart)
    run = run_over(channel, tmp_path, notes, {"min-answers": 1}, training={"rounds": 3}, model={"norm": "group"})
    assert "round 2/3: goes on without client 1: Node Unavailable" in notes.lines
    assert "client 1 is back, as node 2001" in notes.lines
    assert run.evaluation.clients == [0, 1]
    assert [node for kind, node, _ in channel.sent if kind == TRAIN] == [1000, 1001, 1000, 1000, 2001]


def test_a_silo_that_comes_late_is_not_taken_in(folders: list[Path], tmp_path: Path) -> None:
    def one_more(kind: str, _node: int, letter: Letter) -> Letter:
        if kind == TRAIN:
            channel.places[3000] = Place(folders[0], 2)
            channel.places[3001] = Place(folders[0], 1)
        return letter

    notes = Notes()
    channel = direct(folders, intercept=one_more)
    run_over(channel, tmp_path, notes, model={"norm": "group"})
    assert [line for line in notes.lines if "not taken in" in line] == [
        "not taken in: node 3000, which says that it is client 2",
        "not taken in: node 3001, which says that it is client 1",
    ]


def test_a_silo_that_cannot_take_part_is_left_out_where_there_are_others(folders: list[Path], tmp_path: Path) -> None:
    notes = Notes()
    channel = Direct({7: Place(tmp_path / "nowhere", 2), 8: Place(folders[1], 1), 9: Place(folders[0], 0)})
    run = run_over(channel, tmp_path, notes, training={"rounds": 1}, model={"norm": "group"})
    assert run.evaluation.clients == [0, 1]
    assert "left out: node 7: could not do it" in notes.lines


def test_a_run_folder_that_exists_is_refused_before_anyone_is_asked(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    channel = direct(folders)
    with pytest.raises(UserError, match="exists already"):
        run_over(channel, tmp_path)
    assert not channel.sent


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"algorithm": "ditto"}}, "silos train by fedavg or fedbabu"),
        ({"clients": {"held_out": 1}}, "all silos train"),
        ({"evaluation": {"every": 2}}, "judged after the last round"),
        ({"evaluation": {"pooled": True}}, "everybody's pictures in one place"),
        ({"data": {"root": "/somewhere"}}, "every silo brings its own folder"),
        ({"data": {"source": "cifar10"}}, "every silo brings its own folder"),
        ({"data": {"size": 0}}, "data.size is missing"),
        ({"training": {"cohort": 3}}, "training.cohort = 3 is more than the 2 clients"),
        ({"training": {"cohort": 1}}, "min-answers = 2 is more than training.cohort = 1"),
    ],
)
def test_recipes_that_silos_cannot_work_by(
    changes: dict[str, Any], message: str, folders: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run_over(direct(folders), tmp_path, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("silos", 1, "silos"),
        ("min-answers", 3, "min-answers = 3 is more than silos = 2"),
        ("timeout", "soon", "timeout"),
        ("classes", "bee, ../cat", "cannot be a class's name"),
        ("classes", "bee, bee", "names a class twice"),
        ("rounds", 3, "rounds"),
    ],
)
def test_impossible_settings(key: str, value: object, message: str) -> None:
    config = {"out": "run", "classes": "bee, cat", "silos": 2, "min-answers": 2, "timeout": 60.0}
    with pytest.raises(UserError, match=message):
        read_settings(config | {key: value})
