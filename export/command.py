"""``fbkit export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, say_next, stdout
from fbkit.errors import require


class TargetName(StrEnum):
    """What the bundle runs on."""

    ONNX = "onnx"
    EXECUTORCH = "executorch"


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    target: Annotated[TargetName, typer.Option(help="What the bundle will run on.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    data_root: Annotated[
        Path | None, typer.Option(help="Where the run's pictures are now, if not where they were in training.")
    ] = None,
) -> None:
    """Split a finished run into a frozen body and a trainable head, and verify what was written."""
    require("torch", "export")
    require("pydantic", "export")
    require("onnx", "export")
    from fbkit.export.exporting import export_run

    with Reporter() as reporter, reporter.stage(f"exporting to {target}", 1) as advance:
        bundle = export_run(run, target, out, data_root=data_root)
        advance("")
    found = bundle.manifest.verification
    sizes = ", ".join(f"{name} {entry.bytes:,} bytes" for name, entry in bundle.manifest.files.items())
    stdout.print(f"bundle: {out} ({sizes})")
    stdout.print(
        f"against torch on {found['pictures']} pictures: features differ by {found['feature_error']:.1e} "
        f"of the largest, logits by {found['logit_error']:.1e}, predictions agree on {found['agreement']:.1f}%",
    )
    say_next("personalize", out, "PICTURES", "--profile", "PROFILE")
