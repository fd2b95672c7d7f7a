"""The recipe: everything that decides a run, in one TOML file, checked before anything starts."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fbkit.errors import UserError
from fbkit.train.models.names import TORCHVISION, check_model_name

DEFAULT_RECIPE = Path(__file__).parent / "recipes" / "fashion-mnist.toml"

Count = Annotated[int, Field(ge=1, le=10**9)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1e3)]


Source = Literal[
    "fashion-mnist-10k",
    "mnist",
    "fashion-mnist",
    "emnist",
    "cifar10",
    "cifar100",
    "class-folders",
    "client-folders",
    "given",
]
AlgorithmName = Literal[
    "fedavg",
    "fedprox",
    "fedbabu",
    "fedprox-babu",
    "fedper",
    "fedrep",
    "lg-fedavg",
    "per-fedavg",
    "ditto",
    "local-only",
    "centralized",
    "centralized-fixed-head",
]
StatisticsName = Literal["static", "batch"]

GIVEN = "given"  # a data set handed over in Python
FOLDERS = ("class-folders", "client-folders")
CLIENTS_IN_DATA = ("client-folders", GIVEN)  # the number of clients is known when the data are
PRETRAINED = "pretrained"

# The part of the model that stays with each client, where one does.
OWN_PART: dict[str, Literal["head", "body", "model"]] = {
    "fedper": "head",
    "fedrep": "head",
    "lg-fedavg": "body",
    "ditto": "model",
    "local-only": "model",
}

# Trained on everybody's pictures in one place: the pool is the only "client", and no cohort is sampled.
POOLED = ("centralized", "centralized-fixed-head")

# A client's update that is more than SGD on a part of the model, so clients cannot take their steps together; or there
# is one "client" only.
ONE_BY_ONE = ("per-fedavg", *POOLED)

# After these there is no body that all clients share, so nothing to calibrate or export.
NO_COMMON_BODY = ("lg-fedavg", "local-only")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataRecipe(_Section):
    source: Source = "fashion-mnist-10k"
    root: str = ""
    emnist_split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = "balanced"
    download: bool = False
    size: int = Field(default=0, ge=0, le=4096)
    channels: Literal[0, 1, 3] = 0
    fit: Literal["resize", "pad"] = "resize"
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(ge=1e-4)], ...] = ()
    test_fraction: Fraction = 0.2
    skip_broken: bool = False
    crop_padding: int = Field(default=0, ge=0, le=64)
    flip: bool = False


class ClientsRecipe(_Section):
    count: Count = 100
    partition: Literal["shards", "dirichlet", "iid"] = "shards"
    shards_per_client: Count = 2
    alpha: float = Field(default=0.5, gt=0, le=1e6)
    unbalanced: float = Field(default=0.0, ge=0, lt=1)
    held_out: int = Field(default=0, ge=0)


class ModelRecipe(_Section):
    name: str = Field(default="conv4", min_length=1)
    width: int = Field(default=64, ge=1, le=4096)
    norm: Literal["batch", "running", "group"] = "batch"
    init: str = ""
    head: str = ""


class TrainingRecipe(_Section):
    algorithm: AlgorithmName = "fedbabu"
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
    mu: float = Field(default=0.01, ge=0, le=1e6)
    head_epochs: Count = 1
    inner_lr: Rate = 0.01
    pull: float = Field(default=0.1, ge=0, le=1e6)
    calibrate: bool = True
    checkpoint_every: Count = 10
    precision: Literal["float32", "bfloat16"] = "float32"
    side_by_side: int = Field(default=0, ge=0, le=10_000)


class EvaluationRecipe(_Section):
    every: int = Field(default=0, ge=0)
    clients: Literal["held-out", "training", "all"] = "all"
    statistics: tuple[StatisticsName, ...] = Field(default=("batch", "static"), min_length=1)
    templates: bool = False
    pooled: bool = False


class PersonalizationRecipe(_Section):
    """One fine-tuning for each learning rate, judged after each of the numbers of epochs."""

    part: Literal["head", "body", "full"]
    epochs: Annotated[tuple[Count, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    lr: Annotated[tuple[Rate, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    statistics: StatisticsName = "static"


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
        check_model_name(self.model.name)
        data, algorithm = self.data, self.training.algorithm
        if data.source != "fashion-mnist-10k" and data.source != GIVEN and not data.root:
            raise ValueError(f"data.root is missing: the folder that holds the pictures of {data.source}")
        if data.source in FOLDERS and not data.size:
            raise ValueError(
                f"data.size is missing: {data.source} holds pictures of any size, say to which to bring them"
            )
        if len(data.mean) != len(data.std):
            raise ValueError("data.mean and data.std need one number for each channel, or none")
        if data.source not in CLIENTS_IN_DATA:
            check_clients(self, self.clients.count)
        if self.evaluation.clients == "held-out" and self.clients.held_out == 0:
            raise ValueError("evaluation.clients = 'held-out' needs clients.held_out of at least 1")
        if self.evaluation.pooled and algorithm in OWN_PART:
            raise ValueError(
                f"evaluation.pooled judges one model on everybody's pictures, but with training.algorithm = "
                f"'{algorithm}' every client has its own {OWN_PART[algorithm]}"
            )
        if self.model.norm == "batch" and not self.training.calibrate:
            asked = [*self.evaluation.statistics, *(how.statistics for how in self.personalization)]
            if "static" in asked:
                raise ValueError(
                    "static statistics need training.calibrate = true (or a model.norm other than 'batch')"
                )
        if self.training.side_by_side > 1 and algorithm in ONE_BY_ONE:
            raise ValueError(
                f"training.side_by_side: clients of '{algorithm}' are trained one after another; leave it out"
            )
        if self.model.init == PRETRAINED and self.model.name not in TORCHVISION:
            raise ValueError(f"model.init = 'pretrained' is for torchvision's models: {', '.join(TORCHVISION)}")
        if self.model.init == PRETRAINED and self.model.norm == "group":
            raise ValueError("model.init = 'pretrained' brings batch normalisation; set model.norm to batch or running")
        return self

    def without_init(self) -> Recipe:
        """The same for weights that are loaded anyway: the file that training started from may be gone by now."""
        return self.model_copy(update={"model": self.model.model_copy(update={"init": ""})})

    def learning_rate(self, round_number: int) -> float:
        """The local learning rate of a round, counted from 1."""
        done = (round_number - 1) / self.training.rounds
        passed = sum(done >= milestone for milestone in self.training.lr_milestones)
        return self.training.lr * self.training.lr_gamma**passed


def check_clients(recipe: Recipe, count: int) -> None:
    """Raise ValueError where ``count`` clients are too few for the recipe's cohort and held-out clients."""
    training_clients = count - recipe.clients.held_out
    if training_clients < 1:
        raise ValueError(f"clients.held_out = {recipe.clients.held_out} leaves none of {count} to train")
    if recipe.training.cohort > training_clients and recipe.training.algorithm not in POOLED:
        raise ValueError(
            f"training.cohort = {recipe.training.cohort} is more than the {training_clients} clients that train"
        )


