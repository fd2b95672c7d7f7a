"""The solver against torch.optim.SGD on the same features and batches, in numpy and through both step graphs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbkit.device_runtime import Bundle, Head, Personalizer, Schedule
from fbkit.device_runtime.fitting import Recipe, recipe_from_json
from fbkit.device_runtime.shuffle import epoch_order, splitmix64
from fbkit.device_runtime.solvers.sgd import Step, fit_sgd, numpy_step
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from tests.conftest import Outcome
from tests.device_runtime.conftest import opened


def made_up(count: int, features: int, classes: int, seed: int = 0) -> tuple[Head, Float, Labels]:
    rng = np.random.default_rng(seed)
    head = Head(
        rng.normal(0, 0.1, (classes, features)).astype(np.float32), rng.normal(0, 0.1, classes).astype(np.float32)
    )
    return head, rng.normal(0, 1, (count, features)).astype(np.float32), rng.integers(0, classes, count)


def by_torch(
    head: Head, features: Float, labels: Labels, schedule: Schedule, classes: Labels
) -> tuple[Head, list[float]]:
    """The rows of ``classes``, trained as a layer that has no others; the rest of the head stays as it is."""
    shipped = [torch.from_numpy(head.weight[classes]), torch.from_numpy(head.bias[classes])]
    parameters = [tensor.clone().requires_grad_() for tensor in shipped]
    optimizer = torch.optim.SGD(
        parameters, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )
    places = torch.from_numpy(np.searchsorted(classes, labels))
    losses = []
    for epoch in range(1, schedule.epochs + 1):
        total = 0.0
        order = torch.from_numpy(epoch_order(len(labels), schedule.seed, epoch))
        for batch in order.split(schedule.batch_size):
            logits = torch.nn.functional.linear(torch.from_numpy(features)[batch], *parameters)
            loss = torch.nn.functional.cross_entropy(logits, places[batch])
            distance = sum(((now - then) ** 2).sum() for now, then in zip(parameters, shipped, strict=True))
            optimizer.zero_grad()
            (loss + schedule.penalty / len(labels) / 2 * distance).backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / len(labels))
    weight, bias = head.weight.copy(), head.bias.copy()
    weight[classes], bias[classes] = (tensor.detach().numpy() for tensor in parameters)
    return Head(weight, bias), losses


@pytest.fixture(params=["numpy", "onnx_bundle", "pte_bundle"])
def step(request: pytest.FixtureRequest) -> tuple[Step, int]:
    """A way to compute a step, and the feature width it works at."""
    if request.param == "numpy":
        return numpy_step, 48
    folder: Path = request.getfixturevalue(request.param)
    bundle = Bundle.open(folder)
    return bundle.graph_step, bundle.manifest.features


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(epochs=20, lr=0.05),
        Schedule(epochs=9, lr=0.1, batch_size=13, seed=4),
        Schedule(epochs=9, lr=0.1, batch_size=20, weight_decay=0.02),
        Schedule(epochs=9, lr=0.1, batch_size=20, penalty=5.0),
        Schedule(epochs=9, lr=0.05, weight_decay=0.01, penalty=9.0),
    ],
)
@pytest.mark.parametrize("classes", [range(10), (1, 4, 5, 8)])
def test_heads_and_losses_equal_torchs(step: tuple[Step, int], schedule: Schedule, classes: Sequence[int]) -> None:
    """With every class and with some left out: 107 pictures, so that the last batch is not full."""
    compute, width = step
    head, features, labels = made_up(107, width, 10)
    allowed = np.array(classes)
    labels = allowed[labels % len(allowed)]
    expected, expected_losses = by_torch(head, features, labels, schedule, allowed)
    losses: list[float] = []
    mask = None if len(allowed) == 10 else np.isin(np.arange(10), allowed)
    found = fit_sgd(head, features, labels, schedule, compute, lambda _e, _h, loss: losses.append(loss), mask)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=0, atol=1e-5)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    others = np.setdiff1d(np.arange(10), allowed)
    assert np.array_equal(found.weight[others], head.weight[others])
    assert np.array_equal(found.bias[others], head.bias[others])


def test_the_given_head_is_left_as_it_is(step: tuple[Step, int]) -> None:
    compute, width = step
    head, features, labels = made_up(20, width, 10)
    weight, bias = head.weight.copy(), head.bias.copy()
    fit_sgd(head, features, labels, Schedule(epochs=2), compute)
    assert np.array_equal(head.weight, weight)
    assert np.array_equal(head.bias, bias)


def test_a_rate_that_is_too_high_is_told(step: tuple[Step, int]) -> None:
    compute, width = step
    head, features, labels = made_up(60, width, 10)
    with np.errstate(all="ignore"), pytest.raises(UserError, match="ran away in epoch 1 at learning rate"):
        fit_sgd(head, features * 1e30, labels, Schedule(lr=1e20), compute)


def test_what_is_left_out_is_taken_from_the_bundle(
    onnx_bundle: Path, client: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    folder = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["personalization"] |= {"epochs": 2, "lr": 0.03, "momentum": 0.8, "batch_size": 40, "penalty": 7.0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle, profile = Bundle.open(folder), tmp_path / "profile"
    command = ("personalize", folder, client / "train", "--profile", profile)
    of_sgd = ("--solver", "sgd")
    options: list[tuple[object, ...]] = [
        (),
        ("--penalty", 3),
        of_sgd,
        (*of_sgd, "--epochs", 3, "--absent", "mask"),
        (*of_sgd, "--lr", 0.02, "--batch-size", 33, "--seed", 4, "--penalty", 0.5),
    ]
    for more in options:
        assert fbkit(*command, *more).code == 0
    Personalizer(bundle, profile).fit(client / "train")
    found = [
        recipe_from_json(entry, "journal") for entry in opened(profile, bundle).journal() if entry["event"] == "fit"
    ]
    schedule = Schedule(epochs=2, lr=0.03, momentum=0.8, batch_size=40)
    assert found == [
        Recipe("exact", "keep", 7.0),
        Recipe("exact", "keep", 3.0),
        Recipe("sgd", "keep", 0.0, schedule),
        Recipe("sgd", "mask", 0.0, replace(schedule, epochs=3)),
        Recipe("sgd", "keep", 0.5, replace(schedule, lr=0.02, batch_size=33, seed=4, penalty=0.5)),
        Recipe("exact", "keep", 7.0),
    ]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**40), st.integers(1, 1000))
def test_an_epochs_order_is_a_permutation_fixed_by_seed_and_epoch(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, epoch_order(count, seed, epoch))


def test_orders_differ_between_epochs_and_seeds_and_favour_no_place() -> None:
    orders = {tuple(epoch_order(6, seed, epoch)) for seed in range(20) for epoch in range(1, 20)}
    assert len(orders) > 250
    places = np.array([epoch_order(5, seed, 1) for seed in range(5000)])
    for place in range(5):
        shares = np.bincount(places[:, place], minlength=5) / 5000
        assert np.abs(shares - 0.2).max() < 0.03


def test_the_generator_is_splitmix64() -> None:
    """The first draws from seed 1234567, as published with the algorithm's reference implementation."""
    draws = splitmix64(1234567)
    assert [next(draws) for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_loss_and_probabilities_are_torchs(seed: int) -> None:
    head, features, labels = made_up(30, 16, 5, seed)
    logits = torch.from_numpy(head.logits(features * 50))
    expected = float(torch.nn.functional.cross_entropy(logits.double(), torch.from_numpy(labels)))
    assert head.loss(features * 50, labels) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(head.probabilities(features * 50), logits.softmax(1), atol=1e-6)
    assert head.accuracy(features, labels) == pytest.approx(
        100 * float((head.logits(features).argmax(1) == labels).mean())
    )
