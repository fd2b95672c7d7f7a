"""The recipe: everything that decides a run, in one TOML file, checked before anything starts."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fbkit.errors import UserError

DEFAULT_RECIPE = Path(__file__).parent / "recipes" / "fashion-mnist.toml"

Count = Annotated[int, Field(ge=1, le=10**9)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1e3)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataRecipe(_Section):
    source: Literal["fashion-mnist-10k"] = "fashion-mnist-10k"
    crop_padding: int = Field(default=0, ge=0, le=64)
    flip: bool = False


class ClientsRecipe(_Section):
    count: Count = 100
    shards_per_client: Count = 2
    held_out: int = Field(default=0, ge=0)


class ModelRecipe(_Section):
    name: Literal["conv4"] = "conv4"
    width: int = Field(default=64, ge=1, le=4096)


class TrainingRecipe(_Section):
    algorithm: Literal["fedavg", "fedbabu"] = "fedbabu"
    rounds: Count = 60
    cohort: Count = 10
    local_epochs: Count = 1
    batch_size: int = Field(default=50, ge=2, le=10**6)
    lr: Rate = 0.1
    lr_milestones: tuple[Fraction, ...] = (0.5, 0.75)
    lr_gamma: Rate = 0.1
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    weighting: Literal["uniform", "examples"] = "uniform"
    checkpoint_every: Count = 10


class EvaluationRecipe(_Section):
    every: int = Field(default=0, ge=0)
    clients: Literal["held-out", "training", "all"] = "all"


class PersonalizationRecipe(_Section):
    part: Literal["head", "body", "full"]
    epochs: Count
    lr: Rate
    statistics: Literal["static", "batch"] = "static"


class Recipe(_Section):
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: DataRecipe = DataRecipe()
    clients: ClientsRecipe = ClientsRecipe()
    model: ModelRecipe = ModelRecipe()
    training: TrainingRecipe = TrainingRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    personalization: tuple[PersonalizationRecipe, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        training_clients = self.clients.count - self.clients.held_out
        if training_clients < 1:
            raise ValueError(f"clients.held_out = {self.clients.held_out} leaves none of {self.clients.count} to train")
        if self.training.cohort > training_clients:
            raise ValueError(
                f"training.cohort = {self.training.cohort} is more than the {training_clients} clients that train"
            )
        if self.evaluation.clients == "held-out" and self.clients.held_out == 0:
            raise ValueError("evaluation.clients = 'held-out' needs clients.held_out of at least 1")
        return self

    def learning_rate(self, round_number: int) -> float:
        """The local learning rate of a round, counted from 1."""
        done = (round_number - 1) / self.training.rounds
        passed = sum(done >= milestone for milestone in self.training.lr_milestones)
        return self.training.lr * self.training.lr_gamma**passed


def load_recipe(path: Path | None = None, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe, change single values, check all of it.

    Args:
        path: a TOML file; None for the recipe that fbkit ships.
        settings: ``section.key=value`` each, value in TOML (a bare word counts as a string).

    Raises:
        UserError: no such file, not TOML, an unknown key, an impossible value; the message names it.
    """
    path = path or DEFAULT_RECIPE
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: no recipe can be read there ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML ({error})") from error
    recipe = parse_recipe(values, str(path))
    if not settings:
        return recipe
    for setting in settings:
        _apply(values, setting)
    return parse_recipe(values, "--set")


def parse_recipe(values: dict[str, Any], origin: str) -> Recipe:
    try:
        return Recipe.model_validate_json(json.dumps(values, default=str))  # as JSON, where lists may fill tuples
    except ValidationError as error:
        raise UserError(f"{origin}: {_explain(error)}") from error


def recipe_to_toml(recipe: Recipe) -> str:
    return tomli_w.dumps(recipe.model_dump(mode="json"))


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise UserError(f"--set {setting}: expected section.key=value, as in --set training.rounds=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {setting}: {section} is not a section of single keys")
    target[last] = value


def _explain(error: ValidationError) -> str:
    """The first thing wrong, in a line, with the nearest known key where one was mistyped."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields: Any = Recipe.model_fields
        for part in first["loc"][:-1]:
            if isinstance(part, str):
                annotation = fields[part].annotation
                section = PersonalizationRecipe if part == "personalization" else annotation
                fields = section.model_fields
        near = difflib.get_close_matches(str(first["loc"][-1]), fields, n=1)
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(fields)}")
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message}, found {first['input']!r}" if key else message
