"""How good a run's model is for each client on its own test pictures: as it is, fine-tuned, and by class templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from fbkit.train.federation import Federation
from fbkit.train.fine_tuning import fine_tuned
from fbkit.train.judging import mixed, score
from fbkit.train.models import norm_layers, set_static_statistics
from fbkit.train.norm_statistics import client_statistics
from fbkit.train.pooled import pooled_accuracies
from fbkit.train.recipe import NO_COMMON_BODY, OWN_PART, EvaluationRecipe, PersonalizationRecipe, StatisticsName
from fbkit.train.records import (
    Accuracies,
    ByStatistics,
    CalibrationRecord,
    Evaluation,
    PartName,
    PersonalizedAccuracies,
    PooledAccuracies,
    PooledByStatistics,
)
from fbkit.train.representation import class_templates, features_of, nearest_template

Advance = Callable[[str], None]


@dataclass(frozen=True)
class ClientAccuracies:
    """Percent correct for each client, in the order of ``clients``."""

    clients: tuple[int, ...]
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))

    def summary(self) -> dict[str, float]:
        """Mean, standard deviation across clients and the mean of the worst tenth (at least one client)."""
        ordered = np.sort(self.accuracies)
        worst = ordered[: max(1, len(ordered) // 10)]
        return {"mean": self.mean, "std": float(np.std(ordered)), "worst_decile": float(worst.mean())}

    def record(self) -> Accuracies:
        return Accuracies(**self.summary(), per_client=[round(accuracy, 4) for accuracy in self.accuracies])


def stages_of(evaluation: EvaluationRecipe, personalization: Sequence[PersonalizationRecipe]) -> int:
    """How often ``evaluate`` calls ``advance``."""
    return len(evaluation.statistics) * (1 + evaluation.templates + evaluation.pooled) + len(personalization)


def evaluate(
    federation: Federation,
    evaluation: EvaluationRecipe,
    personalization: Sequence[PersonalizationRecipe],
    calibration: CalibrationRecord,
    advance: Advance = lambda _note: None,
) -> Evaluation:
    """All that the two recipes ask for; every worker takes its share of the clients and gets the whole result."""
    clients = federation.clients.chosen(evaluation.clients)
    initial: dict[str, Accuracies] = {}
    templates: dict[str, Accuracies] = {}
    pooled: dict[str, PooledAccuracies] = {}
    for statistics in evaluation.statistics:
        initial[statistics] = evaluate_initial(federation, clients, statistics).record()
        advance(f"{statistics} statistics")
        if evaluation.templates:
            templates[statistics] = evaluate_templates(federation, clients, statistics).record()
            advance("templates")
        if evaluation.pooled:
            pooled[statistics] = pooled_accuracies(federation, clients, statistics)
            advance("pooled")
    personalized: list[PersonalizedAccuracies] = []
    for how in personalization:
        personalized += _personalized_records(federation, clients, how)
        advance(f"{how.part} fine-tuning")
    own_part: PartName = OWN_PART.get(federation.recipe.training.algorithm, "none")
    return Evaluation(
        clients=list(clients),
        own_part=own_part,
        without_own=[client for client in clients if own_part != "none" and not federation.states.has(client)],
        calibration=calibration,
        initial=_by_statistics(initial),
        templates=_by_statistics(templates) if templates else None,
        pooled=PooledByStatistics(batch=pooled.get("batch"), static=pooled.get("static")) if pooled else None,
        personalized=personalized,
    )


def _by_statistics(found: dict[str, Accuracies]) -> ByStatistics:
    return ByStatistics(batch=found.get("batch"), static=found.get("static"))


def _personalized_records(
    federation: Federation, clients: Sequence[int], how: PersonalizationRecipe
) -> Iterator[PersonalizedAccuracies]:
    for (lr, epochs), result in evaluate_personalized(federation, clients, how).items():
        yield PersonalizedAccuracies(
            part=how.part, epochs=epochs, lr=lr, statistics=how.statistics, **result.record().model_dump()
        )


def evaluate_initial(federation: Federation, clients: Sequence[int], statistics: StatisticsName) -> ClientAccuracies:
    """The model as it is after training: the server's, with each client's own part where the algorithm has one."""

    def judge(client: int) -> list[float]:
        with _as_client(federation, client, statistics):
            return [test_accuracy(federation, client, statistics)]

    return _per_client(federation, clients, 1, lambda mine: map(judge, mine))[0]


def evaluate_templates(federation: Federation, clients: Sequence[int], statistics: StatisticsName) -> ClientAccuracies:
    """Without the head: the nearest mean feature of the classes in the client's training pictures."""

    def judge(client: int) -> list[float]:
        with _as_client(federation, client, statistics):
            own, test = federation.clients.train[client], federation.clients.test[client]
            known = features_of(federation, mixed(federation, own, client, 1), statistics, "train")
            features, labels = features_of(federation, mixed(federation, test, client), statistics, "test")
            found = nearest_template(features, *class_templates(*known))
            return [100 * float((found == labels).double().mean())]

    return _per_client(federation, clients, 1, lambda mine: map(judge, mine))[0]


