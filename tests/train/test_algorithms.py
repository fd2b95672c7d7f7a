"""Each algorithm against a few lines of plain torch that do the same by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fbkit.train.algorithms import ALGORITHMS
from fbkit.train.data import Batch
from fbkit.train.federation import Federation
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.models import SplitModel
from fbkit.train.recipe import NO_COMMON_BODY, OWN_PART, POOLED, AlgorithmName
from fbkit.train.rounds import run_round
from fbkit.train.seeds import Purpose, torch_stream
from tests.train.small import two_clients

DECAY, MU, PULL, INNER, HEAD_EPOCHS = 0.01, 0.3, 0.7, 0.05, 3
SETTINGS: dict[str, Any] = {
    "weight_decay": DECAY,
    "mu": MU,
    "pull": PULL,
    "inner_lr": INNER,
    "head_epochs": HEAD_EPOCHS,
}
FROZEN = ("fedbabu", "fedprox-babu", "fedrep", "centralized-fixed-head")

Weights = dict[str, torch.Tensor]


@dataclass
class ByHand:
    """One client's turn in the pseudo-code: its batches, and SGD without an optimizer."""

    federation: Federation
    lr: float
    client: int
    indices: torch.Tensor
    stream: torch.Generator
    kept: dict[int, Weights]

    def batches(self, epochs: int = 0) -> Iterator[Batch]:
        batcher = self.federation.batcher(augmented=True)
        epochs = epochs or self.federation.recipe.training.local_epochs
        return batcher.shuffled(self.federation.dataset.train, self.indices, epochs, self.stream)

    def train(
        self, model: nn.Module, part: nn.Module, batches: Iterator[Batch], mu: float = 0, to: Weights | None = None
    ) -> None:
        """v = 0; v = 0.9 v + gradient + decay w + mu (w - goal); w = w - lr v."""
        trained = dict(part.named_parameters())
        velocity = {name: torch.zeros_like(value) for name, value in trained.items()}
        for images, labels in batches:
            gradients = torch.autograd.grad(cross_entropy(model(images), labels), list(trained.values()))
            with torch.no_grad():
                for (name, value), gradient in zip(trained.items(), gradients, strict=True):
                    step = gradient + DECAY * value
                    if to:
                        step = step + mu * (value - to[name])
                    velocity[name] = 0.9 * velocity[name] + step
                    value.sub_(self.lr * velocity[name])


def weights(part: nn.Module) -> Weights:
    return copy.deepcopy(part.state_dict())


def fedavg(m: SplitModel, c: ByHand) -> None:
    c.train(m, m, c.batches())


def fedprox(m: SplitModel, c: ByHand) -> None:
    c.train(m, m, c.batches(), MU, weights(m))


def fedbabu(m: SplitModel, c: ByHand) -> None:
    c.train(m, m.body, c.batches())


def fedprox_babu(m: SplitModel, c: ByHand) -> None:
    c.train(m, m.body, c.batches(), MU, weights(m.body))


def fedper(m: SplitModel, c: ByHand) -> None:
    m.head.load_state_dict(c.kept.get(c.client, m.head.state_dict()))
    c.train(m, m, c.batches())
    c.kept[c.client] = weights(m.head)


def fedrep(m: SplitModel, c: ByHand) -> None:
    m.head.load_state_dict(c.kept.get(c.client, m.head.state_dict()))
    c.train(m, m.head, c.batches(HEAD_EPOCHS))
    c.train(m, m.body, c.batches())
    c.kept[c.client] = weights(m.head)


def lg_fedavg(m: SplitModel, c: ByHand) -> None:
    m.body.load_state_dict(c.kept.get(c.client, m.body.state_dict()))
    c.train(m, m, c.batches())
    c.kept[c.client] = weights(m.body)


