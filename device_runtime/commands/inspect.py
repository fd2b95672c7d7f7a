"""``fbkit inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbkit.console import show, stdout

if TYPE_CHECKING:
    from fbkit.device_runtime.manifest import Manifest


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what is in a bundle, as its manifest says; nothing is loaded or verified."""
    from fbkit.device_runtime.manifest import read_manifest

    manifest = read_manifest(bundle)
    show({**manifest.to_json(), "identity": manifest.identity}, as_json, lambda: _print(bundle, manifest))


def _print(folder: Path, manifest: Manifest) -> None:
    spec = manifest.input
    stdout.print(f"{folder}: {manifest.target} bundle, {manifest.precision}, format version {manifest.version}")
    stdout.print(f"input: {spec.channels} x {spec.height} x {spec.width}, mean {spec.mean}, std {spec.std}")
    batches = ", ".join(map(str, manifest.body_batches)) or "any"
    stdout.print(f"body: {manifest.features} features, batch sizes {batches}")
    stdout.print(f"head: {len(manifest.classes)} classes: {', '.join(manifest.classes)}", emoji=False)
    spare = manifest.step_classes - len(manifest.classes)
    stdout.print(f"head's step: batches of {manifest.step_batch}, {manifest.step_classes} classes ({spare} spare)")
    total = sum(entry.bytes for entry in manifest.files.values())
    files = {name: f"{entry.bytes:,} bytes, SHA-256 {entry.sha256[:16]}" for name, entry in manifest.files.items()}
    for title, values in (
        (f"files ({total:,} bytes)", files),
        ("body's graph", manifest.graph),
        ("personalization, unless told otherwise", asdict(manifest.personalization)),
        ("verified at export", manifest.verification),
        ("provenance", manifest.provenance),
    ):
        _print_table(title, values)


def _print_table(title: str, values: dict[str, Any]) -> None:
    """A line for each value, below its title."""
    rows = list(_rows(values))
    if not rows:
        return
    stdout.print(f"{title}:")
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        stdout.print(f"  {key:<{width}}  {value}", emoji=False)


def _rows(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Every single value with the keys that lead to it; as JSON, so that nothing of it acts on a terminal."""
    for key, value in values.items():
        name = before + json.dumps(key)[1:-1]
        if isinstance(value, dict) and value:
            yield from _rows(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            yield from ((f"{name}.{place}", json.dumps(item)) for place, item in enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
            yield name, f"{value:,}"
        else:
            yield name, json.dumps(value)[1:-1] if isinstance(value, str) and value else json.dumps(value)