def load_recipe(path: Path | None = None, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe, change single values, check all of it.

    Args:
        path: a TOML file; None for the recipe that fbkit ships. Files that it names are looked for from the current
            folder.
        settings: ``section.key=value`` each, value in TOML (a bare word counts as a string).

    Raises:
        UserError: no such file, not TOML, an unknown key, an impossible value; the message names it.
    """
    path = path or DEFAULT_RECIPE
    values = read_toml(path)
    recipe = parse_recipe(values, str(path))
    if settings:
        for setting in settings:
            _apply(values, setting)
        recipe = parse_recipe(values, "--set")
    return _with_whole_paths(recipe)


def read_toml(path: Path) -> dict[str, Any]:
    """A recipe file's values, not checked yet; raise UserError where it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: no recipe can be read there ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML ({error})") from error


def _with_whole_paths(recipe: Recipe) -> Recipe:
    """A run must find its files again wherever it is resumed or judged from."""
    root, init = recipe.data.root, recipe.model.init
    if root:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": _whole(root)})})
    if init and init != PRETRAINED:
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"init": _whole(init)})})
    return recipe


def _whole(path: str) -> str:
    try:
        return str(Path(path).expanduser().resolve())
    except RuntimeError as error:
        raise UserError(f"{path}: {error}") from error


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
    if first["type"] == "string_type":
        message += " (on the command line, text that looks like a number needs quotes of its own)"
    return f"{key}: {message}, found {first['input']!r}" if key else message
