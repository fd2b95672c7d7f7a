"""``fbkit inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import show, stdout


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what is in a bundle, as its manifest says; nothing is loaded or verified."""
    from rich.table import Table

    from fbkit.device_runtime.manifest import read_manifest

    manifest = read_manifest(bundle)

    def for_people() -> None:
        spec = manifest.input
        stdout.print(f"{bundle}: {manifest.target} bundle, {manifest.precision}")
        stdout.print(f"input: {spec.channels} x {spec.height} x {spec.width}, mean {spec.mean}, std {spec.std}")
        batches = ", ".join(map(str, manifest.body_batches)) or "any"
        stdout.print(f"body: {manifest.features} features, batch sizes {batches}")
        stdout.print(f"head: {len(manifest.classes)} classes: {', '.join(manifest.classes)}")
        table = Table("file", "bytes", "SHA-256")
        for name, entry in manifest.files.items():
            table.add_row(name, f"{entry.bytes:,}", entry.sha256[:16])
        stdout.print(table, soft_wrap=False)
        for title, values in (("provenance", manifest.provenance), ("verified at export", manifest.verification)):
            stdout.print(f"{title}:")
            for key, value in values.items():
                stdout.print(
                    f"  {json.dumps(key)[1:-1]}: {json.dumps(value)}"
                )  # as JSON: nothing of it acts on a terminal

    show({**manifest.to_json(), "identity": manifest.identity}, as_json, for_people)
