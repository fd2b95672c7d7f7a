"""One cell of the matrix: a model for a target in a precision, and its bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.manifest import PRECISIONS, TARGETS
from fbkit.errors import UserError
from fbkit.export.exporting import Options

_ADVICE = re.compile(r"--keep-float ([\w.]*\w)")


@dataclass(frozen=True)
class Cell:
    """What is exported."""

    model: str
    target: str
    precision: str

    def __str__(self) -> str:
        return f"{self.model}-{self.target}-{self.precision}"


def cells_of(models: Sequence[str]) -> list[Cell]:
    """Every target and precision of every model."""
    return [Cell(model, target, precision) for model in models for target in TARGETS for precision in PRECISIONS]


def export_as_advised(export: Callable[[Options], Bundle], precision: str) -> Bundle:
    """Export, and where int8 costs too much do what the message says: keep the layers it names in fp32.

    Where that is not enough either, the bundle is made with ``--accept-loss``, for its figures.

    Raises:
        UserError: it is not the loss that is refused.
    """
    options = Options(precision)
    try:
        return export(options)
    except UserError as error:
        options = replace(options, keep_float=tuple(_ADVICE.findall(str(error))))
        if not options.keep_float:
            raise
    try:
        return export(options)
    except UserError as error:
        if "--accept-loss" not in str(error):
            raise
    return export(replace(options, accept_loss=True))
