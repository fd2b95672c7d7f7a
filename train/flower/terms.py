"""The terms of a run: what the server says to all silos in every letter, and every silo checks."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from fbkit.errors import UserError
from fbkit.train.algorithms import Algorithm
from fbkit.train.flower.letters import Refusal
from fbkit.train.models import SplitModel
from fbkit.train.recipe import Recipe, parse_recipe

SUITED = ("fedavg", "fedbabu")


class Terms(BaseModel):
    """recipe: TOML. classes: a label is a place in this list. head_sha256: of the head that the seed gives.

    mean, std: of each channel, pooled over the silos; empty until they are known. round_number: 0 outside of training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    recipe: str = Field(max_length=1_000_000)
    classes: list[str] = Field(min_length=2)
    head_sha256: str
    mean: list[float] = []
    std: list[float] = []
    round_number: int = Field(default=0, ge=0)

    @property
    def sha256(self) -> str:
        """Of what never changes in a run."""
        return hashlib.sha256(json.dumps([self.recipe, self.classes, self.head_sha256]).encode()).hexdigest()

    def parsed_recipe(self) -> Recipe:
        """The recipe, checked.

        Raises:
            UserError: it is none, or asks for what silos cannot do.
        """
        try:
            recipe = parse_recipe(tomllib.loads(self.recipe), "the server's recipe")
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"the server's recipe: not TOML ({error})") from error
        refuse_unsuited(recipe)
        return recipe


def read_terms(values: dict[str, Any]) -> Terms:
    """What a letter says, checked.

    Raises:
        Refusal: it is no letter of a server of this version.
    """
    try:
        return Terms.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise Refusal(f"cannot read the server's letter ({key}: {first['msg']}); is it of another fbkit?") from error


def refuse_unsuited(recipe: Recipe) -> None:
    """Raise UserError for what a recipe may ask for, but not of silos."""
    algorithm = recipe.training.algorithm
    if algorithm not in SUITED:
        raise UserError(f"training.algorithm = '{algorithm}': silos train by {' or '.join(SUITED)}")
    if recipe.clients.held_out:
        raise UserError("clients.held_out: all silos train; leave it out")
    if recipe.evaluation.every:
        raise UserError("evaluation.every: silos are judged after the last round; leave it out")
    if recipe.evaluation.pooled:
        raise UserError("evaluation.pooled needs everybody's pictures in one place; leave it out")


def travelling_part(algorithm: Algorithm, model: SplitModel) -> nn.Module:
    """The part of the model whose weights go between server and silos."""
    part = algorithm.averaged(model)
    assert part is not None  # noqa: S101  for the type checker: the suited ones average something
    return part


def head_sha256(head: nn.Linear) -> str:
    """SHA-256 of a head's float32 numbers: the weight row by row, then the bias."""
    digest = hashlib.sha256()
    for values in (head.weight, head.bias):
        digest.update(values.detach().cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()
