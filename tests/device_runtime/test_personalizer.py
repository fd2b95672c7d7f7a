"""Personalization through the command line and the API, on ordinary folders, with good and bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from fbkit.device_runtime import Bundle, Head, Personalizer, Schedule
from fbkit.device_runtime.fitting import Absent, Recipe, default_recipe, fit, recipe_from_json
from fbkit.device_runtime.profile import Limits
from fbkit.device_runtime.profile.memory import as_stored
from fbkit.device_runtime.solvers.sgd import Step, numpy_step
from fbkit.errors import UserError
from fbkit.files import sha256_file
from tests.conftest import FBKIT, Outcome
from tests.device_runtime.conftest import BUNDLE, PICTURES, by_the_body, opened, snapshot, some

SCHEDULE = Schedule(epochs=3, lr=0.02, batch_size=33, seed=5)


@pytest.fixture
def pictures(client: Path, tmp_path: Path) -> Path:
    """A copy of the client's training pictures that a test may damage."""
    return Path(shutil.copytree(client / "train", tmp_path / "pictures"))


def test_the_whole_story_on_the_command_line(
    bundle_folder: Path, client: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    profile, before = tmp_path / "profile", snapshot(bundle_folder)
    outcome = fbkit("personalize", bundle_folder, client / "train", "--profile", profile, "--json")
    assert outcome.code == 0, outcome.err
    fitted = json.loads(outcome.out)
    assert sum(fitted["pictures"].values()) == fitted["computed"] == 100
    assert fitted["loss_after"] < fitted["loss_before"]
    assert set(fitted["seconds"]) == {"decode", "body", "solver", "judging", "write"}
    assert (fitted["verdict"]["chosen"], fitted["verdict"]["verified"]) == ("candidate", True)
    assert fitted["finished"]
    assert fitted["gap"] <= 1e-6

    measured = json.loads(fbkit("evaluate", bundle_folder, client / "test", "--profile", profile, "--json").out)
    assert measured["pictures"] == 100
    assert measured["personal_accuracy"] > measured["shipped_accuracy"] + 8
    shipped = json.loads(fbkit("evaluate", bundle_folder, client / "test", "--json").out)
    assert shipped["shipped_accuracy"] == measured["shipped_accuracy"]
    assert shipped["personal_accuracy"] is None

    images = sorted((client / "test").rglob("*.png"))[::10]
    predicted = json.loads(fbkit("predict", bundle_folder, *images, "--profile", profile, "--json").out)["predictions"]
    right = sum(entry["label"] == Path(entry["picture"]).parent.name for entry in predicted)
    assert right >= len(images) * 0.6
    for entry in predicted:
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert entry["label"] == max(entry["probabilities"], key=lambda name: entry["probabilities"][name])
    assert snapshot(bundle_folder) == before, "personalization must leave the body's and every other file untouched"
    for command in (("personalize", client / "train"), ("evaluate", client / "test"), ("predict", images[0])):
        outcome = fbkit(command[0], bundle_folder, command[1], "--profile", profile)
        assert outcome.code == 0, outcome.err


def test_a_prediction_sees_what_another_personalizer_has_changed(
    onnx_bundle: Path, client: Path, tmp_path: Path
) -> None:
    """The head is kept in memory between predictions, but never beyond a change of the profile."""
    bundle, folder = Bundle.open(onnx_bundle), tmp_path / "profile"
    picture = min((client / "test").rglob("*.png"))
    reader, writer = Personalizer(bundle, folder), Personalizer(bundle, folder)
    writer.fit(client / "train")
    seen = [reader.predict(picture), reader.predict(picture)]
    assert seen[0] == seen[1]
    writer.fit(recipe=replace(default_recipe(bundle.manifest.personalization), penalty=1000.0))
    writer.remove(older_than=0, label=min(path.name for path in (client / "train").iterdir()))
    assert reader.predict(picture) == Personalizer(bundle, folder).predict(picture) != seen[0]
    writer.roll_back()
    assert reader.predict(picture) == Personalizer(bundle).predict(picture), "the shipped head is in use"
    writer.add_class("hat")
    assert "hat" in reader.predict(picture)[0].probabilities
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="no profile there"):
        reader.predict(picture)


