"""``fbkit deploy``."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, say_next, show, stdout
from fbkit.device_runtime.commands.options import AsJson, BundleFolder, SignedBy, To


class RuntimeName(StrEnum):
    AUTO = "auto"
    PYTHON = "python"
    NATIVE = "native"


def deploy(
    bundle: BundleFolder,
    to: To,
    runtime: Annotated[
        RuntimeName, typer.Option(help="What runs it there; auto: Python where it can, else the native runner.")
    ] = RuntimeName.AUTO,
    native: Annotated[
        Path | None, typer.Option(help="Folder that make native made for the device's processor.")
    ] = None,
    signed_by: SignedBy = None,
    as_json: AsJson = False,
) -> None:
    """Bring a bundle and what runs it onto a device, over ssh or adb, and check it there."""
    from fbkit.device_runtime.remote.deploying import deploy as bring
    from fbkit.device_runtime.remote.deploying import open_link

    with Reporter(quiet=as_json) as reporter, open_link(to) as link:
        result = bring(bundle, link, runtime.value, native, reporter.line, signed_by)

    def for_people() -> None:
        shipped = result.shipped
        stdout.print(f"{bundle}: good on {to} ({result.device})")
        stdout.print(f"it runs there on {result.check['runtime']}, in {result.bundle}")
        stdout.print(f"{shipped.files} files: {shipped.sent:,} bytes sent, {shipped.held:,} bytes were there")
        stdout.print("seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items()))
        say_next("remote", "personalize", bundle, "PICTURES", "--profile", "me", "--to", to)

    show(asdict(result), as_json, for_people)
