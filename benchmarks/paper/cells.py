"""A cell of the paper's grid, and the recipe it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fbkit.train.recipe import POOLED, Recipe, parse_recipe


@dataclass(frozen=True)
class Condition:
    """How a federation trains: the share ``f`` of clients in a round, ``tau`` local epochs, rounds."""

    f: float
    tau: int
    rounds: int

    @property
    def words(self) -> str:
        return f"f={self.f:g}, tau={self.tau}"


@dataclass(frozen=True)
class Scale:
    """The paper's protocol at one size.

    conditions: of the questions that look at f and tau. base: the one of them that all others train under. alone: local
    training and centralised training, as rounds of one epoch over all pictures.
    """

    name: str
    data: dict[str, Any]
    model: dict[str, Any]
    shards: tuple[int, ...]
    conditions: tuple[Condition, ...]
    base: Condition
    alone: Condition
    seeds: tuple[int, ...]
    clients: int = 100
    mus: tuple[float, ...] = (0.01, 0.1, 1.0)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def extremes(self) -> tuple[int, int]:
        """The fewest and the most shards a client."""
        return self.shards[0], self.shards[-1]


AUGMENTED = {"crop_padding": 4, "flip": True}

SMALL = Scale(
    name="small",
    data={"source": "fashion-mnist-10k", **AUGMENTED},
    model={"name": "conv4", "width": 32},
    shards=(2, 5, 10),
    conditions=(Condition(0.1, 1, 50), Condition(0.3, 1, 50), Condition(0.1, 4, 50)),
    base=Condition(0.1, 1, 50),
    alone=Condition(1.0, 1, 20),
    seeds=(0, 1, 2),
)

# Every condition of the paper trains for 320 epochs in all; the base is the one with the fewest rounds.
PAPER = Scale(
    name="paper",
    data={"source": "cifar100", **AUGMENTED},
    model={"name": "mobilenet"},
    shards=(10, 50, 100),
    conditions=tuple(Condition(f, tau, rounds) for f in (0.1, 1.0) for tau, rounds in ((1, 320), (4, 80), (10, 32))),
    base=Condition(0.1, 10, 32),
    alone=Condition(1.0, 1, 32),
    seeds=(0,),
)

SCALES = {scale.name: scale for scale in (SMALL, PAPER)}

DEFAULT_MU = 0.01
WITH_MU = ("fedprox", "fedprox-babu")


@dataclass(frozen=True)
class Cell:
    """One training run: an algorithm on clients of so many shards. ``mu`` only matters to the methods that have it."""

    algorithm: str
    shards: int
    condition: Condition
    seed: int = 0
    mu: float = DEFAULT_MU

    @property
    def name(self) -> str:
        """Readable, for files and messages."""
        mu = f"-mu{self.mu:g}" if self.algorithm in WITH_MU else ""
        where = f"-f{self.condition.f:g}-tau{self.condition.tau}" if self.algorithm not in POOLED else ""
        return f"{self.algorithm}{mu}-s{self.shards}{where}-seed{self.seed}"


def recipe_of(cell: Cell, scale: Scale) -> Recipe:
    """Training as in the paper: no client held out, batch statistics, so nothing to calibrate."""
    training = {
        "algorithm": cell.algorithm,
        "rounds": cell.condition.rounds,
        "cohort": max(1, round(cell.condition.f * scale.clients)),
        "local_epochs": cell.condition.tau,
        "batch_size": 50,
        "lr": 0.1,
        "lr_milestones": [0.5, 0.75],
        "lr_gamma": 0.1,
        "momentum": 0.9,
        "weighting": "uniform",
        "mu": cell.mu,
        "calibrate": False,
        **scale.training,
    }
    return parse_recipe(
        {
            "seed": cell.seed,
            "data": scale.data,
            "clients": {"count": scale.clients, "partition": "shards", "shards_per_client": cell.shards},
            "model": scale.model,
            "training": training,
            "evaluation": {"every": 0, "clients": "all", "statistics": ["batch"]},
        },
        cell.name,
    )


def pictures_of(recipe: Recipe, pictures: int) -> int:
    """How many pictures a run trains on in all, where the data set has so many for training."""
    training = recipe.training
    passes = training.local_epochs
    if training.algorithm == "fedrep":  # the head first, then the body
        passes += training.head_epochs
    elif training.algorithm == "ditto":  # the server's model and the client's own
        passes *= 2
    share = 1.0 if training.algorithm in POOLED else training.cohort / recipe.clients.count
    return round(pictures * share * passes * training.rounds)
