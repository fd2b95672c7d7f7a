"""Clients trained side by side against the same clients trained by hand, one after another."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.train.algorithms import ALGORITHMS
from fbkit.train.evaluation import evaluate_personalized
from fbkit.train.federation import Federation
from fbkit.train.models import build_model, set_static_statistics
from fbkit.train.recipe import ONE_BY_ONE, ModelRecipe, PersonalizationRecipe, load_recipe
from fbkit.train.rounds import run_round
from fbkit.train.side_by_side import StackedBatch, StackedModel, StackedSGD, places
from fbkit.train.training import train
from tests.train.small import static_statistics, two_clients
from tests.train.test_algorithms import FROZEN, SETTINGS, largest_difference, two_rounds_by_hand

TOGETHER = [algorithm for algorithm in ALGORITHMS if algorithm not in ONE_BY_ONE]


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
@pytest.mark.parametrize("algorithm", TOGETHER)
def test_two_rounds_agree_with_the_pseudo_code_by_hand(algorithm: str, weighting: str) -> None:
    """The two clients have batches of 5, 2 and of 5, 5, 5, 4: some steps are taken together, some alone."""
    federation = two_clients(algorithm, weighting, side_by_side=2, **SETTINGS)
    expected = two_rounds_by_hand(federation)
    for number in (1, 2):
        run_round(federation, number)
    assert largest_difference(federation, expected) < 1e-6


@pytest.mark.parametrize("algorithm", TOGETHER)
def test_the_reference_would_notice_a_momentum_that_is_not_reset(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = two_clients(algorithm, side_by_side=2, **SETTINGS)
    expected = two_rounds_by_hand(federation)
    kept: dict[int, list[torch.Tensor]] = {}
    original = StackedSGD.__init__

    def remembering(self: StackedSGD, *arguments: Any) -> None:
        original(self, *arguments)
        self._momenta = kept.setdefault(len(self.parameters), self._momenta)

    monkeypatch.setattr(StackedSGD, "__init__", remembering)
    for number in (1, 2):
        run_round(federation, number)
    assert largest_difference(federation, expected) > 1e-4


@pytest.mark.parametrize("algorithm", [algorithm for algorithm in FROZEN if algorithm in TOGETHER])
def test_a_frozen_head_stays_bit_for_bit_as_it_began(algorithm: str) -> None:
    federation = two_clients(algorithm, side_by_side=2)
    before = copy.deepcopy(federation.model.head.state_dict())
    run_round(federation, 1)
    after = federation.model.head.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_running_statistics_move_as_one_after_another() -> None:
    alone, together = (two_clients("fedbabu", model={"norm": "running"}, side_by_side=count) for count in (1, 2))
    results = [run_round(federation, 1) for federation in (alone, together)]
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-5)
    assert results[0].pictures == results[1].pictures
    before = two_clients("fedbabu", model={"norm": "running"}).model.state_dict()
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(value, together.model.state_dict()[name], rtol=1e-4, atol=1e-6)
        assert name.startswith("head.") or not torch.equal(value, before[name]) or name.endswith("num_batches_tracked")


@pytest.mark.parametrize("name", ["mobilenet", "resnet18-small"])
def test_deep_nets_have_the_same_logits_and_gradients(name: str) -> None:
    """In double precision: on few pictures such nets blow rounding up."""
    one = build_model(ModelRecipe(name=name), (3, 32, 32), 5, seed=0).double()
    other = build_model(ModelRecipe(name=name), (3, 32, 32), 5, seed=1).double()
    images = torch.rand(2, 6, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stacked = StackedModel(one, 2)
    for single, model in zip(places(stacked), (one, other), strict=True):
        single.load_state_dict(model.state_dict())
    logits = stacked.logits(StackedBatch(slice(None), images, torch.zeros(2, 6)))
    gradients = torch.autograd.grad(logits.square().sum(), list(stacked.parameters()))
    for place, model in enumerate((one, other)):
        expected = model(images[place])
        torch.testing.assert_close(logits[place], expected, rtol=1e-9, atol=1e-9)
        for together, alone in zip(
            gradients, torch.autograd.grad(expected.square().sum(), list(model.parameters())), strict=True
        ):
            torch.testing.assert_close(together[place], alone, rtol=1e-7, atol=1e-7)


def add_dropout(federation: Federation) -> None:
    assert isinstance(federation.model.body, nn.Sequential)
    federation.model.body.append(nn.Dropout(0.5))


def test_a_net_that_cannot_go_side_by_side_is_named(tmp_path: Path) -> None:
    settings = ["training.rounds=1", "training.side_by_side=2", "model.norm=group", "model.width=4"]
    with pytest.raises(
        UserError, match=r"training.side_by_side = 2: model.name = 'conv4' cannot run so on this device"
    ):
        train(load_recipe(None, settings), tmp_path / "run", workers=1)


def test_clients_draw_their_own_dropout_side_by_side() -> None:
    federation = two_clients("fedavg", side_by_side=2)
    add_dropout(federation)
    state = torch.get_rng_state()
    first = run_round(federation, 1)
    assert torch.equal(torch.get_rng_state(), state)
    again = two_clients("fedavg", side_by_side=2)
    add_dropout(again)
    assert run_round(again, 1) == first
    without = two_clients("fedavg", side_by_side=2)
    assert run_round(without, 1) != first


@pytest.mark.parametrize("algorithm", ONE_BY_ONE)
def test_what_cannot_go_side_by_side_is_refused_if_asked(algorithm: str) -> None:
    with pytest.raises(UserError, match=rf"training.side_by_side: clients of '{algorithm}' are trained one after"):
        load_recipe(None, ["training.side_by_side=4", f"training.algorithm={algorithm}"])
    load_recipe(None, ["training.side_by_side=1", f"training.algorithm={algorithm}"])


@pytest.mark.parametrize("part", ["head", "full"])
@pytest.mark.parametrize(
    ("algorithm", "statistics"), [("fedbabu", "batch"), ("lg-fedavg", "static"), ("ditto", "batch")]
)
def test_fine_tuning_side_by_side_gives_the_same_accuracies(algorithm: str, statistics: Any, part: Any) -> None:
    """Each client from what it has of its own, at two learning rates; the model is the same afterwards."""
    how = PersonalizationRecipe(part=part, epochs=(1, 3), lr=(0.01, 0.1), statistics=statistics)
    found = []
    for at_once in (1, 2):
        federation = two_clients(algorithm, side_by_side=at_once)
        run_round(federation, 1)
        if algorithm == "ditto":
            set_static_statistics(federation.model, static_statistics(federation.model))
        before = copy.deepcopy(federation.model.state_dict())
        found.append(evaluate_personalized(federation, (0, 1, 2), how))
        after = federation.model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)
    assert found[0].keys() == found[1].keys() == {(0.01, 1), (0.01, 3), (0.1, 1), (0.1, 3)}
    for key, alone in found[0].items():
        # One picture of the few may lie on the edge between two classes.
        assert found[1][key].accuracies == pytest.approx(alone.accuracies, abs=100 / 6 + 1e-9)
    assert sum(found[0][key].accuracies == found[1][key].accuracies for key in found[0]) >= 3
