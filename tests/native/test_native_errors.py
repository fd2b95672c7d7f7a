"""Bad input ends in one line that says what is wrong, exit code 2, and nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from fbkit.device_runtime.signing import make_keys, sign_bundle
from tests.device_runtime.mutations import seal
from tests.native.conftest import Native

PICTURES = DEMO / "pictures"


def test_bad_use_is_told_in_a_line(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    personalize = ("personalize", pte_bundle, PICTURES / "train", "--profile", profile)
    noise = tmp_path / "noise" / "sneaker" / "noise.png"
    noise.parent.mkdir(parents=True)
    noise.write_bytes(b"\x89PNG\r\n\x1a\nnoise")
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    shutil.copy(next((PICTURES / "train" / "sneaker").iterdir()), tmp_path / "flat" / "a.png")
    (tmp_path / "bad\x1b[2Jname\n").mkdir()
    for given, said in {
        (): "subcommand",
        ("fly",): "subcommand",
        ("check",): "bundle is required",
        ("check", tmp_path / "nowhere"): "nowhere: no such folder",
        ("check", tmp_path / "bad\x1b[2Jname\n"): "bad?[2Jname?",
        ("check", DEMO / "bundle"): "fbkit-device runs executorch; export with --target executorch",
        ("check", tmp_path / "empty"): "manifest.json: cannot be read",
        ("predict", pte_bundle): "images is required",
        ("predict", pte_bundle, tmp_path / "nothing.png"): "nothing.png: cannot be read",
        ("predict", pte_bundle, noise): "noise.png: damaged",
        ("predict", pte_bundle, pte_bundle / "manifest.json"): "manifest.json: not a picture that can be read",
        ("predict", pte_bundle, noise, "--unsure", "2"): "--unsure",
        ("predict", pte_bundle, noise, "--profile", tmp_path / "none"): "none: no profile there",
        ("evaluate", pte_bundle, tmp_path / "nowhere"): "nowhere: no such folder",
        ("evaluate", pte_bundle, tmp_path / "empty"): "empty: holds no pictures",
        ("evaluate", pte_bundle, tmp_path / "flat"): "flat: has files but no folder named after a class",
        ("personalize", pte_bundle, tmp_path / "noise", "--profile", profile): "noise.png: damaged",
        (*personalize, "--solver", "magic"): "--solver",
        (*personalize, "--epochs", 3): "--epochs is for --solver sgd",
        (*personalize, "--penalty", 0): "--penalty 0",
        (*personalize, "--penalty", "nan"): "--penalty",
        (*personalize, "--lr", 0, "--solver", "sgd"): "--lr",
        ("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "flat"): "exists and is not a profile",
    }.items():
        outcome = native.run(*given)
        assert outcome.code == 2, given
        assert said in outcome.err, given
        assert not outcome.out
    assert not profile.exists() or not Personalizer(Bundle.open(pte_bundle), profile).predict([])
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["a.png"]


def test_help_and_version_are_no_errors(native: Native) -> None:
    assert "personalize" in native.run("--help").out
    assert native.run("--version").out.strip() == __import__("fbkit").__version__
    assert "--add-classes" in native.run("personalize", "--help").out


def test_a_picture_of_two_classes_is_refused(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(PICTURES / "train", tmp_path / "data"))
    shutil.copy(next((data / "sneaker").iterdir()), data / "t-shirt" / "twice.png")
    outcome = native.run("personalize", pte_bundle, data, "--profile", tmp_path / "profile")
    assert outcome.code == 2
    assert "remove one of the two" in outcome.err
    assert not (tmp_path / "profile").exists()


def test_a_learning_rate_that_is_too_high_is_told(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    given = ("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "profile")
    outcome = native.run(*given, "--solver", "sgd", "--lr", 1000, "--penalty", 1e6)
    assert outcome.code == 2
    assert "the head ran away in epoch" in outcome.err
    assert Personalizer(Bundle.open(pte_bundle), tmp_path / "profile").predict([]) == []


def test_a_batch_that_the_step_graph_cannot_take_is_told(
    native: Native, colour_bundle: Path, tinted: Callable[[str, int], Path], tmp_path: Path
) -> None:
    given = ("personalize", colour_bundle, tinted("train", 20), "--profile", tmp_path / "profile", "--solver", "sgd")
    assert "use --step formula" in native.run(*given, "--batch-size", 51).err
    assert native.run(*given, "--batch-size", 51, "--step", "formula").code == 0


def test_a_profile_of_another_bundle_or_altered_is_refused(
    native: Native, pte_bundle: Path, colour_bundle: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    native.json("personalize", pte_bundle, PICTURES / "train", "--profile", profile)
    picture = next((PICTURES / "test" / "sneaker").iterdir())
    assert "made with another bundle" in native.run("predict", colour_bundle, picture, "--profile", profile).err
    head = next((profile / "heads").iterdir())
    head.write_bytes(head.read_bytes()[:-1] + b"x")
    assert "was altered" in native.run("predict", pte_bundle, picture, "--profile", profile).err
    state = json.loads((profile / "profile.json").read_text())
    for key, value, said in (
        ("version", 3, "upgrade it"),
        ("version", 1, "personalize into a new folder"),
        ("in_use", "../../x.safetensors", "is no name that fbkit gives"),
        ("in_use", "0009.safetensors", "is none of its heads"),
        ("last_file", 1, "must be"),
        ("memory", state["memory"] * 2, "each file once"),
        ("classes", state["classes"][::-1], "are not the bundle's"),
        ("schema", "x", "schema"),
        ("limits", [], "limits"),
    ):
        (profile / "profile.json").write_text(json.dumps({**state, key: value}))
        outcome = native.run("predict", pte_bundle, picture, "--profile", profile)
        assert outcome.code == 2
        assert said in outcome.err


def test_a_signature_that_is_asked_for_must_be_there_and_right(
    native: Native, pte_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(pte_bundle, tmp_path / "bundle"))
    for name in ("key", "other"):
        make_keys(tmp_path / name)
    key, other = tmp_path / "key.pub", tmp_path / "other.pub"
    check = ("check", bundle, "--signed-by")
    assert "is missing, and the bundle must be signed by" in native.run(*check, key).err
    sign_bundle(bundle, tmp_path / "key")
    assert native.run(*check, key).code == 0
    monkeypatch.setenv("FBKIT_SIGNED_BY", str(key))
    assert native.run("check", bundle).code == 0
    monkeypatch.setenv("FBKIT_SIGNED_BY", str(other))
    assert "signed with another key" in native.run("check", bundle).err
    monkeypatch.delenv("FBKIT_SIGNED_BY")
    assert "not a public Ed25519 key in PEM" in native.run(*check, bundle / "manifest.json").err
    assert "not a public Ed25519 key in PEM" in native.run(*check, tmp_path / "key").err
    rsa = tmp_path / "rsa.pub"
    rsa.write_bytes(subprocess.run(["openssl", "genrsa", "512"], capture_output=True, check=False).stdout or b"x")
    assert native.run(*check, rsa).code == 2
    manifest = bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"epochs"', b'"epochs" ', 1))
    assert "is not a signature of this manifest.json" in native.run(*check, key).err
    (bundle / "signature.json").write_text("[]")
    assert native.run(*check, key).code == 2


def test_another_bodys_weights_with_fitting_checksums_are_found(
    native: Native, pte_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(pte_bundle, tmp_path / "bundle"))
    shutil.copy(bundle / "head_step.pte", bundle / "body.pte")
    assert (
        "body.pte: was altered" in native.run("check", bundle).err or "body.pte: has" in native.run("check", bundle).err
    )
    seal(bundle)
    outcome = native.run("check", bundle)
    assert outcome.code == 2
    assert "body.pte: ExecuTorch cannot run its method b1" in outcome.err
