"""Personalization through the command line and the API, on ordinary folders, with good and bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fbkit.device_runtime import Bundle, Personalizer, Schedule
from fbkit.device_runtime.profile import Profile, changing_profile, find_profile
from fbkit.device_runtime.solvers.sgd import Step, fit_sgd, numpy_step
from fbkit.errors import UserError
from fbkit.files import sha256_file
from tests.conftest import FBKIT, Outcome


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


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
    assert set(fitted["seconds"]) == {"decode", "body", "solver", "write"}

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


def test_the_body_sees_a_picture_once(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle), tmp_path / "profile")
    first = personalizer.fit(client / "train")
    again = personalizer.fit(client / "train")
    assert (first.computed, again.computed) == (100, 0)
    heads = [load_file(tmp_path / "profile" / "heads" / result.head) for result in (first, again)]
    assert np.array_equal(heads[0]["weight"], heads[1]["weight"])


def test_a_picture_that_was_added_is_the_only_one_computed(onnx_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle), tmp_path / "profile")
    new = next(pictures.rglob("*.png"))
    content = new.read_bytes()
    new.unlink()
    assert personalizer.fit(pictures).computed == 99
    new.with_name("under-another-name.png").write_bytes(content)
    assert personalizer.fit(pictures).computed == 1


def test_numpy_and_the_step_graph_give_the_same_head(bundle_folder: Path, client: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    names = []
    steps: dict[str, Step] = {"numpy": numpy_step, "graph": bundle.graph_step}
    for name, step in steps.items():
        personalizer = Personalizer(bundle, tmp_path / name)
        personalizer.fit(client / "train", step=step)
        names.append(tmp_path / name / "heads" / "0001.safetensors")
    first, second = (load_file(path) for path in names)
    np.testing.assert_allclose(first["weight"], second["weight"], rtol=0, atol=1e-5)


def test_the_head_in_the_profile_is_the_solvers(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    schedule = Schedule(epochs=3, lr=0.02, batch_size=33, seed=5)
    personalizer = Personalizer(bundle, tmp_path / "profile")
    personalizer.fit(client / "train", schedule)
    expected = fit_sgd(bundle.head, *personalizer.read_folder(client / "train"), schedule)
    found = load_file(tmp_path / "profile" / "heads" / "0001.safetensors")
    np.testing.assert_allclose(found["weight"], expected.weight, rtol=0, atol=1e-6)
    profile = find_profile(tmp_path / "profile", bundle.manifest)
    assert profile
    (entry,) = profile.journal()
    assert (entry["epochs"], entry["lr"], entry["batch_size"], entry["seed"]) == (3, 0.02, 33, 5)


def test_only_the_owner_can_read_a_profile(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    Personalizer(Bundle.open(onnx_bundle), profile).fit(client / "train")
    for path in [profile, *profile.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


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


def damage_state(profile: Profile) -> None:
    (profile.folder / "profile.json").write_text('{"schema": "fbkit.profile", "version": 9}')


def point_outside(profile: Profile) -> None:
    path = profile.folder / "profile.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "head": "../../secret"}))


def lose_the_head(profile: Profile) -> None:
    (profile.folder / "heads" / "0001.safetensors").unlink()


def cut_the_head(profile: Profile) -> None:
    path = profile.folder / "heads" / "0001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def flip_a_bit_of_the_head(profile: Profile) -> None:
    path = profile.folder / "heads" / "0001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_state, "not a profile of format version 1"),
        (point_outside, "head must be the name of a file in heads/, or null"),
        (lose_the_head, "0001.safetensors: cannot be read"),
        (cut_the_head, "0001.safetensors: was altered"),
        (flip_a_bit_of_the_head, "0001.safetensors: was altered"),
    ],
)
def test_a_damaged_profile_is_refused_by_name(
    onnx_bundle: Path, client: Path, tmp_path: Path, damage: Callable[[Profile], None], said: str
) -> None:
    bundle = Bundle.open(onnx_bundle)
    personalizer = Personalizer(bundle, tmp_path / "profile")
    personalizer.fit(client / "train")
    damage(Profile(tmp_path / "profile", bundle.manifest))
    with pytest.raises(UserError, match=said):
        personalizer.evaluate(client / "test")


def test_a_broken_feature_cache_is_made_again(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle), tmp_path / "profile")
    personalizer.fit(client / "train")
    cache = tmp_path / "profile" / "features.safetensors"
    cache.write_bytes(cache.read_bytes()[:-50])
    assert personalizer.fit(client / "train").computed == 100
    assert personalizer.fit(client / "train").computed == 0


def test_a_journal_line_cut_short_spoils_no_other(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    personalizer = Personalizer(bundle, tmp_path / "profile")
    personalizer.fit(client / "train")
    with (tmp_path / "profile" / "journal.jsonl").open("a") as file:
        file.write('{"time": 1, "hea')
    personalizer.fit(client / "train")
    journal = Profile(tmp_path / "profile", bundle.manifest).journal()
    assert [entry["head"] for entry in journal] == ["0001.safetensors", "0002.safetensors"]


def test_a_crash_before_the_journal_is_completed_later(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    personalizer = Personalizer(bundle, tmp_path / "profile")
    personalizer.fit(client / "train", Schedule(epochs=3))
    profile = Profile(tmp_path / "profile", bundle.manifest)
    expected = profile.journal()
    (profile.folder / "journal.jsonl").unlink()
    (profile.folder / ".features.safetensors.x1y2.partial").write_bytes(b"half")
    with changing_profile(profile.folder, bundle.manifest):
        pass
    assert profile.journal() == expected
    assert not list(profile.folder.glob(".*.partial"))


def test_a_crash_while_a_profile_is_made_does_not_block_its_folder(
    onnx_bundle: Path, client: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "profile"
    (folder / "heads").mkdir(parents=True)
    (folder / "lock").touch()
    (folder / ".profile.json.abcd.partial").write_bytes(b"{")
    assert Personalizer(Bundle.open(onnx_bundle), folder).fit(client / "train").head == "0001.safetensors"


def test_two_first_fits_at_once_keep_each_others_heads(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    """A profile is made under its lock, so a second maker finds the first one's head instead of starting anew."""
    bundle, folder = Bundle.open(onnx_bundle), tmp_path / "profile"
    Personalizer(bundle, folder).fit(client / "train")
    with changing_profile(folder, bundle.manifest) as profile:
        assert profile.head() is not None


