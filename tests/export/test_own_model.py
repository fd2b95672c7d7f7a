"""Models that fbkit never trained: exported to both targets and precisions, used as a device does, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.body import normalise, open_network
from fbkit.device_runtime.manifest import Defaults, read_manifest
from fbkit.export import Options, export_model
from fbkit.export.own_model import exportable_model
from fbkit.files import sha256_file
from fbkit.train.models import build_model
from fbkit.train.recipe import ModelRecipe
from fbkit.train.weights import save_weights
from tests.conftest import Outcome
from tests.export.own_nets import CLASSES, SPEC, ByBatch, DoubledHead, Net, NoBias, Own, arguments, make_own, normalised


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    return make_own(tmp_path_factory.mktemp("own"))


def flat(options: dict[str, object]) -> list[object]:
    return [part for option in options.items() for part in option]


@pytest.mark.parametrize(
    ("target", "precision"), [("onnx", "fp32"), ("executorch", "int8"), ("onnx", "int8"), ("executorch", "fp32")]
)
def test_an_own_model_is_exported_and_personalized(
    target: str, precision: str, own: Own, tmp_path: Path, fbkit: Callable[..., Outcome], full: bool
) -> None:
    if (target, precision) not in (("onnx", "fp32"), ("executorch", "int8")) and not full:
        pytest.skip("long")
    out = tmp_path / "bundle"
    more = ["--with-model", *(["--with-training-module"] if target == "executorch" else [])]
    given = ["--target", target, "--precision", precision, "--out", out, *flat(arguments(own)), *more]
    outcome = fbkit("export", *given)
    assert outcome.code == 0, outcome.err
    assert "accuracy: torch" in outcome.out

    bundle = Bundle.open(out)
    manifest = bundle.manifest
    assert (manifest.target, manifest.precision, manifest.classes) == (target, precision, CLASSES)
    assert manifest.input == SPEC
    assert manifest.step_classes == len(CLASSES) + 10
    paths = sorted(own.model.calibrate.glob("*/*.png"))
    pictures = [bundle.decode(path.read_bytes()) for path in paths]
    with torch.no_grad():
        logits = own.net(normalised(np.stack(pictures))).numpy()
    found = bundle.head.logits(bundle.features(pictures))
    error = np.abs(found - logits).max() / np.abs(logits).max()
    assert error < (1e-5 if precision == "fp32" else 0.1)
    assert (found.argmax(1) == logits.argmax(1)).mean() > 0.97

    assert manifest.verification["torch_accuracy"] > 90
    assert manifest.verification["bundle_accuracy"] == pytest.approx(manifest.verification["torch_accuracy"], abs=0.5)
    assert manifest.model is not None
    model = open_network(manifest, manifest.model, len(CLASSES), bundle.read(manifest.model), None)
    whole = model.features(normalise(np.stack(pictures), SPEC))
    assert (whole.argmax(1) == logits.argmax(1)).mean() > 0.97
    assert manifest.verification["model"]["agreement"] >= 98
    assert (manifest.training_module == "training.pte") == (target == "executorch")
    assert manifest.personalization == Defaults()
    assert not manifest.verification["personalization"]["measured"]

    fitted = Personalizer(bundle, tmp_path / "profile").fit(own.model.calibrate)
    assert fitted.loss_after < fitted.loss_before
    assert sum(fitted.pictures.values()) == len(paths)


@pytest.fixture(scope="module")
def int8(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    return export_model(own.model, "onnx", folder, Options("int8", spare_classes=2))


def test_the_manifest_says_where_an_own_model_comes_from(own: Own, int8: Bundle) -> None:
    provenance = int8.manifest.provenance
    assert provenance["model"] == own.model.name
    assert provenance["trained_by_fbkit"] is False
    assert provenance["weights_sha256"] == sha256_file(own.model.weights)
    assert provenance["calibrated_on"]["pictures"] == provenance["verified_on"]["pictures"] == 60
    assert provenance["calibrated_on"]["sha256"] != provenance["verified_on"]["sha256"]
    assert int8.manifest.step_classes == 5
    assert str(own.model.weights.parent) not in (int8.folder / "manifest.json").read_text()


def test_an_int8_probe_holds_what_the_int8_body_computes(int8: Bundle) -> None:
    """So a device can reproduce it far more closely than torch's fp32 values."""
    assert int8.self_test.feature_error < 1e-5 < 1e-3 < int8.manifest.verification["feature_error"]