def per_fedavg(m: SplitModel, c: ByHand) -> None:
    velocity = [torch.zeros_like(value) for value in m.parameters()]
    batches = list(c.batches())
    for place in range(0, len(batches), 2):
        (images, labels), (more_images, more_labels) = batches[place], batches[min(place + 1, len(batches) - 1)]
        adapted = copy.deepcopy(m)
        gradients = torch.autograd.grad(cross_entropy(adapted(images), labels), list(adapted.parameters()))
        with torch.no_grad():
            for value, gradient in zip(adapted.parameters(), gradients, strict=True):
                value.sub_(INNER * gradient)
        gradients = torch.autograd.grad(cross_entropy(adapted(more_images), more_labels), list(adapted.parameters()))
        with torch.no_grad():
            for value, gradient, v in zip(m.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(gradient + DECAY * value)
                value.sub_(c.lr * v)


def ditto(m: SplitModel, c: ByHand) -> None:
    received, personal = weights(m), copy.deepcopy(m)
    personal.load_state_dict(c.kept.get(c.client, received))
    c.train(m, m, c.batches())
    c.train(personal, personal, c.batches(), PULL, received)
    c.kept[c.client] = weights(personal)


def local_only(m: SplitModel, c: ByHand) -> None:
    m.load_state_dict(c.kept.get(c.client, m.state_dict()))
    c.train(m, m, c.batches())
    c.kept[c.client] = weights(m)


# What a client does, and what of the result the server averages.
BY_HAND: dict[str, tuple[Callable[[SplitModel, ByHand], None], str]] = {
    "fedavg": (fedavg, ""),
    "fedprox": (fedprox, ""),
    "fedbabu": (fedbabu, "body"),
    "fedprox-babu": (fedprox_babu, "body"),
    "fedper": (fedper, "body"),
    "fedrep": (fedrep, "body"),
    "lg-fedavg": (lg_fedavg, "head"),
    "per-fedavg": (per_fedavg, ""),
    "ditto": (ditto, ""),
    "local-only": (local_only, "nothing"),
    "centralized": (fedavg, ""),
    "centralized-fixed-head": (fedbabu, "body"),
}


@dataclass
class Expected:
    """The server's model after two rounds, and what each client kept."""

    server: Weights
    kept: dict[int, Weights] = field(default_factory=dict)


def two_rounds_by_hand(federation: Federation) -> Expected:
    recipe = federation.recipe
    algorithm = recipe.training.algorithm
    update, averaged = BY_HAND[algorithm]
    server = copy.deepcopy(federation.model)
    kept: dict[int, Weights] = {}
    owned = {client: federation.clients.train[client] for client in (0, 1)}
    if algorithm in POOLED:
        owned = {3: torch.cat(list(owned.values()))}  # the pool's number is the one after the last client's
    for number in (1, 2):
        lr = recipe.training.lr * (1 if number == 1 else 0.1)  # one milestone at half of two rounds
        results, sizes = [], []
        for client, indices in owned.items():
            model = copy.deepcopy(server).train()
            stream = torch_stream(recipe.seed, Purpose.LOCAL_TRAINING, number, client)
            update(model, ByHand(federation, lr, client, indices, stream, kept))
            results.append(model.state_dict())
            sizes.append(len(indices))
        shares = sizes if recipe.training.weighting == "examples" else [1] * len(sizes)
        state = server.state_dict()
        for name in state:
            if name.startswith(averaged):
                weighted = [share * result[name] for share, result in zip(shares, results, strict=True)]
                state[name] = torch.stack(weighted).sum(0) / sum(shares)
        server.load_state_dict(state)
    return Expected(server.state_dict(), kept)


def largest_difference(federation: Federation, expected: Expected) -> float:
    """Over the server's model and what clients kept."""
    found = [(federation.model.state_dict(), expected.server)]
    for client, tensors in expected.kept.items():
        own = federation.algorithm.own(copy.deepcopy(federation.model))
        assert own is not None
        assert federation.states.restore(client, own)
        found.append((own.state_dict(), tensors))
    return max(float((ours[name] - hand[name]).abs().max()) for ours, hand in found for name in hand)


def test_every_algorithm_has_a_reference_and_a_name_in_the_recipe() -> None:
    assert set(ALGORITHMS) == set(BY_HAND) == set(get_args(AlgorithmName))


def test_the_recipe_knows_what_stays_with_clients() -> None:
    model = two_clients("fedavg").model
    parts = {id(model): "model", id(model.body): "body", id(model.head): "head"}
    found = {
        name: parts[id(own)] for name, algorithm in ALGORITHMS.items() if (own := algorithm.own(model)) is not None
    }
    assert found == OWN_PART
    shared = {name for name, algorithm in ALGORITHMS.items() if algorithm.averaged(model) in (model, model.body)}
    assert set(ALGORITHMS) - shared == set(NO_COMMON_BODY)


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_rounds_agree_with_the_pseudo_code_by_hand(algorithm: str, weighting: str) -> None:
    federation = two_clients(algorithm, weighting, **SETTINGS)
    expected = two_rounds_by_hand(federation)
    for number in (1, 2):
        run_round(federation, number)
    assert largest_difference(federation, expected) < 1e-6
    assert set(expected.kept) == ({0, 1} if algorithm in OWN_PART else set())


@pytest.mark.parametrize(("algorithm", "batch_size"), [("per-fedavg", 4), ("fedavg", 6), ("fedrep", 6)])
def test_odd_numbers_of_batches_and_lone_pictures_agree_too(algorithm: str, batch_size: int) -> None:
    """By 4, the larger client has five batches; by 6, one picture is left over in both and joins the batch before."""
    federation = two_clients(algorithm, "uniform", local_epochs=1, batch_size=batch_size, **SETTINGS)
    expected = two_rounds_by_hand(federation)
    for number in (1, 2):
        run_round(federation, number)
    assert largest_difference(federation, expected) < 1e-6


@pytest.mark.parametrize(
    ("algorithm", "broken"),
    [
        (algorithm, broken)
        for algorithm in ALGORITHMS
        for broken, applies in (
            ("head trained", algorithm in FROZEN),
            ("optimizer kept", True),
            ("weighting ignored", algorithm not in (*POOLED, "local-only")),
        )
        if applies
    ],
)
def test_each_reference_would_notice_what_others_got_wrong(
    algorithm: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = two_clients(algorithm, **SETTINGS)
    expected = two_rounds_by_hand(federation)
    if broken == "weighting ignored":
        federation = two_clients(algorithm, "uniform", **SETTINGS)
    elif broken == "head trained":
        original_call = LocalSGD.__call__

        def trains_everything(
            self: LocalSGD, model: nn.Module, _part: nn.Module, batches: Iterator[Batch], *_: object
        ) -> float:
            return original_call(self, model, model, batches)

        monkeypatch.setattr(LocalSGD, "__call__", trains_everything)
    else:
        kept: dict[int, object] = {}
        original = torch.optim.SGD

        def remembering(parameters: object, **options: object) -> torch.optim.SGD:
            optimizer = original(parameters, **options)  # type: ignore[arg-type]
            optimizer.state = kept.setdefault(0, optimizer.state)  # type: ignore[assignment]
            return optimizer

        monkeypatch.setattr(torch.optim, "SGD", remembering)
    for number in (1, 2):
        run_round(federation, number)
    assert largest_difference(federation, expected) > 1e-4


@pytest.mark.parametrize("algorithm", ["fedbabu", "fedprox-babu", "fedper", "fedrep", "centralized-fixed-head"])
def test_the_servers_head_stays_bit_for_bit_as_it_began(algorithm: str) -> None:
    federation = two_clients(algorithm)
    before = copy.deepcopy(federation.model.state_dict())
    for number in (1, 2):
        run_round(federation, number)
    after = federation.model.state_dict()
    assert torch.equal(after["head.weight"], before["head.weight"])
    assert torch.equal(after["head.bias"], before["head.bias"])
    assert not torch.equal(after["body.0.weight"], before["body.0.weight"])


@pytest.mark.parametrize("algorithm", OWN_PART)
def test_only_clients_that_trained_have_something_of_their_own(algorithm: str) -> None:
    federation = two_clients(algorithm, cohort=1)
    run_round(federation, 1)
    trained = [client for client in (0, 1, 2) if federation.states.has(client)]
    assert len(trained) == 1
    assert len(list(federation.states.folder.iterdir())) == 1


def test_a_round_reports_the_cohorts_mean_loss_and_its_pictures() -> None:
    federation = two_clients("fedavg", weighting="uniform")
    result = run_round(federation, 1)
    assert result.pictures == 2 * (7 + 19)
    assert 0 < result.loss < 5
    assert not result.stop
    assert run_round(federation, 2, lambda: True).stop
    assert run_round(two_clients("ditto"), 1).pictures == 2 * 2 * (7 + 19)
    assert run_round(two_clients("fedrep", head_epochs=3), 1).pictures == (2 + 3) * (7 + 19)
