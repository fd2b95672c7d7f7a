from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch.nn.functional import cross_entropy

from fbkit.train.algorithms import ALGORITHMS
from fbkit.train.calibration import calibrate
from fbkit.train.evaluation import (
    ClientAccuracies,
    evaluate,
    evaluate_initial,
    evaluate_personalized,
    evaluate_templates,
    stages_of,
)
from fbkit.train.federation import Federation
from fbkit.train.judging import mixed, score
from fbkit.train.models import norm_layers
from fbkit.train.pooled import pooled_accuracies
from fbkit.train.recipe import OWN_PART, EvaluationRecipe, PersonalizationRecipe, StatisticsName
from fbkit.train.representation import linear_probe
from fbkit.train.rounds import run_round
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
    assert evaluate_personalized(trained, (2,), recipe)[0.05, 2].accuracies == (50.0,)
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
    evaluate_personalized(trained, (1,), PersonalizationRecipe(part="head", epochs=(3,), lr=(0.05,)))

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


def test_one_fine_tuning_gives_all_numbers_of_epochs_and_each_rate_starts_anew(trained: Federation) -> None:
    together = evaluate_personalized(
        trained, (0, 1, 2), PersonalizationRecipe(part="full", epochs=(1, 3), lr=(0.05, 0.2), statistics="batch")
    )
    assert list(together) == [(0.05, 1), (0.05, 3), (0.2, 1), (0.2, 3)]
    for (lr, epochs), found in together.items():
        how = PersonalizationRecipe(part="full", epochs=(epochs,), lr=(lr,), statistics="batch")
        assert evaluate_personalized(trained, (0, 1, 2), how) == {(lr, epochs): found}


@pytest.mark.parametrize("statistics", ["batch", "static"])
def test_templates_are_the_nearest_class_means(trained: Federation, statistics: StatisticsName) -> None:
    found = evaluate_templates(trained, (0, 1), statistics)
    trained.model.eval()
    for layer in norm_layers(trained.model).values():
        layer.train(statistics == "batch")
    for client, accuracy in zip(found.clients, found.accuracies, strict=True):
        sides = []
        for indices, *path in ((trained.clients.train[client], client, 1), (trained.clients.test[client], client)):
            order = mixed(trained, indices, *path)
            batches = list(trained.batcher(augmented=False).plain(trained.dataset.train, order))
            with torch.no_grad():
                sides.append(
                    (torch.cat([trained.model.body(x) for x, _ in batches]), torch.cat([y for _, y in batches]))
                )
        (features, labels), (judged, truth) = sides
        right = 0
        for feature, label in zip(judged, truth, strict=True):
            distances = {int(k): float((features[labels == k].mean(0) - feature).norm()) for k in labels.unique()}
            right += min(distances, key=lambda k: distances[k]) == int(label)
        assert accuracy == pytest.approx(100 * right / len(truth))


def test_the_probe_finds_the_minimum_that_plain_descent_finds() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat(40)
    features = torch.randn(120, 5, generator=generator) + 1.2 * torch.eye(3, 5)[labels]
    judged = torch.randn(300, 5, generator=generator) + 1.2 * torch.eye(3, 5)[torch.arange(3).repeat(100)]
    found = linear_probe(features, labels, judged, 3)

    scaled = ((features - features.mean(0)) / features.std(0)).double()
    weight, bias = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for _ in range(5000):
        chances = torch.softmax(scaled @ weight.T + bias, 1)
        error = (chances - torch.eye(3, dtype=torch.float64)[labels]) / len(labels)
        weight -= error.T @ scaled + 1e-4 * weight
        bias -= error.sum(0)
    expected = (((judged - features.mean(0)) / features.std(0)).double() @ weight.T + bias).argmax(1)
    assert (found == expected).double().mean() >= 0.99


def test_pooled_accuracy_is_that_of_everybodys_pictures(trained: Federation) -> None:
    found = pooled_accuracies(trained, (0, 1, 2), "static")
    trained.model.eval()
    indices = torch.cat([trained.clients.test[client] for client in (0, 1, 2)])
    images = (trained.dataset.test.images[indices].float() / 255 - 0.5) / 0.3
    with torch.no_grad():
        right = trained.model(images).argmax(1) == trained.dataset.test.labels[indices]
    assert found.accuracy == pytest.approx(100 * right.double().mean().item())
    assert 0 <= found.template <= 100
    assert found.probe > found.accuracy  # pictures it learned from, here


def test_a_client_is_judged_with_its_own_head(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = two_clients("fedper")
    run_round(federation, 1)
    heads: list[torch.Tensor] = []

    def spy(federation: Federation, *_: object) -> float:
        heads.append(federation.model.head.weight.detach().clone())
        return 0.0

    monkeypatch.setattr("fbkit.train.evaluation.test_accuracy", spy)
    initial = federation.model.head.weight.detach().clone()
    evaluate_initial(federation, (0, 1, 2), "batch")
    evaluate_personalized(federation, (0,), PersonalizationRecipe(part="body", epochs=(1,), lr=(0.1,)))
    order = {0: heads[2], 1: heads[0], 2: heads[1]}  # the client with the most test pictures comes first
    head = copy.deepcopy(federation.model.head)
    for client in (0, 1):
        federation.states.restore(client, head)
        assert not torch.equal(head.weight, initial)
        if client == 0:
            assert torch.equal(heads[3], head.weight)
        assert any(torch.equal(found, head.weight) for found in order.values())
    assert sum(torch.equal(found, initial) for found in heads[:3]) == 1  # the held-out client's
    assert torch.equal(federation.model.head.weight, initial)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_judging_changes_nothing_of_the_server(algorithm: str) -> None:
    federation = two_clients(algorithm)
    for number in (1, 2):
        run_round(federation, number)
    calibration = calibrate(federation)
    before = copy.deepcopy(federation.model.state_dict())
    asked = EvaluationRecipe(templates=True, pooled=algorithm not in OWN_PART)
    how = [
        PersonalizationRecipe(part="full", epochs=(1, 2), lr=(0.05,), statistics=statistics)
        for statistics in get_args(StatisticsName)
    ]
    steps: list[str] = []
    found = evaluate(federation, asked, how, calibration, steps.append)
    assert len(steps) == stages_of(asked, how)
    assert len(found.personalized) == 4
    assert found.without_own == ([2] if algorithm in OWN_PART else [])
    assert federation.model.state_dict().keys() == before.keys()
    for name, value in federation.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert evaluate(federation, asked, how, calibration) == found


def test_an_own_body_normalises_by_its_clients_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = two_clients("lg-fedavg")
    run_round(federation, 1)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(federation: Federation, *_: object) -> float:
        seen.append(next(iter(static_statistics(federation.model).values())))
        return 0.0

    monkeypatch.setattr("fbkit.train.evaluation.test_accuracy", spy)
    evaluate_initial(federation, (1,), "static")
    body = copy.deepcopy(federation.model.body)
    federation.states.restore(1, body)
    images = (federation.dataset.train.images[federation.clients.train[1]].float() / 255 - 0.5) / 0.3
    with torch.no_grad():
        maps = next(body.children())(images)
    torch.testing.assert_close(seen[0][0], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen[0][1], maps.var((0, 2, 3), unbiased=False), rtol=1e-4, atol=1e-5)
    assert static_statistics(federation.model) == {}


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