def evaluate_personalized(
    federation: Federation, clients: Sequence[int], recipe: PersonalizationRecipe
) -> dict[tuple[float, int], ClientAccuracies]:
    """Fine-tune the model for each client on its training pictures (augmented as in training), then test it.

    One fine-tuning for each learning rate, tested after each of the asked numbers of epochs. The server's model is the
    same afterwards.

    Returns:
        By (learning rate, epochs), in the recipe's order.
    """
    asked = [(lr, epochs) for lr in recipe.lr for epochs in recipe.epochs]

    def as_client(client: int) -> AbstractContextManager[None]:
        return _as_client(federation, client, recipe.statistics)

    def judge(theirs: Federation, client: int) -> float:
        return test_accuracy(theirs, client, recipe.statistics)

    def measure(mine: Sequence[int]) -> Iterable[list[float]]:
        return fine_tuned(federation, mine, recipe, as_client, judge)

    return dict(zip(asked, _per_client(federation, clients, len(asked), measure), strict=True))


def test_accuracy(federation: Federation, client: int, statistics: StatisticsName) -> float:
    """Percent correct on a client's test pictures, shuffled (always the same way) so that a batch mixes its classes."""
    indices = federation.clients.test[client]
    correct, _ = score(federation, mixed(federation, indices, client), statistics, "test")
    return 100 * correct / len(indices)


@contextmanager
def _as_client(federation: Federation, client: int, statistics: StatisticsName) -> Iterator[None]:
    """``federation.as_client``; a body of the client's own also gets static statistics of its own pictures."""
    algorithm = federation.recipe.training.algorithm
    has_own_body = algorithm in NO_COMMON_BODY or (algorithm == "ditto" and federation.states.has(client))
    needs_statistics = statistics == "static" and federation.recipe.model.norm == "batch" and has_own_body
    with federation.as_client(client):
        if not needs_statistics:
            yield
            return
        layers = norm_layers(federation.model).values()
        servers = [(layer, layer.running_mean, layer.running_var) for layer in layers]
        try:
            set_static_statistics(federation.model, client_statistics(federation, client))
            yield
        finally:
            for layer, mean, variance in servers:
                layer.running_mean, layer.running_var = mean, variance


def _per_client(
    federation: Federation,
    clients: Sequence[int],
    count: int,
    measure: Callable[[Sequence[int]], Iterable[list[float]]],
) -> list[ClientAccuracies]:
    """Spread the clients over the workers; every worker gets all results, ``count`` figures for each client."""
    workers = federation.workers
    results = torch.zeros(count, len(clients), dtype=torch.float64, device=workers.device)
    place = {client: position for position, client in enumerate(clients)}
    sizes = [len(federation.clients.test[client]) for client in clients]
    mine = workers.share(clients, sizes)
    for client, figures in zip(mine, measure(mine), strict=True):
        results[:, place[client]] = torch.tensor(figures, dtype=torch.float64)
    workers.add_up(results)
    return [ClientAccuracies(tuple(clients), tuple(row)) for row in results.tolist()]
