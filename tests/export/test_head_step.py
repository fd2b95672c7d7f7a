"""The step graph against autograd and torch.optim.SGD: in torch, in onnxruntime and in ExecuTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fbkit.device_runtime.pte_runtime import open_program
from fbkit.export.head_step import INPUT_NAMES, OUTPUT_NAMES, HeadStep
from fbkit.export.target import STEP_BATCH, Request, find_target

CLASSES, CAPACITY, WIDTH = 5, 7, 24
# Of the five classes this device has three; the last two rows are spare.
ALLOWED = torch.tensor([0, 2, 3])

Run = Callable[[list[Tensor]], list[Tensor]]


@cache
def step_file(target: str) -> bytes:
    return lower_step(target)


def lower_step(target: str) -> bytes:
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, WIDTH))
    request = Request(body, nn.Linear(WIDTH, CLASSES), (1, 4, 4), CAPACITY)
    return find_target(target).lower(request).step


def in_torch() -> Run:
    step = HeadStep(CAPACITY)
    return lambda inputs: list(step(*inputs))


def in_onnxruntime() -> Run:
    session = onnxruntime.InferenceSession(step_file("onnx"), providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == list(INPUT_NAMES)
    assert [node.name for node in session.get_outputs()] == list(OUTPUT_NAMES)

    def run(inputs: list[Tensor]) -> list[Tensor]:
        feed = {name: tensor.numpy() for name, tensor in zip(INPUT_NAMES, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feed)]

    return run


def in_executorch() -> Run:
    program = open_program(step_file("executorch"), "head_step.pte")
    assert program.runtime.startswith("executorch ")
    return lambda inputs: [
        torch.from_numpy(output) for output in program.run("forward", [tensor.numpy() for tensor in inputs])
    ]


@pytest.fixture(scope="module", params=[in_torch, in_onnxruntime, in_executorch])
def run(request: pytest.FixtureRequest) -> Run:
    made: Run = request.param()
    return made


@dataclass
class Batch:
    """features [S, F], labels [S] among the allowed classes, row weights [S]; the last rows may be padding."""

    features: Tensor
    labels: Tensor
    row_weights: Tensor


def draw_batch(generator: torch.Generator, rows: int, even: bool) -> Batch:
    features, labels, weights = torch.zeros(STEP_BATCH, WIDTH), torch.zeros(STEP_BATCH).long(), torch.zeros(STEP_BATCH)
    features[:rows] = torch.randn(rows, WIDTH, generator=generator)
    labels[:rows] = ALLOWED[torch.randint(len(ALLOWED), (rows,), generator=generator)]
    weights[:rows] = 1 if even else torch.rand(rows, generator=generator)
    return Batch(features, labels, weights)


def scalars(*values: float) -> list[Tensor]:
    return [torch.tensor([float(value)]) for value in values]


def draw_head(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    weight, bias = torch.zeros(CAPACITY, WIDTH), torch.zeros(CAPACITY)
    weight[:CLASSES] = torch.randn(CLASSES, WIDTH, generator=generator) / WIDTH**0.5
    bias[:CLASSES] = torch.randn(CLASSES, generator=generator) / WIDTH**0.5
    return weight, bias


class Reference:
    """Autograd and torch.optim.SGD on a layer that has the allowed classes and no others."""

    def __init__(self, head: tuple[Tensor, Tensor], lr: float, momentum: float, decay: float, penalty: float) -> None:
        self.anchor = [tensor[ALLOWED].clone() for tensor in head]
        self.parameters = [tensor.clone().requires_grad_() for tensor in self.anchor]
        self.optimizer = torch.optim.SGD(self.parameters, lr=lr, momentum=momentum, weight_decay=decay)
        self.penalty = penalty

    def step(self, batch: Batch) -> Tensor:
        rows = batch.row_weights > 0
        labels = torch.searchsorted(ALLOWED, batch.labels[rows])
        losses = nn.functional.cross_entropy(
            nn.functional.linear(batch.features[rows], *self.parameters), labels, reduction="none"
        )
        loss = (losses * batch.row_weights[rows]).sum() / batch.row_weights.sum()
        distance = sum(((now - then) ** 2).sum() for now, then in zip(self.parameters, self.anchor, strict=True))
        self.optimizer.zero_grad()
        (loss + self.penalty / 2 * distance).backward()
        self.optimizer.step()
        return loss.detach()


@pytest.mark.parametrize(
    ("lr", "momentum", "decay", "penalty", "even"),
    [
        (0.1, 0.9, 0.0, 0.0, True),
        (0.1, 0.9, 0.01, 0.0, True),
        (0.1, 0.9, 0.0, 0.2, True),
        (0.2, 0.5, 0.02, 0.1, False),
        (0.3, 0.0, 0.05, 0.3, False),
    ],
)
def test_fifty_steps_are_torchs_sgd(
    run: Run, lr: float, momentum: float, decay: float, penalty: float, even: bool
) -> None:
    """Classes missing, spare rows, weighted rows, every third batch padded, a pull to where it started."""
    generator = torch.Generator().manual_seed(1)
    head = draw_head(generator)
    reference = Reference(head, lr, momentum, decay, penalty)
    mask = torch.zeros(CAPACITY)
    mask[ALLOWED] = 1
    state = [*head, torch.zeros_like(head[0]), torch.zeros_like(head[1])]
    for number in range(50):
        batch = draw_batch(generator, 13 if number % 3 == 2 else STEP_BATCH, even)
        expected_loss = reference.step(batch)
        inputs = [batch.features, batch.labels, batch.row_weights, mask, *state, *head]
        loss, *state = run([*inputs, *scalars(lr, momentum, decay, penalty)])
        torch.testing.assert_close(loss, expected_loss.reshape(1), rtol=1e-4, atol=1e-6)
    for found, expected, before in zip(state[:2], reference.parameters, head, strict=True):
        expected = expected.detach()
        assert (found[ALLOWED] - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert (expected - before[ALLOWED]).abs().max() > 0.05 * expected.abs().max()
        assert torch.equal(found[mask == 0], before[mask == 0]), "a class that is left out does not move at all"
    for buffer in state[2:]:
        assert not buffer[mask == 0].any()


def test_a_full_mask_and_plain_settings_are_plain_sgd(run: Run) -> None:
    """As an app uses it that has every class and as many as the graph: all the new inputs at rest."""
    generator = torch.Generator().manual_seed(2)
    layer = nn.Linear(WIDTH, CAPACITY)
    head = [layer.weight.detach().clone(), layer.bias.detach().clone()]
    state = [*head, torch.zeros(CAPACITY, WIDTH), torch.zeros(CAPACITY)]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        features = torch.randn(STEP_BATCH, WIDTH, generator=generator)
        labels = torch.randint(CAPACITY, (STEP_BATCH,), generator=generator)
        expected = nn.functional.cross_entropy(layer(features), labels)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        rest = [torch.ones(STEP_BATCH), torch.ones(CAPACITY), *state, *(torch.zeros_like(tensor) for tensor in head)]
        loss, *state = run([features, labels, *rest, *scalars(0.1, 0.9, 0, 0)])
        torch.testing.assert_close(loss, expected.detach().reshape(1))
    torch.testing.assert_close(state[0], layer.weight.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(state[1], layer.bias.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_the_file_is_the_same_each_time_and_needs_no_backend(target: str) -> None:
    data = step_file(target)
    assert data == lower_step(target)
    for trace in (b"Xnnpack", b"site-packages", b".py", b"stack_trace"):
        assert trace not in data
