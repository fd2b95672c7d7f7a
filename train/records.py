"""What run.json and evaluation.json hold, as types: written from them, and checked against them when read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fbkit.errors import UserError
from fbkit.files import read_json
from fbkit.train.recipe import StatisticsName

Side = Annotated[int, Field(ge=1, le=4096)]
PartName = Literal["none", "head", "body", "model"]
CalibrationName = Literal["one-pass", "layer-by-layer", "running", "not-needed", "none"]
Percent = Annotated[float, Field(ge=0, le=100)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class InputRecord(_Record):
    """The size of a picture, and the mean and std of each channel (of values in 0..1) that normalise it."""

    channels: int
    height: Side
    width: Side
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _one_for_each_channel(self) -> InputRecord:
        if self.channels not in (1, 3):
            raise ValueError("channels must be 1 (grey) or 3 (RGB)")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one number for each channel")
        return self


class ModelRecord(_Record):
    """The size of the model: numbers of parameters, and the width of the features between body and head."""

    body_parameters: int
    head_parameters: int
    features: int


class Description(_Record):
    """run.json."""

    schema_name: Literal["fbkit.run"] = Field(alias="schema")
    version: Literal[2]
    classes: list[Annotated[str, Field(min_length=1)]] = Field(min_length=2)
    input: InputRecord
    model: ModelRecord
    clients: int = Field(ge=1)
    client_names: list[str] = []
    seed: int
    recipe_sha256: str
    data_fingerprint: str
    environment: dict[str, str | int]

    @model_validator(mode="after")
    def _no_class_twice(self) -> Description:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes holds a name twice")
        return self


class Accuracies(_Record):
    """Percent correct: mean, standard deviation across clients, mean of the worst tenth, and each client's own."""

    mean: Percent
    std: float
    worst_decile: Percent
    per_client: list[Percent]


class PersonalizedAccuracies(Accuracies):
    """The same after fine-tuning a part of the model."""

    part: Literal["head", "body", "full"]
    epochs: int
    lr: float
    statistics: StatisticsName


class CalibrationRecord(_Record):
    """Where the static statistics come from, and the training loss of each way that was tried.

    ``one-pass`` and ``layer-by-layer`` are pooled over the training clients, ``running`` were averaged while training,
    ``not-needed`` is for models without such layers, ``none`` for runs without a common body or calibration.
    """

    kept: CalibrationName
    losses: dict[str, float]


class ByStatistics(_Record):
    """One figure for each client, normalised by the batch and by static statistics, where these were asked for."""

    batch: Accuracies | None
    static: Accuracies | None

    def measured(self) -> Iterator[tuple[StatisticsName, Accuracies]]:
        """What was asked for, by its statistics."""
        if self.batch:
            yield "batch", self.batch
        if self.static:
            yield "static", self.static


class PooledAccuracies(_Record):
    """The common model on everybody's test pictures, in percent.

    accuracy: of the model as it is. template: nearest class mean of the training pictures' features. probe: a linear
    classifier fitted to these features.
    """

    accuracy: Percent
    template: Percent
    probe: Percent


class PooledByStatistics(_Record):
    batch: PooledAccuracies | None
    static: PooledAccuracies | None


class Evaluation(_Record):
    """evaluation.json; per_client lists follow ``clients``.

    own_part: what each client has of its own after training and is judged with. without_own: the evaluated clients
    that never trained; they start from what the server holds (for a head: the run's initial one).
    """

    clients: list[int]
    own_part: PartName
    without_own: list[int]
    calibration: CalibrationRecord
    initial: ByStatistics
    templates: ByStatistics | None
    pooled: PooledByStatistics | None
    personalized: list[PersonalizedAccuracies]

    @model_validator(mode="after")
    def _one_for_each_client(self) -> Evaluation:
        figures: list[Accuracies | None] = [self.initial.batch, self.initial.static, *self.personalized]
        if self.templates:
            figures += [self.templates.batch, self.templates.static]
        for entry in figures:
            if entry and len(entry.per_client) != len(self.clients):
                raise ValueError("per_client needs one number for each of clients")
        return self


Record = TypeVar("Record", bound=_Record)


def read_record(kind: type[Record], path: Path) -> Record:
    """Read a JSON file as a record.

    Raises:
        UserError: missing, not JSON, or a field is missing or impossible; the message names it.
    """
    return check_record(kind, read_json(path), path)


def check_record(kind: type[Record], values: dict[str, Any], path: Path) -> Record:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from error
