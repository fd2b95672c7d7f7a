"""The joint graph of the head through ExecuTorch's own TrainingModule, against torch.optim.SGD."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from executorch.extension.training import _load_for_executorch_for_training, get_sgd_optimizer
from torch import Tensor, nn

from fbkit.export.training_module import lower_training_module

BATCH, WIDTH, CLASSES = 8, 16, 5
NOT_COUNTED = -100


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(WIDTH, CLASSES)


def padded(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    missing = BATCH - len(labels)
    return (
        torch.cat([features, torch.zeros(missing, WIDTH)]),
        torch.cat([labels, torch.full((missing,), NOT_COUNTED)]),
    )


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.01)])
def test_training_with_executorchs_api_is_torchs_sgd(
    head: nn.Linear, tmp_path: Path, momentum: float, weight_decay: float
) -> None:
    path = tmp_path / "training_module.pte"
    path.write_bytes(lower_training_module(head, BATCH))
    shipped = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    module = _load_for_executorch_for_training(str(path))
    optimizer, here = None, torch.optim.SGD(head.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(1)
    for number in range(20):
        rows = 3 if number % 4 == 3 else BATCH
        features = torch.randn(rows, WIDTH, generator=generator)
        labels = torch.randint(CLASSES, (rows,), generator=generator)
        logits = head(features)
        expected = nn.functional.cross_entropy(logits, labels)
        here.zero_grad()
        expected.backward()

        loss, found_logits = module.forward_backward("forward", padded(features, labels))
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(found_logits[:rows], logits.detach(), rtol=1e-4, atol=1e-5)
        gradients = module.named_gradients()
        assert gradients.keys() == shipped.keys(), "parameters go by the names they have in head.safetensors"
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
        if optimizer is None:
            optimizer = get_sgd_optimizer(module.named_parameters(), 0.1, momentum, 0, weight_decay, False)
        optimizer.step(gradients)
        here.step()
    for name, parameter in head.named_parameters():
        trained = module.named_parameters()[name]
        torch.testing.assert_close(trained, parameter.detach(), rtol=0, atol=1e-5)
        assert (trained - shipped[name]).abs().max() > 0.05


def test_the_file_is_the_same_each_time_and_tells_nothing_of_the_machine(head: nn.Linear) -> None:
    data = lower_training_module(head, BATCH)
    assert data == lower_training_module(head, BATCH)
    for trace in (b"site-packages", b".py", str(Path(__file__).parents[2]).encode(), b"stack_trace"):
        assert trace not in data


def test_the_head_given_is_left_as_it_is(head: nn.Linear) -> None:
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    lower_training_module(head, BATCH)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
    assert all(parameter.grad is None for parameter in head.parameters())
