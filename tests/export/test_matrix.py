"""Every model, on every target, in every precision, at every size of batch; and what lowering tells and is told."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import fbkit
from fbkit.device_runtime.body import Body
from fbkit.device_runtime.onnx_runtime import OnnxBody
from fbkit.device_runtime.probe import BATCH_TOLERANCE, relative_error
from fbkit.device_runtime.pte_runtime import PteBody, open_program
from fbkit.device_runtime.tensors import Float
from fbkit.errors import UserError
from fbkit.export.quiet import quiet_exporters
from fbkit.export.target import Lowered, Request, find_target
from tests.export.trained import CLASSES, EVERY, FEATURES, GROUPS, OWN, Trained, train_briefly

TARGETS = ("onnx", "executorch")

# An int8 body's error over all features of many pictures, root of squares, relative to torch's. On both targets alike,
# small networks stay below 0.02, and a deep one that has seen 2,000 pictures gets to 0.3. A wrong scale gives 1.
INT8_ERROR = dict.fromkeys(EVERY, 0.4) | dict.fromkeys((OWN, "conv4", GROUPS), 0.03)
INT8_SIZE = 0.3  # of fp32's bytes, for bodies above 2 MB

LowerOwn = Callable[[str, str], Lowered]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "trained" in metafunc.fixturenames:
        names = EVERY if metafunc.config.getoption("--all") else [OWN]
        metafunc.parametrize("trained", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, own: Trained) -> Trained:
    return own if request.param == OWN else train_briefly(request.param)


@pytest.fixture(scope="module")
def own() -> Trained:
    return train_briefly(OWN)


@pytest.fixture(scope="module")
def lower_own(own: Trained, full: bool) -> LowerOwn:
    """The own model, lowered once for all tests, with the head where that takes no time."""

    @cache
    def lower_once(target: str, precision: str) -> Lowered:
        return lower(target, own.request(precision, with_model=full or target == "onnx"))

    return lower_once


def lower(target: str, request: Request) -> Lowered:
    with quiet_exporters():
        return find_target(target).lower(request)


def opened(target: str, lowered: Lowered, features: int = FEATURES) -> Body:
    if target == "onnx":
        return OnnxBody(lowered.body, "body.onnx", features, 32, 1)
    return PteBody(open_program(lowered.body, "body.pte"), lowered.body_batches, features, "body.pte")


def in_batches(body: Body, images: Float, size: int) -> Float:
    return np.concatenate([body.features(images[start : start + size]) for start in range(0, len(images), size)])


def root_mean_square_error(found: Float, expected: Float) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("target", TARGETS)
def test_features_are_torchs_alone_and_in_any_batch(
    trained: Trained, target: str, lower_own: LowerOwn, full: bool
) -> None:
    images = trained.unseen[:160].numpy()
    with torch.no_grad():
        expected = torch.cat([trained.model.body(batch) for batch in trained.unseen[:160].split(32)]).numpy()
    sizes = {}
    for precision in ("fp32", "int8") if full else ("int8",):
        lowered = lower_own(target, precision) if trained.name == OWN else lower(target, trained.request(precision))
        body = opened(target, lowered, expected.shape[1])
        whole = in_batches(body, images, 32)
        for size in (1, 5):  # the first 40 pictures, one by one and in odd batches
            part = in_batches(body, images[:40], size)
            assert part.dtype == np.float32
            assert relative_error(part, whole[:40]) <= BATCH_TOLERANCE[precision]
        if precision == "fp32":
            assert relative_error(whole, expected) <= 1e-4
        else:
            assert root_mean_square_error(whole, expected) <= INT8_ERROR[trained.name]
        sizes[precision] = len(lowered.body)
    if full and sizes["fp32"] > 2_000_000:
        assert sizes["int8"] <= INT8_SIZE * sizes["fp32"]


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_to_stay_float_stays_so(own: Trained, target: str, lower_own: LowerOwn, full: bool) -> None:
    """A 1x1 convolution's weights are in the file as they are, and the error is smaller."""
    if target == "executorch" and not full:
        pytest.skip("with --all: each lowering takes seconds")
    images = own.unseen[:64]
    with torch.no_grad():
        expected = own.model.body(images).numpy()
    rounded = lower_own(target, "int8")
    kept = lower(target, own.request("int8", keep_float=("squeeze", "depthwise")))
    weights = own.model.body.get_parameter("squeeze.weight").detach().numpy().tobytes()
    assert weights in kept.body
    assert weights not in rounded.body
    error, without = (
        root_mean_square_error(opened(target, lowered).features(images.numpy()), expected)
        for lowered in (kept, rounded)
    )
    assert error < 0.95 * without
    assert error > 0.005  # the rest is still rounded


