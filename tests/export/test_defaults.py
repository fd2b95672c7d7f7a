"""The choice of personalization defaults: on a real run's training clients, and on hand-made ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Defaults
from fbkit.device_runtime.solvers.exact import fit_exact
from fbkit.export import defaults
from fbkit.export.defaults import choose_defaults
from fbkit.train.data import Dataset, Owners, Pictures
from fbkit.train.models import SplitModel
from fbkit.train.partition import partition
from fbkit.train.run_folder import Run
from fbkit.train.sources import load_dataset

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def owned(small_run: Run) -> Dataset:
    """17 clients with pictures of their own, ten of which the run's recipe holds out: 40 to train, 60 to test."""
    dataset = load_dataset(small_run.recipe.data)
    train, test = (tuple(torch.arange(17 * size).split(size)) for size in (40, 60))
    return replace(dataset, owners=Owners((), train, test))


def dealt(run: Run, dataset: Dataset) -> tuple[Sequence[int], Sequence[int]]:
    """The clients that train, and those that are held out."""
    clients = partition(dataset, run.recipe.clients, run.recipe.seed)
    return clients.training, clients.held_out


def spoiled(pictures: Pictures, rows: Tensor) -> Pictures:
    """Other pixels and labels at ``rows``."""
    images, labels = pictures.images.clone(), pictures.labels.clone()
    images[rows] = 255 - images[rows]
    labels[rows] = (labels[rows] + 1) % 10
    return Pictures(images, labels)


def rows_of(owned: Sequence[Tensor], clients: Sequence[int]) -> Tensor:
    return torch.cat([owned[client] for client in clients])


def accuracies(report: dict[str, object], solver: str) -> Iterator[tuple[dict[str, float], list[float]]]:
    """What was tried, and its accuracies."""
    tried = report[solver]
    assert isinstance(tried, list)
    for way in tried:
        yield {key: value for key, value in way.items() if key != "accuracy"}, way["accuracy"]


def test_the_choice_and_its_figures_can_be_followed(small_run: Run, owned: Dataset) -> None:
    """By hand for all pictures: features by the unfolded body in one batch, and the mean over the seven clients."""
    model = small_run.load_model()
    chosen = choose_defaults(small_run, model, owned)
    report = chosen.report
    assert report == json.loads(json.dumps(report))
    assert (report["measured"], report["clients"], report["pictures_a_class"]) == (True, 7, [1, 5, 10, "all"])

    head = Head(model.head.weight.detach().numpy(), model.head.bias.detach().numpy())
    training, _ = dealt(small_run, owned)
    shipped = []
    fitted: dict[float, list[float]] = {way["penalty"]: [] for way, _ in accuracies(report, "exact")}
    assert owned.owners
    for client in training:
        known, unseen = owned.owners.train[client], owned.owners.test[client]
        with torch.no_grad():
            features, judged = (
                model.body((pictures.images[rows].float() / 255 - 0.2860) / 0.3530).numpy()
                for pictures, rows in ((owned.train, known), (owned.test, unseen))
            )
        labels = owned.test.labels[unseen].numpy()
        shipped.append(head.accuracy(judged, labels))
        for penalty, found in fitted.items():
            fit = fit_exact(head, features, owned.train.labels[known].numpy(), penalty)
            found.append(fit.head.accuracy(judged, labels))
    assert report["shipped_accuracy"] == pytest.approx(np.mean(shipped), abs=0.005)
    for way, found_by_size in accuracies(report, "exact"):
        assert found_by_size[-1] == pytest.approx(np.mean(fitted[way["penalty"]]), abs=0.3)  # one prediction is 0.24

    schedules = {(way["lr"], way["epochs"]): np.mean(found) for way, found in accuracies(report, "sgd")}
    penalties = {way["penalty"]: np.mean(found) for way, found in accuracies(report, "exact")}
    assert penalties[chosen.defaults.penalty] > max(penalties.values()) - 2
    assert schedules[chosen.defaults.lr, chosen.defaults.epochs] > max(schedules.values()) - 2
    assert (chosen.defaults.momentum, chosen.defaults.batch_size) == (0.9, 50)


def test_held_out_clients_are_not_looked_at(small_run: Run, owned: Dataset) -> None:
    model = small_run.load_model()
    training, held_out = dealt(small_run, owned)
    chosen = choose_defaults(small_run, model, owned)
    assert owned.owners
    train, test = owned.owners.train, owned.owners.test
    others = replace(
        owned,
        train=spoiled(owned.train, rows_of(train, held_out)),
        test=spoiled(owned.test, rows_of(test, held_out)),
    )
    assert choose_defaults(small_run, model, others) == chosen
    judged_by = replace(owned, test=spoiled(owned.test, rows_of(test, training[:1])))
    assert choose_defaults(small_run, model, judged_by) != chosen
    learned_from = replace(owned, train=spoiled(owned.train, rows_of(train, training[:1])))
    assert choose_defaults(small_run, model, learned_from) != chosen


def test_a_run_whose_pictures_were_dealt_gives_the_same_each_time(small_run: Run) -> None:
    model, dataset = small_run.load_model(), load_dataset(small_run.recipe.data)
    chosen = choose_defaults(small_run, model, dataset)
    assert chosen.report["clients"] == 30
    assert choose_defaults(small_run, model, dataset) == chosen