def test_pictures_without_labels_judge_by_agreement(own: Own, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    heap = tmp_path / "heap"
    heap.mkdir()
    for path in own.model.calibrate.glob("*/*.png"):
        shutil.copy(path, heap / f"{path.parent.name}-{path.name}")
    (heap / ".hidden").touch()
    (heap / "Thumbs.db").touch()
    outcome = fbkit(
        "export", "--target", "onnx", "--out", tmp_path / "bundle", *flat(arguments(own) | {"--calibrate": heap})
    )
    assert outcome.code == 0, outcome.err
    assert "accuracy" not in outcome.out
    verification = read_manifest(tmp_path / "bundle").verification
    assert verification["pictures"] == 60
    assert verification["agreement"] == 100
    assert "bundle_accuracy" not in verification


def test_weights_may_come_in_torchs_format_and_a_head_without_a_bias(tmp_path: Path) -> None:
    own = make_own(tmp_path, NoBias, each=3)
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": own.net.state_dict()}, path)
    for weights in (own.model.weights, path):
        head = exportable_model(replace(own.model, weights=weights, head="classifier.1"), "fp32").model.head
        assert not head.bias.any()
        assert torch.equal(head.weight, own.net.state_dict()["classifier.1.weight"])


def test_a_model_that_fbkit_knows_is_exported_by_its_name(tmp_path: Path) -> None:
    own = make_own(tmp_path, each=3)
    model = build_model(ModelRecipe(name="conv4", norm="running"), (3, 16, 12), len(CLASSES), seed=3)
    save_weights(tmp_path / "conv4.safetensors", model.state_dict())
    found = exportable_model(replace(own.model, name="conv4", weights=tmp_path / "conv4.safetensors"), "fp32").model
    assert all(torch.equal(values, model.state_dict()[name]) for name, values in found.state_dict().items())


DROP = object()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--input": "96x96"}, "--input 96x96: write CHANNELSxHEIGHTxWIDTH, as in 3x96x96"),
        ({"--input": "2x8x8"}, "--input 2x8x8: pictures have 1 channel (grey) or 3 (RGB), not 2"),
        ({"--input": "3x0x8"}, "--input 3x0x8: height and width must be from 1 to 4096"),
        ({"--mean": "0.5"}, "--mean 0.5: has 1 numbers, but --input has 3 channels"),
        ({"--mean": "0.5,0.5,x"}, "--mean 0.5,0.5,x: write numbers with commas"),
        ({"--mean": "0.5,0.5,nan"}, "--mean 0.5,0.5,nan: must be of values in 0..1"),
        ({"--std": "1,1,1,1"}, "--std 1,1,1,1: has 4 numbers"),
        ({"--std": "1,0,1"}, "--std 1,0,1: must be above 1e-06"),
        ({"--model": "conv5"}, "--model 'conv5' is not known; did you mean conv4?"),
        ({"--model": "not_there.nets:Net"}, "--model 'not_there.nets:Net': there is no module not_there"),
        ({"--head": "fc"}, "--head 'fc' is no linear layer"),
        ({"--weights": "none.safetensors"}, "none.safetensors: no such file"),
        ({"--weights": "none.bin"}, "none.bin: not known as weights by its name"),
        ({"--classes": "none.txt"}, "--classes none.txt: cannot be read (No such file or directory)"),
        ({"--calibrate": "none"}, "--calibrate none: no such folder"),
        ({"--weights": DROP}, "needs --weights, too"),
        ({"--mean": DROP, "--calibrate": DROP, "--input": DROP}, "needs --input, --mean, --calibrate, too"),
        ({"--model": DROP}, "what to export? give a RUN folder, or --model"),
        ({"--data-root": "."}, "--data-root: only for a RUN"),
        ({"--spare-classes": 100_000}, "--spare-classes 100000: with the model's 3 classes it must come to at most"),
        ({"--keep-float": "layers.0"}, "--keep-float is for --precision int8"),
        ({"--precision": "int8", "--keep-float": "layers.77"}, "layers.77"),
        ({"--precision": "fp16"}, "--precision"),
    ],
)
def test_a_bad_option_ends_in_one_line_and_writes_nothing(
    changes: dict[str, object], said: str, own: Own, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    options = {option: value for option, value in (arguments(own) | changes).items() if value is not DROP}
    assert_refused(fbkit, tmp_path, options, said)


def assert_refused(fbkit: Callable[..., Outcome], folder: Path, options: dict[str, object], said: str) -> None:
    out = folder / "new" / "bundle"
    outcome = fbkit("export", "--target", "onnx", "--out", out, *flat(options))
    assert outcome.code == 2, outcome
    assert said in outcome.err, outcome
    assert outcome.err.count("\n") == 1, outcome
    assert outcome.out == ""
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_a_run_and_a_model_are_not_mixed(own: Own, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    cases = [
        (("--model", own.model.name), "give a RUN folder or --model, not both"),
        (("--weights", "w.pt", "--head", "fc"), "--weights, --head: only for --model; a run knows these itself"),
    ]
    for given, said in cases:
        outcome = fbkit("export", tmp_path, "--target", "onnx", "--out", tmp_path / "bundle", *given)
        assert outcome.code == 2
        assert said in outcome.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"red\ngreen\nred\n", "names a class twice"),
        (b"red\n\n", "has 1 classes; at least 2"),
        (b"red\ngreen\n", "is [3, 16], but for 2 classes it must be [2, 16]"),
        (b"red\ngreen\na/b\n", "'a/b' cannot be a class's name"),
        (b"red\ngreen\n" + b"b" * 201, "'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'... is longer than 200 characters"),
        (b"red\ngreen\n\xff\n", "not text in UTF-8"),
    ],
)
def test_bad_classes_are_refused(
    content: bytes, said: str, own: Own, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    # Pictures whose folders name no class: what is refused is the file.
    shutil.copytree(own.model.calibrate / "red", tmp_path / "pictures")
    assert_refused(fbkit, tmp_path, arguments(own) | {"--classes": path, "--calibrate": tmp_path / "pictures"}, said)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda state: state.pop("layers.0.weight"), "does not fit the model: layers.0.weight missing"),
        (
            lambda state: state.pop("layers.4.running_var"),
            "has no layers.4.running_var, but a device takes one picture",
        ),
        (lambda state: state.pop("classifier.1.bias"), "has no classifier.1.bias, the model's head"),
        (lambda state: state.update(more=torch.zeros(1)), "does not fit the model, which has no more"),
        (lambda state: state["layers.0.bias"].fill_(torch.nan), "layers.0.bias holds values that are not finite"),
        (lambda state: state.update({"layers.0.bias": torch.zeros(5)}), "layers.0.bias is torch.float32 [5]"),
        (lambda state: state.update({"classifier.1.weight": torch.zeros(3, 5)}), "classifier.1.weight is [3, 5]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    break_it: Callable[[dict[str, torch.Tensor]], object],
    said: str,
    own: Own,
    tmp_path: Path,
    fbkit: Callable[..., Outcome],
) -> None:
    state = load_file(own.model.weights)
    break_it(state)
    save_file(state, tmp_path / "weights.safetensors")
    assert_refused(fbkit, tmp_path, arguments(own) | {"--weights": tmp_path / "weights.safetensors"}, said)


