"""What `flwr run` is told beside the recipe: the keys of ``[tool.flwr.app.config]``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fbkit.errors import UserError
from fbkit.train.flower.terms import refuse_unsuited
from fbkit.train.recipe import Recipe, parse_recipe, read_toml
from fbkit.train.sources.assembling import check_classes


class Settings(BaseModel):
    """out: the run folder to make, seen from where the SuperLink was started. classes: separated by commas.

    silos: how many must be there before the run begins. min_answers: with fewer a round is not averaged, and the run
    ends. timeout: seconds that a silo has for an answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    out: str = Field(min_length=1)
    classes: str
    silos: int = Field(ge=2)
    min_answers: int = Field(ge=1, alias="min-answers")
    timeout: float = Field(gt=0)

    @property
    def class_names(self) -> list[str]:
        return [name.strip() for name in self.classes.split(",")]


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The run's config, checked.

    Raises:
        UserError: a key is missing, unknown or impossible; the message names it.
    """
    try:
        settings = Settings.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"run config: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    check_classes(settings.class_names, "run config: classes")
    if settings.min_answers > settings.silos:
        raise UserError(f"run config: min-answers = {settings.min_answers} is more than silos = {settings.silos}")
    return settings


def read_recipe(path: Path) -> Recipe:
    """The recipe of a run over silos, which says nothing of where pictures are.

    Raises:
        UserError: no such file, not TOML, an impossible value, or something that silos cannot do.
    """
    values = read_toml(path)
    data = values.setdefault("data", {})
    if isinstance(data, dict):
        for key in ("source", "root"):
            if key in data:
                raise UserError(f"{path}: data.{key}: every silo brings its own folder of pictures; leave it out")
        data |= {"source": "client-folders", "root": "the-silos"}
    recipe = parse_recipe(values, str(path))
    refuse_unsuited(recipe)
    return recipe
