"""The rivals of the training benchmark: fbkit's net and batches, and in full, the same weights at the end."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch.nn.functional import cross_entropy

from fbkit.train.data import Batcher, Pictures
from fbkit.train.models import SplitModel, build_model
from fbkit.train.recipe import ModelRecipe

ROOT = Path(__file__).parents[2]
RIVALS = ROOT / "benchmarks" / "rivals"
PYTHON = ROOT / ".venv-rivals" / "bin" / "python"
MODULES = ("local_training", "net", "workload")

SIZES = (7, 19, 12)
COHORTS = ((0, 2), (2, 1))
SPEC: dict[str, Any] = {
    "format": "fbkit.workload",
    "version": 1,
    "rounds": 2,
    "warmup_rounds": 1,
    "batch_size": 32,
    "local_epochs": 2,
    "learning_rates": [0.05, 0.02],
    "momentum": 0.9,
    "weight_decay": 0.001,
    "weighting": "examples",
    "crop_padding": 0,
    "flip": False,
    "mean": [0.4],
    "std": [0.3],
    "classes": 3,
    "width": 4,
    "seed": 3,
    "workers": 2,
    "channels_last": True,
    "bfloat16": False,
}


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the rivals: scripts, which find each other in the folder that they lie in."""
    monkeypatch.syspath_prepend(RIVALS)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


def made_up_model() -> SplitModel:
    return build_model(ModelRecipe(width=SPEC["width"]), (1, 16, 16), SPEC["classes"], seed=0)


