"""What a question is, and what its answer is made of."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from matplotlib.figure import Figure

from fbkit.benchmarks.paper.cells import Cell, Condition, Scale
from fbkit.benchmarks.paper.results import Pick, Results, spread
from fbkit.benchmarks.paper.wanted import Wanted

NAMES = {
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedbabu": "FedBABU",
    "fedprox-babu": "FedProx+BABU",
    "fedper": "FedPer",
    "fedrep": "FedRep",
    "lg-fedavg": "LG-FedAvg",
    "per-fedavg": "Per-FedAvg",
    "ditto": "Ditto",
    "local-only": "local only",
    "centralized": "learned head",
    "centralized-fixed-head": "fixed head",
}
PAIR = ("fedavg", "fedbabu")


@dataclass(frozen=True)
class Table:
    """For people; the cells are text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Answer:
    """findings: what the numbers say, computed from them. notes: what a reader must know of how they were made."""

    tables: Sequence[Table]
    figure: Figure
    findings: str
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Question:
    """One of the paper's. ``wanted`` says which cells it needs and what is measured of each."""

    number: int
    text: str
    wanted: Callable[[Scale], dict[Cell, Wanted]]
    answer: Callable[[Results], Answer]


def with_seeds(scale: Scale, cells: Sequence[Cell], wanted: Wanted) -> dict[Cell, Wanted]:
    """Each cell once for every seed of the scale."""
    return {replace(cell, seed=seed): wanted for cell in cells for seed in scale.seeds}


def grid(scale: Scale) -> list[Cell]:
    """FedAvg and FedBABU under every condition, on clients of every number of shards."""
    return [
        Cell(algorithm, shards, condition)
        for algorithm in PAIR
        for shards in scale.shards
        for condition in scale.conditions
    ]


def grid_table(results: Results, title: str, pick: Pick) -> Table:
    """The grid: a row for each number of shards and algorithm, a column for each condition."""
    conditions = results.scale.conditions
    rows = [
        [
            str(shards),
            NAMES[algorithm],
            *(spread(results.values(Cell(algorithm, shards, where), pick)) for where in conditions),
        ]
        for shards in results.scale.shards
        for algorithm in PAIR
    ]
    return Table(title, ("s", "method", *(where.words for where in conditions)), rows)


def methods_table(
    results: Results, title: str, methods: Sequence[tuple[str, Callable[[int], Cell]]], pick: Pick
) -> Table:
    """A row for each method, a column for each number of shards.

    Args:
        methods: each one's name, and its cell for a number of shards.
    """
    shards = results.scale.shards
    rows = [[name, *(spread(results.values(cell(count), pick)) for count in shards)] for name, cell in methods]
    return Table(title, ("method", *(f"s={count}" for count in shards)), rows)


def steps(conditions: Sequence[Condition]) -> dict[str, list[tuple[Condition, Condition]]]:
    """Neighbours in the grid of conditions: ``clients`` with more clients a round, ``epochs`` with more local ones."""
    found: dict[str, list[tuple[Condition, Condition]]] = {"clients": [], "epochs": []}
    for name, fixed, moved in (("clients", "tau", "f"), ("epochs", "f", "tau")):
        for value in sorted({getattr(where, fixed) for where in conditions}):
            row = [where for where in conditions if getattr(where, fixed) == value]
            row.sort(key=operator.attrgetter(moved))
            found[name] += itertools.pairwise(row)
    return found
