"""What a round does beyond the algorithm: running statistics, dropout, cohorts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fbkit.train.evaluation import evaluate_initial, evaluate_personalized
from fbkit.train.models import norm_layers
from fbkit.train.recipe import PersonalizationRecipe
from fbkit.train.rounds import run_round
from fbkit.train.seeds import Purpose, torch_stream
from fbkit.train.workers import Workers
from tests.train.small import static_statistics, two_clients


class WithDropout(nn.Module):
    """A user's net with dropout before its head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(6 * 49, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.drop(self.features(images)))
        return logits


DROPOUT = {"name": f"{__name__}:WithDropout"}


def test_running_statistics_are_averaged_and_do_not_move_when_judged() -> None:
    federation = two_clients("fedavg", model={"norm": "running"}, local_epochs=1)
    by_hand = []
    for client in (0, 1):
        model = copy.deepcopy(federation.model).train()
        for layer in norm_layers(model).values():
            layer.track_running_stats = True
        stream = torch_stream(federation.recipe.seed, Purpose.LOCAL_TRAINING, 1, client)
        batches = federation.batcher(augmented=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for images, labels in batches.shuffled(federation.dataset.train, federation.clients.train[client], 1, stream):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        by_hand.append(static_statistics(model))
    run_round(federation, 1)
    for name, averaged in static_statistics(federation.model).items():
        for found, small, large in zip(averaged, by_hand[0][name], by_hand[1][name], strict=True):
            torch.testing.assert_close(found, (7 * small + 19 * large) / 26, rtol=0, atol=1e-5)
    before = copy.deepcopy(federation.model.state_dict())
    for statistics in ("batch", "static"):
        evaluate_initial(federation, (0, 1, 2), statistics)
        how = PersonalizationRecipe(part="head", epochs=(1,), lr=(0.1,), statistics=statistics)
        evaluate_personalized(federation, (0, 1), how)
    for name, value in federation.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_dropout_draws_from_the_run_round_and_client_alone() -> None:
    runs = [two_clients("fedavg", model=DROPOUT) for _ in range(2)]
    torch.manual_seed(1)
    run_round(runs[0], 1)
    torch.manual_seed(2)
    after = torch.rand(3)
    torch.manual_seed(2)
    run_round(runs[1], 1)
    assert torch.equal(torch.rand(3), after)  # the caller's generator is as it was
    for name, value in runs[0].model.state_dict().items():
        assert torch.equal(value, runs[1].model.state_dict()[name])


def test_two_workers_drop_what_one_drops() -> None:
    alone = two_clients("fedavg", model=DROPOUT)
    run_round(alone, 1)
    halves = []
    for rank in (0, 1):
        federation = two_clients("fedavg", model=DROPOUT)
        buffers: list[torch.Tensor] = []

        class Half(Workers):
            def add_up(self, buffer: torch.Tensor, into: list[torch.Tensor] = buffers) -> None:
                into.append(buffer.clone())

        object.__setattr__(federation, "workers", Half(rank, 2))
        run_round(federation, 1)
        halves.append(buffers[0])
    federation = two_clients("fedavg", model=DROPOUT)

    class Whole(Workers):
        def add_up(self, buffer: torch.Tensor) -> None:
            buffer.copy_(halves[0] + halves[1])

    object.__setattr__(federation, "workers", Whole(0, 2))
    run_round(federation, 1)
    for name, value in federation.model.state_dict().items():
        assert torch.equal(value, alone.model.state_dict()[name])


def test_judging_by_batch_statistics_drops_nothing() -> None:
    federation = two_clients("fedavg", model=DROPOUT)
    run_round(federation, 1)
    first, again = (evaluate_initial(federation, (0, 1, 2), "batch") for _ in range(2))
    assert first == again
    assert not any(layer.training for layer in federation.model.modules() if isinstance(layer, nn.Dropout))


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_half_precision_trains_nearly_the_same_and_weights_stay_float32(side_by_side: int) -> None:
    exact, half = (
        two_clients("fedbabu", precision=precision, side_by_side=side_by_side, lr=0.01)
        for precision in ("float32", "bfloat16")
    )
    losses = [[run_round(federation, number).loss for number in (1, 2)] for federation in (exact, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
    assert {value.dtype for value in half.model.state_dict().values()} == {torch.float32}
