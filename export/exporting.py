"""From a model to a verified bundle folder: fold, lower, write, open, compare with torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fbkit.device_runtime.body import normalise, open_body
from fbkit.device_runtime.bundle import Bundle, read_contents
from fbkit.device_runtime.checking import check_opened
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import FILE_NAME, MAX_CLASSES, PRECISIONS, VERSION, FileEntry, Manifest
from fbkit.device_runtime.tensors import Float
from fbkit.errors import UserError, describe
from fbkit.export.capture import NoGraphError
from fbkit.export.exportable import Exportable
from fbkit.export.folding import fold_body
from fbkit.export.own_model import OwnModel, exportable_model
from fbkit.export.probe import make_probe
from fbkit.export.provenance import export_provenance
from fbkit.export.quiet import quiet_exporters
from fbkit.export.target import SPARE_CLASSES, STEP_BATCH, Lowered, Request, Target, find_target
from fbkit.export.trained_run import exportable_run
from fbkit.export.training_module import lower_training_module
from fbkit.export.verification import verify
from fbkit.files import refuse_existing, sha256_bytes, whole_folder, write_atomic, write_json
from fbkit.train.data import Dataset

# Of the largest feature or logit. fp32: the same arithmetic in another order stays far below, a wrong graph far above.
# int8: a value on the edge between two steps may go to the other one, and the steps are 1/255 of what a layer gives.
TOLERANCE = {"fp32": 1e-4, "int8": 0.05}


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        precision: of the body: ``fp32`` or ``int8``.
        keep_float: names of the body's modules that stay fp32 in an int8 body.
        spare_classes: rows of the step graph beyond the model's classes, for classes that a device adds.
        with_model: whether to write body and head in one file, too, for devices that only predict.
        with_training_module: whether to write the head for ExecuTorch's own training API, too.
        accept_loss: whether an int8 body may cost more than half a point of accuracy.
    """

    precision: str = "fp32"
    keep_float: tuple[str, ...] = ()
    spare_classes: int = SPARE_CLASSES
    with_model: bool = False
    with_training_module: bool = False
    accept_loss: bool = False


def export_run(
    run_folder: Path,
    target: str,
    out: Path,
    options: Options = Options(),
    *,
    dataset: Dataset | None = None,
    data_root: Path | None = None,
    calibrate: Path | None = None,
) -> Bundle:
    """Export a finished run as a bundle, verify what was written, and open it.

    Args:
        run_folder: what ``fbkit train`` wrote.
        target: ``onnx`` or ``executorch``.
        out: the bundle folder to make; it appears whole or not at all.
        dataset: the data set of a run that was given its data in Python.
        data_root: where the run's pictures are now, if not where they were in training.
        calibrate: a folder of pictures from which int8 takes its ranges, instead of training clients' ones.

    Raises:
        UserError: the run is not finished or has no body that all share, an option makes no sense, ``out`` exists, a
            package is missing, or the bundle is not close enough to torch on test pictures (``verification``).
    """
    lowering = _prepare(target, out, options)
    if calibrate and options.precision == "fp32":
        raise UserError("--calibrate is for --precision int8: a run's fp32 body needs no pictures to see what occurs")
    exportable = exportable_run(run_folder, options.precision, dataset, data_root, calibrate)
    return _export(exportable, target, lowering, out, options)


def export_model(own: OwnModel, target: str, out: Path, options: Options = Options()) -> Bundle:
    """Export a model that fbkit never trained. See ``export_run``.

    Raises:
        UserError: the model, its weights or the pictures cannot be used, and as with ``export_run``.
    """
    lowering = _prepare(target, out, options)
    return _export(exportable_model(own, options.precision), target, lowering, out, options)


def _prepare(target: str, out: Path, options: Options) -> Target:
    """Refuse what needs no model to be refused, and find the target."""
    refuse_existing(out)
    if options.precision not in PRECISIONS:
        raise UserError(f"--precision {options.precision}: known are {' and '.join(PRECISIONS)}")
    for option, given in (("--keep-float", options.keep_float), ("--accept-loss", options.accept_loss)):
        if given and options.precision == "fp32":
            raise UserError(f"{option} is for --precision int8; in fp32 nothing is rounded")
    if options.with_training_module and target != "executorch":
        raise UserError(f"--with-training-module is for --target executorch; on {target} the head learns by head_step")
    with quiet_exporters():  # some comment on their own import
        return find_target(target)