def test_a_step_is_refused_where_there_are_none(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    personalizer = Personalizer(bundle, tmp_path / "profile")
    with pytest.raises(UserError, match="the exact solver takes no steps"):
        personalizer.fit(client / "train", step=bundle.graph_step)
    assert not (tmp_path / "profile").exists()


def test_the_body_sees_a_picture_once(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle), tmp_path / "profile")
    first = personalizer.fit(client / "train")
    again = personalizer.fit(client / "train")
    assert (first.computed, again.computed) == (100, 0)
    assert first.loss_after == again.loss_after


def test_a_picture_that_was_added_is_the_only_one_computed(onnx_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle), tmp_path / "profile")
    new = next(pictures.rglob("*.png"))
    content = new.read_bytes()
    new.unlink()
    assert personalizer.fit(pictures).computed == 99
    new.with_name("under-another-name.png").write_bytes(content)
    assert personalizer.fit(pictures).computed == 1


def test_numpy_and_the_step_graph_give_the_same_head(bundle_folder: Path, pictures: Path, tmp_path: Path) -> None:
    """Also where classes were added, one of them without pictures; the graph has spare rows for them."""
    bundle = Bundle.open(bundle_folder)
    shutil.copytree(sorted(pictures.iterdir())[0], pictures / "clog")
    shutil.rmtree(sorted(pictures.iterdir())[0])
    recipe = default_recipe(bundle.manifest.personalization, "sgd")
    steps: dict[str, Step] = {"numpy": numpy_step, "graph": bundle.graph_step}
    for absent in get_args(Absent):
        heads = {}
        for name, step in steps.items():
            personalizer = Personalizer(bundle, tmp_path / absent / name)
            personalizer.add_class("hat")
            personalizer.fit(pictures, replace(recipe, absent=absent), step=step, new_classes=True)
            head = opened(tmp_path / absent / name, bundle).head()
            assert head
            heads[name] = head
        assert opened(tmp_path / absent / "graph", bundle).classes == (*bundle.classes, "hat", "clog")
        assert np.abs(heads["graph"].weight[-1] - bundle.head.weight.mean(0)).max() > 1e-3, "the new class learned"
        np.testing.assert_allclose(heads["graph"].weight, heads["numpy"].weight, rtol=0, atol=1e-5)
        np.testing.assert_allclose(heads["graph"].bias, heads["numpy"].bias, rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", [Recipe("exact", "keep", 3.0), Recipe("sgd", "mask", 0.0, SCHEDULE)])
def test_the_head_in_the_profile_is_the_solvers(
    onnx_bundle: Path, client: Path, tmp_path: Path, recipe: Recipe
) -> None:
    bundle = Bundle.open(onnx_bundle)
    personalizer = Personalizer(bundle, tmp_path / "profile")
    heads: list[Head] = []
    result = personalizer.fit(client / "train", recipe, listener=lambda _step, head, _loss: heads.append(head))
    features, labels = personalizer.read_folder(client / "train")
    expected = fit(bundle.head, as_stored(features), labels, recipe)
    profile = opened(tmp_path / "profile", bundle)
    head = profile.head()
    assert head
    assert head.to_bytes() == expected.head.without(~expected.mask).to_bytes()
    assert np.array_equal(heads[-1].weight, head.weight)
    assert result.loss_after == expected.head.loss(as_stored(features), labels)
    assert recipe_from_json(profile.journal()[-1], "journal") == recipe
    (entry,) = profile.state.heads
    assert (recipe_from_json(entry.recipe, "head"), entry.seen, entry.pictures) == (recipe, 100, 100)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("exact", "keep", 0.0), "recipe: penalty must be a number above 0"),
        (Recipe("sgd", "keep", 0.0, Schedule(epochs=0)), "recipe: epochs must be a whole number from 1"),
        (Recipe("sgd", "keep", 0.0, Schedule(seed=-1)), "recipe: seed must be"),
        (Recipe("sgd", "keep", 0.0, Schedule(momentum=1.0)), "recipe: momentum must be"),
    ],
)
def test_a_recipe_that_could_not_be_read_again_is_refused_first(
    onnx_bundle: Path, client: Path, tmp_path: Path, recipe: Recipe, said: str
) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        Personalizer(Bundle.open(onnx_bundle), tmp_path / "profile").fit(client / "train", recipe)
    assert not (tmp_path / "profile").exists()


def unreadable_among_good(pictures: Path) -> None:
    next(pictures.rglob("*.png")).write_bytes(b"not a picture")


def unknown_class(pictures: Path) -> None:
    next(path for path in pictures.iterdir()).rename(pictures / "spaceship")