def hand_made(shipped: float, noisy: bool, std: float = 1.0, clients: int = 16) -> tuple[SplitModel, Dataset]:
    """Pictures whose bright pixel names their class, which are also the features; 12 of each class for every client.

    shipped: weight of the class's own pixel in the head. noisy: the labels to learn from are any.
    """
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(shipped * torch.eye(3))
        head.bias.zero_()
    labels = torch.arange(3).repeat(12 * clients)
    images = (255 * torch.eye(3, dtype=torch.uint8))[labels].view(-1, 1, 1, 3)
    learned = torch.randint(0, 3, labels.shape, generator=torch.Generator().manual_seed(0)) if noisy else labels
    owners = Owners((), *2 * (tuple(torch.arange(len(labels)).split(36)),))
    pictures = Pictures(images, learned), Pictures(images, labels)
    return SplitModel(nn.Flatten(), head).eval(), Dataset(*pictures, CLASSES, (0.0,), (std,), "made", owners)


def test_where_there_is_nothing_to_learn_the_most_cautious_is_chosen(small_run: Run) -> None:
    model, dataset = hand_made(shipped=5, noisy=True)
    chosen = choose_defaults(small_run, model, dataset)
    assert chosen.report["shipped_accuracy"] == 100
    assert chosen.defaults == Defaults(epochs=1, lr=0.001, penalty=100.0)
    bold = {way["penalty"]: found for way, found in accuracies(chosen.report, "exact")}[0.01]
    assert max(bold) < 90


def test_where_the_shipped_head_is_wrong_a_weak_penalty_is_chosen(small_run: Run) -> None:
    """One picture of a class can move its logits against the others' by up to 1.5 * 2/3 / penalty; 45 is needed."""
    model, dataset = hand_made(shipped=-45, noisy=False)
    chosen = choose_defaults(small_run, model, dataset)
    assert chosen.report["shipped_accuracy"] == 0
    assert chosen.defaults.penalty == 0.01
    found = {way["penalty"]: by_size for way, by_size in accuracies(chosen.report, "exact")}
    assert found[0.01] == [100] * 4
    assert found[0.03] == [0, 100, 100, 100]


def test_a_lead_that_few_clients_decide_is_not_believed(small_run: Run) -> None:
    """Bold ways gain all with three clients, whose classes are named otherwise, and lose all with two misled ones."""
    model, dataset = hand_made(shipped=5, noisy=False)
    training, _ = dealt(small_run, dataset)
    assert len(training) == 6
    assert dataset.owners

    def renamed(pictures: Pictures, clients: Sequence[int]) -> Pictures:
        assert dataset.owners
        labels = pictures.labels.clone()
        rows = rows_of(dataset.owners.train, clients)
        labels[rows] = (labels[rows] + 1) % 3
        return Pictures(pictures.images, labels)

    mixed = replace(dataset, train=renamed(dataset.train, training[:5]), test=renamed(dataset.test, training[:3]))
    chosen = choose_defaults(small_run, model, mixed)
    found = {way["penalty"]: by_size for way, by_size in accuracies(chosen.report, "exact")}
    assert np.mean(found[0.01]) > np.mean(found[100.0]) + 10
    assert chosen.defaults.penalty == 100


def test_where_the_shipped_head_is_slightly_wrong_no_more_training_is_chosen_than_needed(small_run: Run) -> None:
    model, dataset = hand_made(shipped=-0.1, noisy=False)
    chosen = choose_defaults(small_run, model, dataset)
    found = [(way["lr"], way["epochs"], by_size) for way, by_size in accuracies(chosen.report, "sgd")]
    enough = [(lr, epochs) for lr, epochs, by_size in found if by_size == [100] * 4]
    assert found[0][2] == [0] * 4
    assert (chosen.defaults.lr, chosen.defaults.epochs) == enough[0]


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_rates_at_which_training_runs_away_are_not_chosen(small_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "_PENALTIES", (1.0,))  # there is no exact solution on this scale, and it takes long
    monkeypatch.setattr(defaults, "_SIZES", (1,))
    model, dataset = hand_made(shipped=5, noisy=True, std=1e-30)
    chosen = choose_defaults(small_run, model, dataset)
    found = {(way["lr"], way["epochs"]): by_size[0] for way, by_size in accuracies(chosen.report, "sgd")}
    assert found[0.1, 20] == 0
    assert found[chosen.defaults.lr, chosen.defaults.epochs] > 0


def test_too_few_clients_or_none_with_test_pictures_leave_the_usual_defaults(small_run: Run) -> None:
    model, dataset = hand_made(shipped=-45, noisy=False, clients=14)  # four of them train
    chosen = choose_defaults(small_run, model, dataset)
    assert chosen.defaults == Defaults()
    assert chosen.report["measured"] is False
    assert "fewer than 5" in chosen.report["why"]

    model, dataset = hand_made(shipped=-45, noisy=False)
    assert dataset.owners
    nothing = tuple(torch.arange(0) for _ in dataset.owners.test)
    untested = replace(dataset, owners=replace(dataset.owners, test=nothing))
    assert choose_defaults(small_run, model, untested) == chosen
