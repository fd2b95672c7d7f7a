"""``fbkit export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbkit.console import Reporter, say_next, stdout
from fbkit.errors import UserError, require

if TYPE_CHECKING:
    from fbkit.device_runtime.bundle import Bundle


class TargetName(StrEnum):
    """What the bundle runs on."""

    ONNX = "onnx"
    EXECUTORCH = "executorch"


class PrecisionName(StrEnum):
    """Arithmetic of the body."""

    FP32 = "fp32"
    INT8 = "int8"


_OWN = "Your own model"


def export(
    target: Annotated[TargetName, typer.Option(help="What the bundle will run on.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    run: Annotated[Path | None, typer.Argument(help="Run folder of a finished training; or else give --model.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the run's pictures are now, if not where they were in training.")
    ] = None,
    precision: Annotated[PrecisionName, typer.Option(help="Arithmetic of the body.")] = PrecisionName.FP32,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of real pictures, to see what values occur; default: training clients' ones."),
    ] = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A module of the body to keep in fp32 with int8; repeatable."),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Write an int8 body that costs more than half a point, too.")
    ] = False,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Body and head in one file, too, for devices that only predict.")
    ] = False,
    with_training_module: Annotated[
        bool, typer.Option("--with-training-module", help="The head for ExecuTorch's own training API, too.")
    ] = False,
    spare_classes: Annotated[
        int | None, typer.Option(min=0, help="Room in the step graph for classes that a device adds; default: 10.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="my_pkg.nets:Net, or a model that fbkit knows.", rich_help_panel=_OWN)
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Its state dict: .safetensors, .pt or .pth.", rich_help_panel=_OWN)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file with the classes' names, one a line.", rich_help_panel=_OWN)
    ] = None,
    size: Annotated[
        str | None, typer.Option("--input", help="Size of a picture, as in 3x96x96.", rich_help_panel=_OWN)
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Of each channel, of values in 0..1.", rich_help_panel=_OWN)] = None,
    std: Annotated[str | None, typer.Option(help="Of each channel, of values in 0..1.", rich_help_panel=_OWN)] = None,
    head: Annotated[
        str | None, typer.Option(help="Linear layer to cut before; default: the last one.", rich_help_panel=_OWN)
    ] = None,
) -> None:
    """Split a finished run, or your own model, into a frozen body and a trainable head, and verify what was written."""
    own = {"--weights": weights, "--classes": classes, "--input": size, "--mean": mean, "--std": std}
    _refuse_mixture(run, model, {**own, "--calibrate": calibrate}, {**own, "--head": head}, data_root)
    require("torch", "export")
    require("pydantic", "export")
    require("onnx", "export")
    from fbkit.export.arguments import parse_input, read_classes
    from fbkit.export.exporting import Options, export_model, export_run
    from fbkit.export.own_model import OwnModel
    from fbkit.export.target import SPARE_CLASSES

    options = Options(
        precision=precision,
        keep_float=tuple(keep_float or ()),
        spare_classes=SPARE_CLASSES if spare_classes is None else spare_classes,
        with_model=with_model,
        with_training_module=with_training_module,
        accept_loss=accept_loss,
    )
    with Reporter() as reporter, reporter.stage(f"exporting to {target}", 1) as advance:
        if run:
            bundle = export_run(run, target, out, options, data_root=data_root, calibrate=calibrate)
        else:
            assert model and weights and classes and size and mean and std and calibrate  # noqa: S101  refused above
            spec = parse_input(size, mean, std)
            own_model = OwnModel(model, weights, read_classes(classes), spec, calibrate, head or "")
            bundle = export_model(own_model, target, out, options)
        advance("")
    _say(bundle)
    say_next("personalize", out, "PICTURES", "--profile", "PROFILE")


def _refuse_mixture(
    run: Path | None, model: str | None, needed: dict[str, Any], only_own: dict[str, Any], data_root: Path | None
) -> None:
    """Raise UserError where it is not said what to export, or options for a run and for a model are mixed."""
    if run and model:
        raise UserError("give a RUN folder or --model, not both")
    if not run and not model:
        raise UserError("what to export? give a RUN folder, or --model for a model that fbkit did not train")
    if run and (given := [option for option, value in only_own.items() if value is not None]):
        raise UserError(f"{', '.join(given)}: only for --model; a run knows these itself")
    if model and data_root:
        raise UserError("--data-root: only for a RUN; give a model's pictures with --calibrate")
    if model and (missing := [option for option, value in needed.items() if value is None]):
        raise UserError(f"--model {model} needs {', '.join(missing)}, too")


def _say(bundle: Bundle) -> None:
    """What was written and what was found."""
    manifest = bundle.manifest
    found = manifest.verification
    sizes = ", ".join(f"{name} {entry.bytes:,} bytes" for name, entry in manifest.files.items())
    stdout.print(f"bundle: {bundle.folder} ({sizes})")
    stdout.print(
        f"against torch on {found['pictures']} pictures: features differ by {found['feature_error']:.1e} "
        f"of the largest, logits by {found['logit_error']:.1e}, predictions agree on {found['agreement']:.1f}%",
    )
    if "bundle_accuracy" in found:
        stdout.print(f"accuracy: torch {found['torch_accuracy']:.1f}%, bundle {found['bundle_accuracy']:.1f}%")