def _export(exportable: Exportable, target: str, lowering: Target, out: Path, options: Options) -> Bundle:
    step_classes = len(exportable.classes) + options.spare_classes
    if not len(exportable.classes) <= step_classes <= MAX_CLASSES:
        raise UserError(
            f"--spare-classes {options.spare_classes}: with the model's {len(exportable.classes)} classes it must come "
            f"to at most {MAX_CLASSES:,}, and it cannot be negative"
        )
    provenance = export_provenance(exportable, target, options.precision, options.keep_float)
    lowered = _lower(exportable, target, lowering, options, step_classes)
    layer = exportable.model.head
    head = Head(layer.weight.detach().numpy(), layer.bias.detach().numpy())
    contents = {
        f"body.{lowered.suffix}": lowered.body,
        "head.safetensors": head.to_bytes(),
        f"head_step.{lowered.suffix}": lowered.step,
    }
    if lowered.model is not None:
        contents[f"model.{lowered.suffix}"] = lowered.model
    if options.with_training_module:
        with quiet_exporters():
            contents["training.pte"] = lower_training_module(layer, STEP_BATCH)
    manifest = Manifest(
        version=VERSION,
        target=target,
        precision=options.precision,
        classes=exportable.classes,
        input=exportable.spec,
        features=layer.in_features,
        body=f"body.{lowered.suffix}",
        body_batches=lowered.body_batches,
        head="head.safetensors",
        head_step=f"head_step.{lowered.suffix}",
        step_batch=STEP_BATCH,
        step_classes=step_classes,
        probe="probe.safetensors",
        feature_tolerance=TOLERANCE[options.precision],
        files={},
        provenance=provenance,
        verification={},
        graph=lowered.graph,
        model=f"model.{lowered.suffix}" if lowered.model is not None else None,
        training_module="training.pte" if options.with_training_module else None,
    )
    contents[manifest.probe] = _probe(exportable, manifest, lowered.body, head)
    manifest = replace(
        manifest, files={name: FileEntry(len(data), sha256_bytes(data)) for name, data in contents.items()}
    )
    with whole_folder(out) as folder:
        for name, data in contents.items():
            write_atomic(folder / name, data)
        write_json(folder / FILE_NAME, manifest.to_json())
        try:
            bundle = _verify(folder, exportable, options)
        except UserError as error:  # the folder has another name by now
            raise UserError(str(error).replace(str(folder), str(out))) from error
    return replace(bundle, folder=out)


def _lower(exportable: Exportable, target: str, lowering: Target, options: Options, step_classes: int) -> Lowered:
    spec, calibration = exportable.spec, exportable.calibration
    request = Request(
        body=fold_body(exportable.model.body),
        head=exportable.model.head,
        shape=(spec.channels, spec.height, spec.width),
        step_classes=step_classes,
        precision=options.precision,
        calibration=None if calibration is None else torch.from_numpy(normalise(calibration.pictures, spec)),
        keep_float=options.keep_float,
        with_model=options.with_model,
    )
    try:
        with quiet_exporters():
            return lowering.lower(request)
    except UserError:
        raise
    except NoGraphError as error:
        raise UserError(f"{exportable.origin} cannot be lowered to {target}: {error}") from error
    except Exception as error:  # exporters have many ways to say no
        raise UserError(f"{exportable.origin} cannot be lowered to {target} ({describe(error)})") from error


def _probe(exportable: Exportable, manifest: Manifest, body: bytes, head: Head) -> bytes:
    """What a device must compute: torch's values, or an int8 body's own, which no fp32 arithmetic reproduces."""
    if manifest.precision == "fp32":

        def features_of(inputs: Float) -> Float:
            with torch.inference_mode():
                features: Float = exportable.model.body(torch.from_numpy(inputs)).numpy()
            return features

        return make_probe(exportable.spec, head, features_of)
    return make_probe(exportable.spec, head, open_body(manifest, body, None).features)


def _verify(folder: Path, exportable: Exportable, options: Options) -> Bundle:
    """Compare what was written with torch, add to the manifest what was found, and open it as a device does."""
    bundle = read_contents(folder).load()
    found = verify(bundle, exportable, options.accept_loss)
    self_test = check_opened(bundle).errors
    chosen = exportable.choose_defaults()
    verification = {
        **found.to_json(),
        "self_test": self_test,
        "body_bytes": bundle.manifest.files[bundle.manifest.body].bytes,
        "fp32_weight_bytes": 4 * sum(values.numel() for values in exportable.model.body.parameters()),
        "personalization": chosen.report,
    }
    manifest = replace(bundle.manifest, verification=verification, personalization=chosen.defaults)
    write_json(folder / FILE_NAME, manifest.to_json())
    return Bundle.open(folder)