def test_two_processes_do_not_change_a_profile_at_once(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(onnx_bundle)
    with (
        changing_profile(tmp_path / "profile", bundle.manifest),
        pytest.raises(UserError, match="another process is changing this profile"),
    ):
        Personalizer(bundle, tmp_path / "profile").fit(client / "train")
    assert Personalizer(bundle, tmp_path / "profile").fit(client / "train").head == "0001.safetensors"


def test_sigkill_at_any_moment_leaves_the_old_head_or_the_new_one(
    onnx_bundle: Path, client: Path, tmp_path: Path, full: bool
) -> None:
    bundle = Bundle.open(onnx_bundle)
    folder = tmp_path / "profile"
    personalizer = Personalizer(bundle, folder)
    personalizer.fit(client / "train")
    expected = personalizer.evaluate(client / "test").personal_accuracy
    command = [FBKIT, "personalize", onnx_bundle, client / "train", "--profile", folder]
    rng = np.random.default_rng(0)
    for _ in range(60 if full else 8):
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=float(rng.uniform(0.2, 0.7)))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert personalizer.evaluate(client / "test").personal_accuracy == expected
        profile = find_profile(folder, bundle.manifest)
        assert profile
    personalizer.fit(client / "train")
    profile = find_profile(folder, bundle.manifest)
    assert profile
    heads = sorted(path.name for path in (folder / "heads").iterdir())
    journalled = [entry["head"] for entry in profile.journal()]
    assert len(journalled) == len(set(journalled)), "no head twice"
    assert set(journalled) <= set(heads)
    assert journalled[-1] == heads[-1]


def test_a_personalizer_without_a_profile_predicts_but_does_not_fit(onnx_bundle: Path, client: Path) -> None:
    personalizer = Personalizer(Bundle.open(onnx_bundle))
    assert len(personalizer.predict(sorted((client / "test").rglob("*.png"))[:3])) == 3
    assert personalizer.predict([]) == []
    with pytest.raises(UserError, match="give a profile folder"):
        personalizer.fit(client / "train")