def one_level_too_deep(pictures: Path) -> None:
    for path in list(pictures.rglob("*.png")):
        path.rename(pictures / path.name)
    for path in list(pictures.iterdir()):
        if path.is_dir():
            path.rmdir()


def empty(pictures: Path) -> None:
    shutil.rmtree(pictures)
    pictures.mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (unreadable_among_good, ".png: not a picture that can be read"),
        (unknown_class, "'spaceship' is not a class of this bundle; its classes: t-shirt, trouser"),
        (empty, "holds no pictures; expected "),
        (one_level_too_deep, "has files but no folder named after a class; give the folder above"),
        (shutil.rmtree, "no such folder; expected one with a folder of pictures for each class"),
    ],
)
def test_bad_pictures_end_in_one_line_and_change_nothing(
    onnx_bundle: Path,
    client: Path,
    pictures: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    said: str,
    fbkit: Callable[..., Outcome],
) -> None:
    damage(pictures)
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    Personalizer(Bundle.open(onnx_bundle), used).fit(client / "train")
    before = snapshot(used)
    for arguments in (
        ("personalize", onnx_bundle, pictures, "--profile", fresh),
        ("personalize", onnx_bundle, pictures, "--profile", used),
        ("evaluate", onnx_bundle, pictures),
    ):
        outcome = fbkit(*arguments)
        assert outcome.code == 2
        assert outcome.out == ""
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
    assert not fresh.exists()
    assert snapshot(used) == before


def test_other_bad_input_ends_in_one_line(
    onnx_bundle: Path, pte_bundle: Path, client: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    profile, other, taken = tmp_path / "profile", tmp_path / "other", tmp_path / "taken"
    Personalizer(Bundle.open(onnx_bundle), profile).fit(client / "train")
    taken.mkdir()
    (taken / "diary.txt").write_text("mine")
    image = next((client / "test").rglob("*.png"))
    cases = [
        (("predict", onnx_bundle, tmp_path / "none.png"), "none.png: cannot be read (No such file"),
        (("predict", onnx_bundle, image, "--profile", other), "no profile there; make one with: fbkit personalize"),
        (("evaluate", onnx_bundle, client / "test", "--profile", other), "no profile there"),
        (("evaluate", pte_bundle, client / "test", "--profile", profile), "made with another bundle"),
        (("personalize", pte_bundle, client / "train", "--profile", profile), "made with another bundle"),
        (("personalize", onnx_bundle, client / "train", "--profile", taken), "exists and is not a profile"),
        (("personalize", onnx_bundle, client / "train", "--profile", image / "x"), ""),
        (("personalize", tmp_path / "none", client / "train", "--profile", other), "no such bundle folder"),
        (("personalize", onnx_bundle, client / "train"), "Missing option '--profile'"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--epochs", "0"), "--epochs"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--lr", "nan"), "--lr"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--lr", "0.1"), "--lr is for --solver sgd"),
        (
            ("personalize", onnx_bundle, client / "train", "--profile", other, "--step", "graph"),
            "--step is for --solve",
        ),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--penalty", "0"), "must be above 0 for"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--solver", "magic"), "--solver"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--absent", "magic"), "--absent"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--seconds", "-1"), "--seconds"),
        (("profile", "show", onnx_bundle, other), "no profile there"),
        (("profile", "rollback", onnx_bundle, other), "no profile there"),
        (("profile", "limit", onnx_bundle, other, "--pictures", "3"), "no profile there"),
        (("profile", "limit", onnx_bundle, profile, "--pictures", "-3"), "--pictures"),
        (("personalize", onnx_bundle, client / "train", "--profile", other, "--step", "magic"), "--step"),
        (("dance",), "No such command"),
    ]
    for arguments, said in cases:
        outcome = fbkit(*arguments)
        assert outcome.code == 2, (arguments, outcome)
        assert said in outcome.err, (arguments, outcome)
        assert outcome.err.count("\n") == 1, outcome
        assert not other.exists(), arguments
    assert [path.name for path in taken.iterdir()] == ["diary.txt"]


