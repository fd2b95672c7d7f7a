"""Driving step graphs: padding, capacity, graphs of version 1, and graphs that compute something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fbkit.device_runtime import Bundle, Head, Personalizer, Schedule, check_bundle
from fbkit.device_runtime.fitting import default_recipe
from fbkit.device_runtime.manifest import Manifest, read_manifest
from fbkit.device_runtime.probe import step_error
from fbkit.device_runtime.solvers.sgd import StepSettings, fit_sgd, numpy_step, start
from fbkit.device_runtime.solvers.step_graph import Arrays, GraphStep
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from fbkit.export.head_step import INPUT_NAMES, HeadStep
from tests.conftest import Outcome

VERSION_1 = Path(__file__).parent / "fixtures" / "bundle-v1"
CLASSES, CAPACITY, WIDTH, ROWS = 6, 9, 20, 16

Change = Callable[[dict[str, torch.Tensor]], None]


def made_up(count: int, classes: int = CLASSES) -> tuple[Head, Float, Labels]:
    rng = np.random.default_rng(0)
    head = Head(rng.normal(0, 0.2, (classes, WIDTH)).astype(np.float32), rng.normal(0, 0.2, classes).astype(np.float32))
    return head, rng.normal(0, 1, (count, WIDTH)).astype(np.float32), rng.integers(0, classes, count)


def graph_in_torch(change: Change | None = None) -> GraphStep:
    """A graph of version 2 with room for CAPACITY classes; ``change`` spoils its inputs."""
    step = HeadStep(CAPACITY)

    def run(arrays: Arrays) -> Arrays:
        inputs = dict(zip(INPUT_NAMES, map(torch.from_numpy, arrays), strict=True))
        if change:
            change(inputs)
        return [output.numpy() for output in step(**inputs)]

    return GraphStep(run, manifest())


def manifest() -> Manifest:
    return replace(read_manifest(VERSION_1), version=2, features=WIDTH, step_batch=ROWS, step_classes=CAPACITY)


def test_a_head_smaller_than_the_graph_is_padded_with_classes_that_do_not_count() -> None:
    head, features, labels = made_up(75)
    schedule = Schedule(epochs=10, lr=0.1, batch_size=ROWS, weight_decay=0.01, penalty=2)
    expected = fit_sgd(head, features, labels, schedule)
    listened: list[Head] = []
    found = fit_sgd(
        head, features, labels, schedule, graph_in_torch(), lambda _epoch, passed, _loss: listened.append(passed)
    )
    assert found.weight.shape == head.weight.shape
    np.testing.assert_allclose(found.weight, expected.weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=0, atol=1e-6)
    assert all(passed.bias.shape == (CLASSES,) for passed in listened)
    assert not np.array_equal(listened[0].weight, listened[1].weight), "a head once given does not change any more"


def test_steps_of_numpy_and_of_a_graph_follow_one_another() -> None:
    head, features, labels = made_up(ROWS)
    settings = StepSettings(0.1, 0.9, head, penalty=0.5)
    expected = mixed = start(head)
    for step in (graph_in_torch(), numpy_step, graph_in_torch(), graph_in_torch()):
        _, mixed = step(mixed, features, labels, settings)
        _, expected = numpy_step(expected, features, labels, settings)
    np.testing.assert_allclose(mixed.head.weight, expected.head.weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mixed.buffers.weight, expected.buffers.weight, rtol=0, atol=1e-6)


def test_more_classes_or_rows_than_the_graph_takes_are_refused() -> None:
    head, features, labels = made_up(ROWS + 1)
    with pytest.raises(UserError, match=f"takes batches of at most {ROWS}, asked for {ROWS + 1}"):
        fit_sgd(head, features, labels, Schedule(), graph_in_torch())
    head, features, labels = made_up(ROWS, CAPACITY + 1)
    with pytest.raises(UserError, match=f"at most {CAPACITY} classes, the head has {CAPACITY + 1}; .*--step numpy"):
        fit_sgd(head, features, labels, Schedule(), graph_in_torch())


@pytest.mark.parametrize(
    "outputs",
    [
        [np.zeros(1, np.float32)],
        [np.zeros(size, np.float64) for size in ((1,), (CAPACITY, WIDTH), CAPACITY, (CAPACITY, WIDTH), CAPACITY)],
    ],
)
def test_a_graph_that_gives_other_shapes_or_dtypes_is_refused_by_name(outputs: Arrays) -> None:
    head, features, labels = made_up(ROWS)
    with pytest.raises(UserError, match=r"head_step.onnx: gives float(32|64) \[1\].*; expected float32 \[\(1,\), \(9,"):
        fit_sgd(head, features, labels, Schedule(batch_size=ROWS), GraphStep(lambda _inputs: outputs, manifest()))


def without_mask(inputs: dict[str, torch.Tensor]) -> None:
    inputs["class_mask"] = torch.cat([torch.ones(CLASSES), torch.zeros(CAPACITY - CLASSES)])


def with_spare_classes(inputs: dict[str, torch.Tensor]) -> None:
    inputs["class_mask"] = (inputs["weight"].abs().sum(1) > 0).float() * inputs["class_mask"]
    inputs["class_mask"][-1] = 1


def without_decay(inputs: dict[str, torch.Tensor]) -> None:
    inputs["weight_decay"] = torch.zeros(1)


def without_penalty(inputs: dict[str, torch.Tensor]) -> None:
    inputs["penalty"] = torch.zeros(1)


def pull_to_zero(inputs: dict[str, torch.Tensor]) -> None:
    inputs["anchor_weight"] = torch.zeros_like(inputs["anchor_weight"])


def without_bias_anchor(inputs: dict[str, torch.Tensor]) -> None:
    inputs["anchor_bias"] = inputs["bias"]


def without_momentum(inputs: dict[str, torch.Tensor]) -> None:
    inputs["momentum"] = torch.zeros(1)


def padding_counts(inputs: dict[str, torch.Tensor]) -> None:
    inputs["row_weights"] = torch.ones(ROWS)


@pytest.mark.parametrize(
    "flaw",
    [
        without_mask,
        with_spare_classes,
        without_decay,
        without_penalty,
        pull_to_zero,
        without_bias_anchor,
        without_momentum,
        padding_counts,
    ],
)
@pytest.mark.parametrize("rows", [ROWS, 8, 2])
def test_the_check_of_a_graph_finds_every_input_that_it_gets_wrong(flaw: Change, rows: int) -> None:
    head, features, _ = made_up(rows)
    assert step_error(head, features, graph_in_torch(), plain=False) < 1e-6
    assert step_error(head, features, graph_in_torch(flaw), plain=False) > 1e-4


def test_a_bundle_of_version_1_still_checks_and_personalizes(client: Path, tmp_path: Path) -> None:
    assert check_bundle(VERSION_1).errors["step_error"] < 1e-5
    bundle = Bundle.open(VERSION_1)
    recipe = default_recipe(bundle.manifest.personalization, "sgd")
    heads: list[Head] = []
    for name, step in (("numpy", numpy_step), ("graph", bundle.graph_step)):
        Personalizer(bundle, tmp_path / name).fit(
            client / "train", recipe, step=step, listener=lambda _epoch, head, _loss: heads.append(head)
        )
    by_numpy, by_graph = heads[len(heads) // 2 - 1], heads[-1]
    assert np.abs(by_numpy.weight - bundle.head.weight).max() > 0.01
    np.testing.assert_allclose(by_graph.weight, by_numpy.weight, rtol=0, atol=1e-5)
    np.testing.assert_allclose(by_graph.bias, by_numpy.bias, rtol=0, atol=1e-5)


@pytest.mark.parametrize("more", ["weight_decay", "penalty", "class_mask"])
def test_what_a_graph_of_version_1_does_not_know_is_refused(more: str) -> None:
    bundle = Bundle.open(VERSION_1)
    head = bundle.head
    features, labels = np.zeros((5, head.weight.shape[1]), np.float32), np.arange(5)
    schedule = Schedule() if more == "class_mask" else replace(Schedule(), **{more: 0.1})  # type: ignore[arg-type]
    mask = np.arange(10) < 5 if more == "class_mask" else None
    with pytest.raises(
        UserError, match=r"head_step.onnx is of a bundle of version 1, with no .* class mask; .*--step numpy"
    ):
        fit_sgd(head, features, labels, schedule, bundle.graph_step, class_mask=mask)


def test_the_command_line_checks_a_bundle_of_version_1(fbkit: Callable[..., Outcome]) -> None:
    outcome = fbkit("check", VERSION_1)
    assert outcome.code == 0, outcome
