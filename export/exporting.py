"""A run folder in, a verified bundle folder out."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fbkit
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import FILE_NAME, FileEntry, InputSpec, Manifest
from fbkit.device_runtime.tensors import Bytes, Labels, pack_tensors
from fbkit.errors import UserError
from fbkit.export.folding import fold_body
from fbkit.export.probe import probe_inputs
from fbkit.export.quiet import quiet_exporters
from fbkit.export.target import STEP_BATCH, find_target
from fbkit.export.verification import verify
from fbkit.files import refuse_existing, sha256_bytes, sha256_file, whole_folder, write_atomic, write_json
from fbkit.train.data import Dataset
from fbkit.train.models import SplitModel
from fbkit.train.recipe import NO_COMMON_BODY
from fbkit.train.run_folder import Run, open_run
from fbkit.train.sources import load_dataset

# Of the largest feature or logit: the same arithmetic in another order stays far below it, a wrong graph far above.
TOLERANCE = 1e-4
VERIFIED_PICTURES = 1000


def export_run(
    run_folder: Path, target: str, out: Path, dataset: Dataset | None = None, data_root: Path | None = None
) -> Bundle:
    """Export a finished run as a bundle, verify what was written, and open it.

    Args:
        run_folder: what ``fbkit train`` wrote.
        target: ``onnx`` or ``executorch``.
        out: the bundle folder to make; it appears whole or not at all.
        dataset: the data set of a run that was given its data in Python.
        data_root: where the run's pictures are now, if not where they were in training.

    Raises:
        UserError: the run is not finished or has no body that all share, ``out`` exists, a package is missing, or the
            bundle differs from torch by more than ``TOLERANCE`` of the largest feature on ``VERIFIED_PICTURES`` test
            pictures.
    """
    refuse_existing(out)
    run = open_run(run_folder)
    model = run.load_model()
    _refuse_unexportable(run)
    classes = run.classes
    chosen = find_target(target)
    try:
        with quiet_exporters():
            lowered = chosen.lower(fold_body(model.body), run.shape, model.head.in_features, len(classes))
    except UserError:
        raise
    except Exception as error:  # exporters have many ways to say no
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{run_folder}: {run.recipe.model.name} cannot be lowered to {target} ({type(error).__name__}: {reason})"
        ) from error
    spec = _input_spec(run)
    names = {
        "body": f"body.{lowered.suffix}",
        "head": "head.safetensors",
        "head_step": f"head_step.{lowered.suffix}",
        "probe": "probe.safetensors",
    }
    contents = {
        names["body"]: lowered.body,
        names["head"]: Head(model.head.weight.detach().numpy(), model.head.bias.detach().numpy()).to_bytes(),
        names["head_step"]: lowered.step,
        names["probe"]: _probe(model, spec),
    }
    manifest = Manifest(
        target=target,
        precision="fp32",
        classes=classes,
        input=spec,
        features=model.head.in_features,
        body_batches=lowered.body_batches,
        step_batch=STEP_BATCH,
        feature_tolerance=TOLERANCE,
        files={name: FileEntry(len(data), sha256_bytes(data)) for name, data in contents.items()},
        provenance=_provenance(run, target),
        verification={},
        **names,
    )
    with whole_folder(out) as folder:
        for name, data in contents.items():
            write_atomic(folder / name, data)
        write_json(folder / FILE_NAME, manifest.to_json())
        pictures, labels = _real_pictures(run, dataset, data_root)
        verification = verify(Bundle.open(folder), model, pictures, labels)
        write_json(folder / FILE_NAME, replace(manifest, verification=asdict(verification)).to_json())
    return Bundle.open(out)


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


def _input_spec(run: Run) -> InputSpec:
    size = run.description.input
    return InputSpec(size.channels, size.height, size.width, tuple(size.mean), tuple(size.std))


def _probe(model: SplitModel, spec: InputSpec) -> bytes:
    pictures, inputs = probe_inputs(spec)
    with torch.inference_mode():
        features = model.body(torch.from_numpy(inputs))
        logits = model.head(features)
    return pack_tensors(
        {"pictures": pictures, "inputs": inputs, "features": features.numpy(), "logits": logits.numpy()}
    )


def _provenance(run: Run, target: str) -> dict[str, Any]:
    return {
        "fbkit": fbkit.__version__,
        "exported_with": {name: importlib.metadata.version(name) for name in ("torch", target)},
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


def _real_pictures(run: Run, dataset: Dataset | None, data_root: Path | None) -> tuple[Bytes, Labels]:
    """The first test pictures of the run's data."""
    data = run.recipe.data.model_copy(update={"root": str(data_root)}) if data_root else run.recipe.data
    dataset = dataset or load_dataset(data, run.recipe.seed)
    if dataset.fingerprint != run.description.data_fingerprint:
        raise UserError(f"{run.folder}: was trained on other pictures than {run.recipe.data.source} holds now")
    test = dataset.test
    pictures = test.images[:VERIFIED_PICTURES].permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(pictures), test.labels[:VERIFIED_PICTURES].numpy()
