"""Each algorithm against a few lines of plain torch that do the same by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from fbkit.train.federation import Federation, run_round
from fbkit.train.models import SplitModel
from fbkit.train.seeds import Purpose, torch_stream
from tests.train.small import two_clients

WEIGHT_DECAY = 0.01


def by_hand(federation: Federation, train_head: bool, rounds: int = 2) -> SplitModel:
    """The paper's pseudo-code, without an optimizer: v = 0; v = 0.9 v + gradient + decay w; w = w - lr v."""
    server = copy.deepcopy(federation.model)
    recipe = federation.recipe
    batcher = federation.batcher(augmented=True)
    for number in range(1, rounds + 1):
        lr = 0.1 if number == 1 else 0.01  # one milestone at half of two rounds
        results, sizes = [], []
        for client in federation.clients.training:
            model = copy.deepcopy(server).train()
            trained = dict(model.named_parameters() if train_head else model.body.named_parameters())
            velocity = {name: torch.zeros_like(value) for name, value in trained.items()}
            indices = federation.clients.train[client]
            stream = torch_stream(recipe.seed, Purpose.LOCAL_TRAINING, number, client)
            for images, labels in batcher.shuffled(federation.dataset.train, indices, 2, stream):
                gradients = torch.autograd.grad(cross_entropy(model(images), labels), list(trained.values()))
                with torch.no_grad():
                    for (name, value), gradient in zip(trained.items(), gradients, strict=True):
                        velocity[name] = 0.9 * velocity[name] + gradient + recipe.training.weight_decay * value
                        value.sub_(lr * velocity[name])
            results.append(model.state_dict())
            sizes.append(len(indices))
        weights = sizes if recipe.training.weighting == "examples" else [1] * len(sizes)
        averaged = {
            name: sum(weight * result[name] for weight, result in zip(weights, results, strict=True)) / sum(weights)
            for name in results[0]
        }
        server.load_state_dict(averaged)
    return server


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedbabu"])
def test_two_rounds_agree_with_the_pseudo_code_by_hand(algorithm: str, weighting: str) -> None:
    federation = two_clients(algorithm, weighting, weight_decay=WEIGHT_DECAY)
    expected = by_hand(federation, train_head=algorithm == "fedavg")
    for number in (1, 2):
        run_round(federation, number)
    for name, value in federation.model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "broken",
    ["head trained", "optimizer kept", "weighting ignored"],
)
def test_the_reference_would_notice_what_others_got_wrong(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = two_clients("fedbabu")
    expected = by_hand(federation, train_head=False)
    if broken == "head trained":
        federation = two_clients("fedavg")
    elif broken == "weighting ignored":
        federation = two_clients("fedbabu", weighting="uniform")
    else:
        kept: dict[int, dict[str, object]] = {}
        original = torch.optim.SGD

        def remembering(parameters: object, **options: object) -> torch.optim.SGD:
            optimizer = original(parameters, **options)  # type: ignore[arg-type]
            optimizer.state = kept.setdefault(0, optimizer.state)  # type: ignore[arg-type, assignment]
            return optimizer

        monkeypatch.setattr(torch.optim, "SGD", remembering)
    for number in (1, 2):
        run_round(federation, number)
    differences = [
        float((value - expected.state_dict()[name]).abs().max())
        for name, value in federation.model.state_dict().items()
    ]
    assert max(differences) > 1e-4


def test_fedbabu_leaves_the_head_bit_for_bit_as_it_began() -> None:
    federation = two_clients("fedbabu")
    before = copy.deepcopy(federation.model.state_dict())
    for number in (1, 2):
        run_round(federation, number)
    after = federation.model.state_dict()
    assert torch.equal(after["head.weight"], before["head.weight"])
    assert torch.equal(after["head.bias"], before["head.bias"])
    assert not torch.equal(after["body.0.weight"], before["body.0.weight"])


def test_a_round_reports_the_cohorts_mean_loss_and_its_pictures() -> None:
    federation = two_clients("fedavg", weighting="uniform")
    result = run_round(federation, 1)
    assert result.pictures == 2 * (7 + 19)
    assert 0 < result.loss < 5
    assert not result.stop
    assert run_round(federation, 2, lambda: True).stop