def write_workload(folder: Path, **spec: object) -> Path:
    """Three clients of unequal sizes, each of one batch; ``spec`` has what is to be other than in SPEC."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    count = sum(SIZES)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "images": rng.integers(0, 256, (count, 1, 16, 16), dtype=np.uint8),
        "labels": rng.integers(0, SPEC["classes"], count),
        "indices": rng.permutation(count),
        "offsets": np.cumsum((0, *SIZES)),
        "cohorts": np.array(COHORTS),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    weights = {name: np.ascontiguousarray(values.numpy()) for name, values in made_up_model().state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "spec.json").write_text(json.dumps(SPEC | spec))
    return folder


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 17, 30)])
def test_the_net_is_fbkits(
    shape: tuple[int, int, int], channels_last: bool, rival: Callable[[str], ModuleType]
) -> None:
    model = build_model(ModelRecipe(width=6), shape, 5, seed=1)
    start = {name: np.ascontiguousarray(values.numpy()) for name, values in model.state_dict().items()}
    spec = rival("workload").Spec(
        **{
            **{name: value for name, value in SPEC.items() if name not in ("format", "version")},
            "width": 6,
            "classes": 5,
            "channels_last": channels_last,
        }
    )
    net = rival("net").make_net(shape, spec, start)
    images = torch.randn(9, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 5
    for module in (model, net):
        module.train()
        cross_entropy(module(images), labels).backward()
    within = 1e-6 if channels_last else 1e-5  # in another layout sums are taken in another order
    torch.testing.assert_close(net(images), model(images), rtol=0, atol=within)
    for ours, theirs in zip(model.parameters(), net.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=0, atol=within)
    weights = rival("net").weights_of(net)
    assert weights.keys() == start.keys()
    for name, values in start.items():
        assert np.array_equal(weights[name], values)


def test_the_net_in_mixed_precision_computes_nearly_the_same(rival: Callable[[str], ModuleType]) -> None:
    images = torch.randn(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    exact = rival("net").Net((1, 28, 28), 6, 5)
    rough = rival("net").Net((1, 28, 28), 6, 5, bfloat16=True)
    rough.load_state_dict(exact.state_dict())
    difference = (rough(images) - exact(images)).abs().max()
    assert rough(images).dtype == torch.float32
    assert 1e-5 < difference < 0.1 * exact(images).abs().max()


def test_batches_hold_each_picture_once_normalised_as_fbkit_does(rival: Callable[[str], ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (21, 2, 6, 5), dtype=torch.uint8, generator=generator)
    labels = torch.arange(21)
    mean, std = (0.4, 0.5), (0.2, 0.3)
    batches = list(rival("local_training").Batcher(10, 0, False, mean, std).one_pass(images, labels, generator))
    assert [len(chosen) for _, chosen in batches] == [10, 11]  # one picture alone joins the others
    order = torch.cat([chosen for _, chosen in batches])
    assert sorted(order.tolist()) == labels.tolist()
    assert order.tolist() != labels.tolist()
    ((plain, _),) = Batcher(mean, std, 21).plain(Pictures(images, labels), order)
    torch.testing.assert_close(torch.cat([pictures for pictures, _ in batches]), plain)


def test_crops_and_flips_are_drawn_for_each_picture(rival: Callable[[str], ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(1, 256, (1, 2, 4, 3), dtype=torch.uint8, generator=generator)
    many, labels = picture.expand(300, -1, -1, -1), torch.zeros(300, dtype=torch.int64)
    padded = [torch.nn.functional.pad(pixels, [1] * 4) for pixels in (picture, picture.flip(3))]
    wanted = {
        tuple(pixels[0, :, top : top + 4, left : left + 3].flatten().tolist())
        for pixels in padded
        for top in range(3)
        for left in range(3)
    }
    batcher = rival("local_training").Batcher(300, 1, True, (0.0, 0.0), (1.0, 1.0))
    ((drawn, _),) = batcher.one_pass(many, labels, generator)
    found = {tuple((pixels * 255).round().int().flatten().tolist()) for pixels in drawn}
    assert found == wanted


def test_a_workload_is_read_as_it_was_written(tmp_path: Path, rival: Callable[[str], ModuleType]) -> None:
    workload = rival("workload").read_workload(write_workload(tmp_path / "workload"))
    assert workload.spec.learning_rates == SPEC["learning_rates"]
    assert workload.sizes == list(SIZES)
    assert workload.shape == (1, 16, 16)
    assert workload.pictures_of(1).tolist() == workload.indices[7:26].tolist()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"format": "other"}, "not the description of a workload"),
        ({"version": 2}, "not the description of a workload"),
        ({"rounds": 3}, "learning_rates"),
        ({"rounds": True}, "rounds"),
        ({"batch_size": 0}, "batch_size"),
        ({"momentum": -0.1}, "momentum"),
        ({"momentum": float("nan")}, "momentum"),
        ({"learning_rates": [0.1, "0.1"]}, "learning_rates"),
        ({"warmup_rounds": 2}, "none is left"),
        ({"weighting": "loss"}, "weighting"),
        ({"std": [0.0]}, "std"),
        ({"mean": [0.1, 0.1]}, "mean"),
        ({"classes": 2}, "labels.npy"),
        ({"workers": None}, "workers"),
        ({"width": 5}, "see body.0.bias"),
        ({"classes": 4}, "see head.bias, head.weight"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(
    spec: dict[str, object], message: str, tmp_path: Path, rival: Callable[[str], ModuleType]
) -> None:
    folder = write_workload(tmp_path / "workload", **spec)
    with pytest.raises(rival("workload").WorkloadError, match=message):
        rival("workload").read_workload(folder)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("images", np.zeros((38, 1, 16, 16), np.float32)),
        ("images", np.zeros((0, 1, 16, 16), np.uint8)),
        ("labels", np.zeros(37, np.int64)),
        ("labels", np.full(38, -1)),
        ("indices", np.full(38, 38)),
        ("offsets", np.array([0, 7, 26])),
        ("offsets", np.array([0, 7, 7, 38])),
        ("offsets", np.array([0])),
        ("cohorts", np.array([[0, 2]])),
        ("cohorts", np.array([[0, 2], [2, 3]])),
        ("cohorts", np.array([[0, 2], [1, 1]])),
        ("cohorts", np.zeros((2, 0), np.int64)),
        ("cohorts", np.array([{"a": 1}, {}])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    name: str, array: np.ndarray[Any, Any], tmp_path: Path, rival: Callable[[str], ModuleType]
) -> None:
    folder = write_workload(tmp_path / "workload")
    np.save(folder / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(rival("workload").WorkloadError, match=f"{name}.npy"):
        rival("workload").read_workload(folder)


@pytest.mark.parametrize("script", ["flower_simulation.py", "pfl_simulation.py"])
@pytest.mark.parametrize("damaged", ["spec.json", "labels.npy", "weights.safetensors", None])
def test_a_mistake_ends_in_one_line(script: str, damaged: str | None, tmp_path: Path) -> None:
    arguments = [str(write_workload(tmp_path / "workload")), str(tmp_path / "out")]
    if damaged:
        (tmp_path / "workload" / damaged).write_bytes(b"PK\x03\x04 nonsense")
    else:
        del arguments[1]
    result = subprocess.run(
        [sys.executable, str(RIVALS / script), *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert (damaged or "usage") in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def by_hand(folder: Path, weighting: str) -> dict[str, torch.Tensor]:
    """Federated averaging in plain torch on fbkit's net."""
    images, labels, indices, offsets = (
        torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("images", "labels", "indices", "offsets")
    )
    inputs = (images.float() / 255 - SPEC["mean"][0]) / SPEC["std"][0]
    model = made_up_model().train()
    server = {name: values.clone() for name, values in model.state_dict().items()}
    for cohort, lr in zip(COHORTS, SPEC["learning_rates"], strict=True):
        total = {name: torch.zeros_like(values) for name, values in server.items()}
        weights = [SIZES[client] if weighting == "examples" else 1 for client in cohort]
        for client, weight in zip(cohort, weights, strict=True):
            model.load_state_dict(server)
            mine = indices[offsets[client] : offsets[client + 1]]
            optimizer = torch.optim.SGD(
                model.parameters(), lr, momentum=SPEC["momentum"], weight_decay=SPEC["weight_decay"]
            )
            for _ in range(SPEC["local_epochs"]):
                optimizer.zero_grad()
                cross_entropy(model(inputs[mine]), labels[mine]).backward()
                optimizer.step()
            for name, values in model.state_dict().items():
                total[name] += weight / sum(weights) * values
        server = total
    return server


@pytest.mark.parametrize("weighting", ["clients", "examples"])
@pytest.mark.parametrize("contender", ["flower", "pfl"])
def test_a_contender_ends_with_the_weights_of_plain_federated_averaging(
    contender: str, weighting: str, tmp_path: Path, full: bool
) -> None:
    if not full:
        pytest.skip("starts whole simulations: in full only (make test-all)")
    if not PYTHON.exists():
        pytest.skip("needs the rivals' environment: make rivals")
    folder, out = write_workload(tmp_path / "workload", weighting=weighting), tmp_path / "out"
    script = RIVALS / f"{contender}_simulation.py"
    ended = subprocess.run([PYTHON, script, folder, out], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in out.iterdir()) == ["result.json", "weights.safetensors"]
    result = json.loads((out / "result.json").read_text())
    assert result["contender"] == contender
    assert result["versions"]["torch"]
    assert result["startup_seconds"] > 0
    assert len(result["round_seconds"]) == len(COHORTS)
    assert all(seconds > 0 for seconds in result["round_seconds"])
    assert result["pictures"] == [2 * (7 + 12), 2 * (12 + 19)]
    assert all(isinstance(note, str) for note in result["notes"])
    found = load_file(out / "weights.safetensors")
    wanted = by_hand(folder, weighting)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(torch.from_numpy(found[name]), values, rtol=0, atol=1e-5)
