from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from fbkit.train.calibration import calibrate
from fbkit.train.evaluation import ClientAccuracies, evaluate_initial, evaluate_personalized, score
from fbkit.train.federation import Federation, run_round
from fbkit.train.recipe import PersonalizationRecipe
from fbkit.train.seeds import Purpose, torch_stream
from tests.train.small import static_statistics, two_clients


@pytest.fixture
def trained() -> Federation:
    federation = two_clients("fedbabu")
    run_round(federation, 1)
    calibrate(federation)
    return federation


def test_static_accuracy_is_the_share_of_right_answers(trained: Federation) -> None:
    found = evaluate_initial(trained, (0, 1, 2), "static")
    trained.model.eval()
    for client, accuracy in zip(found.clients, found.accuracies, strict=True):
        indices = trained.clients.test[client]
        images = (trained.dataset.test.images[indices].float() / 255 - 0.5) / 0.3
        with torch.no_grad():
            right = trained.model(images).argmax(1) == trained.dataset.test.labels[indices]
        assert accuracy == pytest.approx(100 * right.float().mean().item())


def test_the_score_is_the_sum_of_losses(trained: Federation) -> None:
    indices = trained.clients.train[1]
    correct, loss = score(trained, indices, "static", "train")
    trained.model.eval()
    images = (trained.dataset.train.images[indices].float() / 255 - 0.5) / 0.3
    with torch.no_grad():
        logits = trained.model(images)
    labels = trained.dataset.train.labels[indices]
    assert correct == int((logits.argmax(1) == labels).sum())
    assert loss == pytest.approx(float(cross_entropy(logits, labels, reduction="sum")), rel=1e-5)


@pytest.mark.parametrize("part", ["head", "body", "full"])
@pytest.mark.parametrize("statistics", ["batch", "static"])
def test_personalization_trains_its_part_and_leaves_the_servers_model(
    trained: Federation, part: str, statistics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.deepcopy(trained.model.state_dict())
    changed: set[str] = set()

    def spy(federation: Federation, _client: int, _statistics: str) -> float:
        changed.update(k for k, v in federation.model.state_dict().items() if not torch.equal(v, before[k]))
        return 50.0

    monkeypatch.setattr("fbkit.train.evaluation.test_accuracy", spy)
    recipe = PersonalizationRecipe.model_validate({"part": part, "epochs": 2, "lr": 0.05, "statistics": statistics})
    assert evaluate_personalized(trained, (2,), recipe).accuracies == (50.0,)
    parts = {name.split(".")[0] for name in changed}
    assert parts == {"head": {"head"}, "body": {"body"}, "full": {"head", "body"}}[part]
    assert not any("running" in name for name in changed)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_head_personalization_is_plain_sgd_on_the_head(trained: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[torch.Tensor] = []

    def spy(federation: Federation, _client: int, _statistics: str) -> float:
        heads.append(federation.model.head.weight.detach().clone())
        return 0.0

    monkeypatch.setattr("fbkit.train.evaluation.test_accuracy", spy)
    evaluate_personalized(trained, (1,), PersonalizationRecipe(part="head", epochs=3, lr=0.05))

    head = copy.deepcopy(trained.model.head).requires_grad_(True)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
    trained.model.eval()
    stream = torch_stream(trained.recipe.seed, Purpose.PERSONALIZATION, 1)
    batches = trained.batcher(augmented=True).shuffled(trained.dataset.train, trained.clients.train[1], 3, stream)
    for images, labels in batches:
        with torch.no_grad():
            features = trained.model.body(images)
        optimizer.zero_grad()
        cross_entropy(head(features), labels).backward()
        optimizer.step()
    torch.testing.assert_close(heads[0], head.weight.detach(), rtol=0, atol=1e-6)


def test_a_summary_has_the_spread_and_the_worst_tenth() -> None:
    accuracies = ClientAccuracies(tuple(range(20)), tuple(float(value) for value in range(20)))
    summary = accuracies.summary()
    assert summary["mean"] == 9.5
    assert summary["std"] == pytest.approx(5.766, abs=1e-3)
    assert summary["worst_decile"] == 0.5


def test_batch_statistics_do_not_touch_static_ones(trained: Federation) -> None:
    before = {name: mean.clone() for name, (mean, _) in static_statistics(trained.model).items()}
    evaluate_initial(trained, (0, 1), "batch")
    for name, (mean, _) in static_statistics(trained.model).items():
        assert torch.equal(mean, before[name])
