"""All cells, one after another; what is there is not done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fbkit.benchmarks.export_matrix.cells import Cell, cells_of, export_as_advised
from fbkit.benchmarks.export_matrix.results import Found, read_cell
from fbkit.benchmarks.export_matrix.timing import is_timed, time_bundle
from fbkit.benchmarks.export_matrix.weights import MODELS, TRAININGS, start_model, train_model, write_pictures
from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.errors import UserError
from fbkit.export.exporting import Options, export_model, export_run
from fbkit.export.own_model import OwnModel


@dataclass(frozen=True)
class Place:
    """The folder of the matrix: runs, weights and pictures are kept, so are bundles and their times."""

    out: Path

    def run(self, model: str) -> Path:
        return self.out / "runs" / model

    def weights(self, model: str) -> Path:
        return self.out / "weights" / f"{model}.safetensors"

    @property
    def pictures(self) -> Path:
        return self.out / "pictures"

    def bundle(self, cell: Cell) -> Path:
        return self.out / "bundles" / str(cell)

    def times(self, cell: Cell) -> Path:
        return self.out / "times" / f"{cell}.json"


def choose_models(names: str | None) -> list[str]:
    """The models named with commas between them, all for None, in the order of the registry.

    Raises:
        UserError: one is not known, or none is named.
    """
    if names is None:
        return list(MODELS)
    asked = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in asked if name not in MODELS]
    if unknown or not asked:
        raise UserError(f"--models {names}: known are {', '.join(MODELS)}")
    return [name for name in MODELS if name in asked]


def measure(
    models: Sequence[str], width: int, rounds: int | None, place: Place, reporter: Reporter
) -> tuple[list[Found], Mapping[Cell, str]]:
    """Make, export and time what is not there yet.

    Args:
        models: names of the registry.
        width: channels of the 4-conv net.
        rounds: of each training; None for the model's own number.

    Returns:
        What was found, and of the cells that could not be exported the message.

    Raises:
        UserError: a training or a timing failed.
    """
    exporters = {}
    with reporter.stage("weights", len(models)) as advance:
        for model in models:
            exporters[model] = _prepare(model, width, rounds, place, reporter)
            advance(model)
    cells = cells_of(models)
    failed = _export_all(cells, exporters, place, reporter)
    exported = [cell for cell in cells if cell not in failed]
    _time_all(exported, place, reporter)
    return [read_cell(cell, place.bundle(cell), place.times(cell)) for cell in exported], failed


def _prepare(
    model: str, width: int, rounds: int | None, place: Place, reporter: Reporter
) -> Callable[[str, Path, Options], Bundle]:
    """Weights, and what exports them to a target and folder."""
    if model in TRAININGS:
        train_model(model, TRAININGS[model], width, rounds, place.run(model), reporter)
        return partial(export_run, place.run(model))
    if not place.pictures.exists():
        write_pictures(place.pictures)
    place.weights(model).parent.mkdir(exist_ok=True)
    own = start_model(model, place.pictures, place.weights(model))
    return partial(_export_untrained, own)


def _export_untrained(own: OwnModel, target: str, out: Path, options: Options) -> Bundle:
    """Predictions of a random start turn at a breath, so int8 may cost what it likes."""
    return export_model(own, target, out, Options(options.precision, accept_loss=options.precision == "int8"))


def _export_all(
    cells: Sequence[Cell],
    exporters: Mapping[str, Callable[[str, Path, Options], Bundle]],
    place: Place,
    reporter: Reporter,
) -> dict[Cell, str]:
    missing = [cell for cell in cells if not place.bundle(cell).exists()]
    failed = {}
    with reporter.stage("exporting", len(cells), done=len(cells) - len(missing)) as advance:
        for cell in missing:
            try:
                export = partial(exporters[cell.model], cell.target, place.bundle(cell))
                kept = export_as_advised(export, cell.precision).manifest.provenance.get("keep_float")
                reporter.line(f"{cell}: exported" + (f", {', '.join(kept)} kept in fp32" if kept else ""))
            except UserError as error:
                failed[cell] = str(error)
                reporter.line(f"{cell}: {error}")
            advance(str(cell))
    return failed


def _time_all(cells: Sequence[Cell], place: Place, reporter: Reporter) -> None:
    missing = [cell for cell in cells if not is_timed(place.bundle(cell), place.times(cell))]
    (place.out / "times").mkdir(exist_ok=True)
    with reporter.stage("timing", len(cells), done=len(cells) - len(missing)) as advance:
        for cell in missing:
            time_bundle(place.bundle(cell), place.times(cell))
            advance(str(cell))