@pytest.mark.parametrize("target", TARGETS)
def test_a_body_of_which_all_stays_float_is_exact(own: Trained, target: str, full: bool) -> None:
    """Named is the module that has all others in it, and sums them in its own forward."""
    if not full:
        pytest.skip("with --all: each lowering takes seconds")
    images = own.unseen[:64]
    with torch.no_grad():
        expected = own.model.body(images).numpy()
    request = own.request("int8", keep_float=("0",))
    lowered = lower(target, replace(request, body=torch.nn.Sequential(request.body)))
    assert relative_error(opened(target, lowered).features(images.numpy()), expected) <= 1e-5


@pytest.mark.parametrize("target", TARGETS)
def test_an_unknown_module_is_refused_with_the_nearest(own: Trained, target: str) -> None:
    with pytest.raises(UserError, match=r"^--keep-float stem.4: the body has no such module; it has stem"):
        lower(target, own.request("int8", ("mix.0", "stem.4")))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_whole_model_gives_the_heads_logits_of_the_bodys_features(
    own: Trained, target: str, precision: str, lower_own: LowerOwn, full: bool
) -> None:
    if (target, precision) != ("onnx", "int8") and not full:
        pytest.skip("with --all: each lowering takes seconds")
    lowered = lower_own(target, precision)
    assert lowered.model is not None
    images = own.unseen[:32].numpy()
    with torch.no_grad():
        expected = own.model.head(torch.from_numpy(opened(target, lowered).features(images))).numpy()
    if target == "onnx":
        session = onnxruntime.InferenceSession(lowered.model, providers=["CPUExecutionProvider"])
        found = [session.run(["logits"], {"images": images[:size]})[0] for size in (1, 5, 32)]
    else:
        program = open_program(lowered.model, "model.pte")
        found = [program.run(f"b{size}", [images[:size]])[0] for size in lowered.body_batches]
    for logits in found:
        assert logits.dtype == np.float32 and logits.shape[1] == CLASSES
        assert relative_error(logits, expected[: len(logits)]) <= BATCH_TOLERANCE[precision]


# As a device: without torch, by the bundle's reader.
FEATURES_OF = """
import sys, numpy as np
from fbkit.device_runtime.onnx_runtime import OnnxBody
body, images, features = sys.argv[1:]
np.save(features, OnnxBody(open(body, "rb").read(), body, FEATURES, 32, 1).features(np.load(images)))
"""


def test_an_int8_body_is_right_on_processors_without_vnni(own: Trained, lower_own: LowerOwn, tmp_path: Path) -> None:
    """onnxruntime adds 8-bit products in 16 bits there, and the features are wrong by 0.08, unless it is told not to.

    Then each call of a layer needs weights of its own, or it fails.
    """
    emulator = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if emulator is None or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("older x86-64 processors are emulated by qemu-user, on Linux on x86-64")
    images = own.unseen[:16]
    paths = [tmp_path / name for name in ("body.onnx", "images.npy", "features.npy")]
    paths[0].write_bytes(lower_own("onnx", "int8").body)
    np.save(paths[1], images.numpy())
    code = FEATURES_OF.replace("FEATURES", str(FEATURES))
    modules = [str(Path(module.__file__ or "").parent.parent) for module in (fbkit, np)]
    ended = subprocess.run(
        [emulator, "-cpu", "Haswell-noTSX", Path(sys.executable).resolve(), "-c", code, *paths],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(modules)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    with torch.no_grad():
        expected = own.model.body(images).numpy()
    assert root_mean_square_error(np.load(paths[2]), expected) < INT8_ERROR[OWN]
