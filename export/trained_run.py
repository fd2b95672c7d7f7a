"""A finished run of fbkit's, as something to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbkit.device_runtime.manifest import Defaults, InputSpec
from fbkit.errors import UserError
from fbkit.export.defaults import Chosen, choose_defaults
from fbkit.export.exportable import Exportable
from fbkit.export.real_pictures import (
    CALIBRATION_PICTURES,
    LEAST_CALIBRATION,
    VERIFIED_PICTURES,
    RealPictures,
    choose,
    choose_halves,
    list_folder,
    refuse_too_few,
)
from fbkit.files import sha256_file
from fbkit.train.data import Dataset, Pictures
from fbkit.train.partition import partition
from fbkit.train.recipe import NO_COMMON_BODY
from fbkit.train.run_folder import Run, open_run
from fbkit.train.sources import load_dataset


def exportable_run(
    folder: Path, precision: str, dataset: Dataset | None, data_root: Path | None, calibrate: Path | None
) -> Exportable:
    """The run's model, with its test pictures to verify and, for int8, training clients' pictures to calibrate.

    Args:
        dataset: the data set of a run that was given its data in Python.
        data_root: where the run's pictures are now, if not where they were in training.
        calibrate: a folder of pictures to calibrate with instead.

    Raises:
        UserError: the run is not finished, has no body that all share or that takes one picture at a time, its
            pictures cannot be had, or there are too few of them.
    """
    run = open_run(folder)
    model = run.load_model()
    _refuse_unexportable(run)
    data = _load(run, dataset, data_root)
    spec = _input_spec(run)
    calibration, verification = _real_pictures(run, data, precision, calibrate, spec)

    def defaults() -> Chosen:
        if _is_made_up(run, data):
            return Chosen(Defaults(), {"measured": False, "why": "the run's clients kept their pictures"})
        return choose_defaults(run, model, data)

    return Exportable(
        origin=f"{folder}: {run.recipe.model.name}",
        model=model,
        classes=run.classes,
        spec=spec,
        calibration=calibration,
        verification=verification,
        provenance=_provenance(run),
        choose_defaults=defaults,
    )


def _refuse_unexportable(run: Run) -> None:
    algorithm = run.recipe.training.algorithm
    if algorithm in NO_COMMON_BODY:
        raise UserError(
            f"{run.folder}: with {algorithm} every client has its own body; there is no common one to export"
        )
    if run.recipe.data.fit == "pad":
        raise UserError(
            f"{run.folder}: was trained on pictures padded to size (data.fit = 'pad'), but a device fills the size; "
            "train with data.fit = 'resize'"
        )
    if not run.has_statistics:
        raise UserError(
            f"{run.folder}: has no static statistics, so its body cannot take one picture at a time; "
            "train with training.calibrate = true"
        )


def _load(run: Run, dataset: Dataset | None, data_root: Path | None) -> Dataset:
    data = run.recipe.data.model_copy(update={"root": str(data_root)}) if data_root else run.recipe.data
    dataset = dataset or load_dataset(data, run.recipe.seed)
    if dataset.fingerprint != run.description.data_fingerprint:
        raise UserError(f"{run.folder}: was trained on other pictures than {run.recipe.data.source} holds now")
    return dataset


def _input_spec(run: Run) -> InputSpec:
    size = run.description.input
    return InputSpec(size.channels, size.height, size.width, tuple(size.mean), tuple(size.std))


def _real_pictures(
    run: Run, data: Dataset, precision: str, calibrate: Path | None, spec: InputSpec
) -> tuple[RealPictures | None, RealPictures]:
    """Pictures to calibrate with (None for fp32) and to verify with."""
    made_up = _is_made_up(run, data)
    test = _taken(data.test, torch.from_numpy(choose(len(data.test), VERIFIED_PICTURES)), labelled=not made_up)
    if precision == "fp32":
        return None, test
    if calibrate is None:
        if made_up:
            raise UserError(
                f"{run.folder}: its clients kept their pictures, so int8 has none to see what values occur; "
                "give some with --calibrate FOLDER"
            )
        clients = partition(data, run.recipe.clients, run.recipe.seed)
        rows = torch.unique(torch.cat([clients.train[client] for client in clients.training]))
        refuse_too_few(len(rows), LEAST_CALIBRATION, str(run.folder))
        return _taken(data.train, rows[choose(len(rows), CALIBRATION_PICTURES)], labelled=True), test
    pictures = list_folder(calibrate, run.classes)
    if made_up:
        refuse_too_few(len(pictures), 2 * LEAST_CALIBRATION, f"--calibrate {calibrate}")
        first, second = choose_halves(len(pictures))
        return pictures.decode(first, spec), pictures.decode(second, spec)
    refuse_too_few(len(pictures), LEAST_CALIBRATION, f"--calibrate {calibrate}")
    return pictures.decode(choose(len(pictures), CALIBRATION_PICTURES), spec), test


def _is_made_up(run: Run, data: Dataset) -> bool:
    """Whether the run was federated over Flower: its folder holds noise of another number of clients."""
    return data.owners is not None and len(data.owners.train) != run.description.clients


def _taken(pictures: Pictures, rows: Tensor, labelled: bool) -> RealPictures:
    images = pictures.images[rows].permute(0, 2, 3, 1).numpy()
    return RealPictures(np.ascontiguousarray(images), pictures.labels[rows].numpy() if labelled else None)


def _provenance(run: Run) -> dict[str, Any]:
    return {
        "recipe": _without_paths(run.recipe.model_dump(mode="json")),
        "seed": run.recipe.seed,
        "data_fingerprint": run.description.data_fingerprint,
        "body_sha256": sha256_file(run.folder / "body.safetensors"),
        "initial_accuracy": _initial_accuracy(run),
    }


def _without_paths(recipe: dict[str, Any]) -> dict[str, Any]:
    """A bundle goes to strangers: file names may, the folders they lie in may not."""
    recipe["data"]["root"] = Path(recipe["data"]["root"]).name
    recipe["model"]["init"] = Path(recipe["model"]["init"]).name
    return recipe


def _initial_accuracy(run: Run) -> float | None:
    """Of the exported model; None where clients were judged with parts of their own."""
    evaluation = run.evaluation
    figures = evaluation.initial.static or evaluation.initial.batch
    return figures.mean if figures and evaluation.own_part == "none" else None