def test_a_pickle_is_no_weights(own: Own, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    torch.save(own.net, tmp_path / "weights.pt")
    said = "weights.pt: damaged, or holds more than plain tensors"
    assert_refused(fbkit, tmp_path, arguments(own) | {"--weights": tmp_path / "weights.pt"}, said)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (ByBatch, "has no layers.1.running_mean, but a device takes one picture at a time"),
        (DoubledHead, "its last layer classifier.1 is more than a plain nn.Linear"),
    ],
)
def test_a_model_that_cannot_be_split_or_run_on_one_picture_is_refused(
    kind: type[torch.nn.Module], said: str, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    assert_refused(fbkit, tmp_path, arguments(make_own(tmp_path, kind, each=2)), said)


def test_pictures_that_cannot_be_used_are_refused(own: Own, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    empty, few, odd, broken = (tmp_path / name for name in ("empty", "few", "odd", "broken"))
    (empty / "red").mkdir(parents=True)
    few.mkdir()
    for path in sorted(own.model.calibrate.glob("red/*"))[:7]:
        shutil.copy(path, few)
    shutil.copytree(own.model.calibrate / "red", odd / "red")
    shutil.copytree(own.model.calibrate / "red", odd / "purple")
    broken.mkdir()
    (broken / "picture.png").write_bytes(b"not one")
    cases: list[tuple[Path, dict[str, object], str]] = [
        (empty, {}, "empty: holds no pictures"),
        (few, {"--precision": "int8"}, "7 pictures are too few for --precision int8, which needs at least 100"),
        (odd, {}, "'purple' is not a class"),
        (broken, {}, "picture.png: not a picture that can be read"),
    ]
    for folder, more, said in cases:
        assert_refused(fbkit, tmp_path, arguments(own) | {"--calibrate": folder} | more, said)


class CountsPictures(Net):
    """torch.export's first way takes the number of its example's pictures for the only one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.layers(images).reshape(len(images), -1)
        logits: torch.Tensor = self.classifier(features + torch.zeros(len(images), 1))
        return logits


class OneByOne(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(torch.cat([self.layers(image) for image in images.split(1)]))
        return logits


class ByValue(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.layers(images)
        if features.mean() > 0:
            features = 2 * features
        return self.classifier(features)  # type: ignore[no-any-return]


class Squeezed(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.layers(images)[:, :, None].squeeze()
        return self.classifier(features)  # type: ignore[no-any-return]


class Mixing(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.layers(images)
        return self.classifier(features - features.mean(0))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("executorch", "int8"), ("onnx", "int8")])
def test_a_model_may_ask_for_the_number_of_pictures(target: str, precision: str, tmp_path: Path, full: bool) -> None:
    if (target, precision) != ("onnx", "fp32") and not full:
        pytest.skip("all go the same way at first")
    own = make_own(tmp_path, CountsPictures)
    bundle = export_model(own.model, target, tmp_path / "bundle", Options(precision))
    pictures = [bundle.decode(path.read_bytes()) for path in sorted(own.model.calibrate.glob("red/*"))]
    with torch.no_grad():
        logits = own.net(normalised(np.stack(pictures))).numpy()
    for count in (1, 7, 40):
        found = bundle.head.logits(bundle.features(pictures[:count]))
        error = np.abs(found - logits[:count]).max() / np.abs(logits).max()
        assert error < (1e-5 if precision == "fp32" else 0.1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OneByOne, "its forward works for some numbers of pictures only, as it does with a loop over pictures"),
        (ByValue, "its forward goes by the values in a tensor, as with an if or item()"),
        (Squeezed, "gives a picture alone other features than in a batch, but a device takes one picture at a time"),
        (Mixing, "gives a picture alone other features than in a batch, but a device takes one picture at a time"),
    ],
)
def test_a_model_without_a_graph_for_any_number_of_pictures_is_refused(
    kind: type[torch.nn.Module], said: str, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    assert_refused(fbkit, tmp_path, arguments(make_own(tmp_path, kind, each=2)), said)
