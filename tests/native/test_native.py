"""The native runner does what the Python runtime does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from tests.conftest import Outcome
from tests.export.own_nets import CLASSES
from tests.native.agreement import TOLERANCE, assert_same_profile
from tests.native.conftest import Native

PICTURES = DEMO / "pictures"
WAYS: dict[str, tuple[tuple[object, ...], tuple[object, ...]]] = {
    # what the native runner is asked, and what Python is asked beside it
    "exact": ((), ()),
    "exact, masked": (("--absent", "mask", "--penalty", 0.3), ()),
    "step graph": (("--solver", "sgd", "--epochs", 7), ("--step", "graph")),
    "formula": (("--solver", "sgd", "--lr", 0.002, "--batch-size", 7, "--seed", 2**64 - 1, "--absent", "mask"), ()),
    "with a penalty": (("--solver", "sgd", "--penalty", 2.5, "--epochs", 3), ("--step", "graph")),
}

Fbkit = Callable[..., Outcome]


def python(fbkit: Fbkit, *arguments: object) -> Any:
    outcome = fbkit(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.fixture(params=["grey", "colour"])
def case(request: pytest.FixtureRequest) -> tuple[Path, Path, Path]:
    """A bundle, pictures to learn from, and others."""
    if request.param == "grey":
        return request.getfixturevalue("pte_bundle"), PICTURES / "train", PICTURES / "test"
    tinted = request.getfixturevalue("tinted")
    return request.getfixturevalue("colour_bundle"), tinted("train", 8), request.getfixturevalue("mixed")


def test_check_says_what_pythons_says(native: Native, case: tuple[Path, Path, Path], fbkit: Fbkit) -> None:
    found, expected = native.json("check", case[0]), python(fbkit, "check", case[0])
    assert found["ok"]
    assert found["files"] == expected["files"]
    assert found["errors"].keys() == expected["errors"].keys() - {"training_module_error"}
    assert found["errors"]["feature_error"] == pytest.approx(expected["errors"]["feature_error"], abs=1e-6)
    assert "good" in native.run("check", case[0]).out


@pytest.mark.parametrize("way", WAYS)
def test_personalizing_gives_pythons_profile(
    way: str, native: Native, case: tuple[Path, Path, Path], fbkit: Fbkit, tmp_path: Path
) -> None:
    bundle, train, test = case
    options, python_only = WAYS[way]
    native_only = ("--step", "formula") if way == "formula" else ()
    here = native.json("personalize", bundle, train, "--profile", tmp_path / "here", *options, *native_only)
    there = python(fbkit, "personalize", bundle, train, "--profile", tmp_path / "there", *options, *python_only)
    assert here.keys() == there.keys()
    assert here["seconds"].keys() == there["seconds"].keys()
    for key in ("head", "pictures", "computed", "finished"):
        assert here[key] == there[key]
    for key in ("loss_before", "loss_after"):
        assert here[key] == pytest.approx(there[key], rel=TOLERANCE, abs=1e-5)
    for key in ("chosen", "verified", "reason", "folds"):
        assert here["verdict"][key] == there["verdict"][key]
    assert here["verdict"]["losses"] == pytest.approx(there["verdict"]["losses"], rel=2e-3)  # the judge is less exact
    assert (here["gap"] is None) == ("sgd" in options)
    assert_same_profile(tmp_path / "here", tmp_path / "there", Bundle.open(bundle))

    found, expected = (
        run("evaluate", bundle, test, "--profile", tmp_path / name)
        for run, name in ((native.json, "here"), (lambda *a: python(fbkit, *a), "there"))
    )
    assert found == pytest.approx(expected, rel=TOLERANCE)


def test_200_pictures_are_predicted_as_by_python(
    native: Native, colour_bundle: Path, mixed: Path, tinted: Callable[[str, int], Path], fbkit: Fbkit, tmp_path: Path
) -> None:
    """Same labels wherever the two likeliest classes differ by more than rounding does."""
    native.json("personalize", colour_bundle, tinted("train", 8), "--profile", tmp_path / "profile")
    pictures = sorted(mixed.glob("*/*"))
    given = ("predict", colour_bundle, *pictures, "--profile", tmp_path / "profile")
    found, expected = native.json(*given)["predictions"], python(fbkit, *given)["predictions"]
    assert [one["picture"] for one in found] == [str(path) for path in pictures]
    decided = 0
    for own, known in zip(found, expected, strict=True):
        assert list(own["probabilities"]) == list(known["probabilities"]) == list(CLASSES)
        probabilities = np.array(
            [[each[name] for name in CLASSES] for each in (own["probabilities"], known["probabilities"])]
        )
        first, second = np.sort(probabilities[1])[::-1][:2]
        error = np.abs(probabilities[0] - probabilities[1]).max()
        assert error < 0.02, own["picture"]  # an int8 body may turn a rounding where a pixel differs by 1
        if first - second > 2 * error:
            decided += 1
            assert own["label"] == known["label"]
    assert decided > 190
    assert native.json(*given, "--unsure", 1)["predictions"][0]["label"] is None


def test_the_shipped_head_predicts_where_there_is_no_profile(native: Native, pte_bundle: Path, fbkit: Fbkit) -> None:
    given = ("predict", pte_bundle, *sorted((PICTURES / "test").glob("*/*"))[:3])
    for own, known in zip(native.json(*given)["predictions"], python(fbkit, *given)["predictions"], strict=True):
        assert own["label"] == known["label"]
        assert own["probabilities"] == pytest.approx(known["probabilities"], rel=TOLERANCE)
    said = native.run(*given).out.splitlines()
    assert len(said) == 3
    assert said[0].startswith(f"{given[2]}: ")
    assert "%" in said[0]


def test_a_dry_run_tells_the_same_and_changes_nothing(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    given = ("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "profile")
    imagined = native.json(*given, "--dry-run")
    assert not (tmp_path / "profile").exists()
    done = native.json(*given)
    for key in ("pictures", "computed", "loss_after", "verdict"):
        assert imagined[key] == done[key]
    assert imagined["head"] is None


def test_own_classes_get_rows_as_python_gives_them(
    native: Native, pte_bundle: Path, fbkit: Fbkit, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(PICTURES / "train", tmp_path / "data"))
    (data / "sneaker").rename(data / "kömische Schuhe")
    refused = native.run("personalize", pte_bundle, data, "--profile", tmp_path / "here")
    assert refused.code == 2
    assert "is not a class of this bundle" in refused.err
    for run, name in ((native.json, "here"), (lambda *a: python(fbkit, *a), "there")):
        run("personalize", pte_bundle, data, "--profile", tmp_path / name, "--add-classes")
    bundle = Bundle.open(pte_bundle)
    assert_same_profile(tmp_path / "here", tmp_path / "there", bundle)
    (first, *_) = Personalizer(bundle, tmp_path / "here").predict(sorted((PICTURES / "test" / "sneaker").iterdir()))
    assert first.label == "kömische Schuhe"


def test_time_that_is_up_keeps_what_is_in_use(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    given = ("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "profile")
    found = native.json(*given, "--seconds", 0, "--solver", "sgd", "--epochs", 1000)
    assert not found["finished"]
    assert found["verdict"]["chosen"] == "shipped"
    assert not found["verdict"]["verified"]


def test_the_folder_is_all_that_it_needs(sanitized: Path, tmp_path: Path, pte_bundle: Path) -> None:
    """Moved elsewhere, with nothing of this environment, it finds its libraries beside it."""
    folder = Path(shutil.copytree(sanitized, tmp_path / "a place with spaces"))
    assert {path.name for path in folder.iterdir()} >= {"fbkit-device", "lib", "licenses"}
    loaded = subprocess.run(["ldd", folder / "fbkit-device"], env={}, capture_output=True, text=True, check=True).stdout
    outside = [line.split()[0] for line in loaded.splitlines() if str(folder) not in line]
    assert {name.split(".")[0] for name in outside} <= {
        *("linux-vdso", "libstdc++", "libm", "libgcc_s", "libc", "libdl", "libpthread", "librt"),
        *("/lib64/ld-linux-x86-64", "/lib/ld-linux-aarch64"),
    }
    ended = subprocess.run([folder / "fbkit-device", "check", pte_bundle], env={}, cwd=os.sep, check=False)
    assert ended.returncode == 0