def test_debug_shows_the_traceback(onnx_bundle: Path, tmp_path: Path) -> None:
    command = [str(FBKIT), "predict", str(onnx_bundle), str(tmp_path / "none.png"), "--debug"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert "UserError" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("fbkit: ")


def test_a_profile_moves_to_another_bundle_if_its_pictures_are_kept(
    onnx_bundle: Path, demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "profile"
    personalizer = Personalizer(demo, folder)
    personalizer.set_limits(Limits(), keep_pictures=True)
    paths = [*some("sneaker", 6), *some("t-shirt", 6)]
    personalizer.add(paths[:6], "sneaker")
    personalizer.add([np.asarray(Image.open(path)) for path in paths[6:]], "t-shirt")
    personalizer.fit()
    assert {path.name for path in (folder / "kept").iterdir()} == set(opened(folder, demo).memory().rows_by_digest())
    assert (folder / "kept" / sha256_file(paths[0])).read_bytes() == paths[0].read_bytes()

    outcome = fbkit("predict", onnx_bundle, paths[0], "--profile", folder)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "made with another bundle; give the bundle it was made with, or personalize into a new folder" in outcome.err

    outcome = fbkit("personalize", onnx_bundle, PICTURES / "train", "--profile", folder, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["pictures"] == {"sneaker": 10, "t-shirt": 16}, "arrays are other pictures than files"
    other = Bundle.open(onnx_bundle)
    memory = opened(folder, other).memory()
    assert np.array_equal(memory.features[:12], by_the_body(other, paths))
    assert [other.classes[label] for label in memory.labels[:12]] == ["sneaker"] * 6 + ["t-shirt"] * 6
    assert memory.numbers[:12].tolist() == list(range(1, 13))
    assert "another bundle" in [entry["event"] for entry in opened(folder, other).journal()]
    assert Personalizer(other, folder).predict(paths[0])
    with pytest.raises(UserError, match="made with another bundle"):
        personalizer.predict(paths[0])


def test_a_profile_that_keeps_no_pictures_is_refused_to_another_bundle_with_advice(
    onnx_bundle: Path, demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "profile"
    personalizer = Personalizer(demo, folder)
    personalizer.fit(PICTURES / "train")
    personalizer.set_limits(Limits(), keep_pictures=True)  # too late for those that were seen
    before = snapshot(folder)
    for command in (
        ("personalize", onnx_bundle, PICTURES / "train", "--profile", folder),
        ("profile", "remove", onnx_bundle, folder, "--number", 1),
        ("profile", "rollback", onnx_bundle, folder),
    ):
        outcome = fbkit(*command)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert outcome.err.startswith(
            f"fbkit: {folder}: this profile was made with another bundle, and it does not keep"
        )
        assert outcome.err.endswith("give the bundle it was made with, or personalize into a new folder\n")
        assert snapshot(folder) == before
    personalizer.add(PICTURES / "train")
    assert Personalizer(Bundle.open(onnx_bundle), folder).add(PICTURES / "train") == 20, "they came again and are kept"


def test_what_a_profile_holds_is_shown(demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    folder = tmp_path / "profile"
    personalizer = Personalizer(demo, folder)
    personalizer.add(some("sneaker", 3), "sneaker")
    personalizer.add(some("t-shirt", 2), "hat", new_classes=True)
    head = personalizer.fit().head
    personalizer.set_limits(Limits(pictures=4))
    shown = json.loads(fbkit("profile", "show", BUNDLE, folder, "--json").out)
    assert shown["classes"] == [*demo.classes, "hat"]
    assert [(entry["number"], entry["class"]) for entry in shown["pictures"]] == [
        (2, "sneaker"),
        (3, "sneaker"),
        (4, "hat"),
        (5, "hat"),
    ]
    assert abs(shown["pictures"][0]["added"] - time.time()) < 60
    assert (shown["heads"], shown["in_use"]) == ([head], head)
    assert (shown["limits"], shown["keep_pictures"]) == ({"pictures": 4, "bytes": None}, False)
    assert [entry["event"] for entry in shown["journal"]] == ["add", "add", "fit", "limits"]
    lines = fbkit("profile", "show", BUNDLE, folder).out.splitlines()
    assert lines[:4] == ["    2 sneaker", "    2 hat", "    4 pictures are remembered", f"in use: personal head {head}"]
    assert len(lines) == 8
    assert "add: first 1, last 3, pictures {'sneaker': 3}" in lines[4]


def test_a_personalizer_without_a_profile_predicts_but_does_not_fit(onnx_bundle: Path, client: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle))
    assert len(personalizer.predict(sorted((client / "test").rglob("*.png"))[:3])) == 3
    assert personalizer.predict([]) == []
    with pytest.raises(UserError, match="give a profile folder"):
        personalizer.fit(client / "train")
