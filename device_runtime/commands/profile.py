"""``fbkit profile``: look into a profile, forget, go back."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbkit.console import show, stdout
from fbkit.device_runtime.commands.options import AsJson, BundleFolder, ProfileFolder, SignedBy
from fbkit.errors import UserError

if TYPE_CHECKING:
    from fbkit.device_runtime.personalizer import Personalizer

profile = typer.Typer(help="Look into a profile, forget pictures, take heads back.", no_args_is_help=True)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@profile.command("show")
def show_profile(bundle: BundleFolder, profile: ProfileFolder, as_json: AsJson = False) -> None:
    """What is remembered, which head is in use, and what happened so far."""
    from fbkit.device_runtime.manifest import read_manifest
    from fbkit.device_runtime.profile import find_profile

    found = find_profile(profile, read_manifest(bundle))
    if found is None:
        raise UserError(f"{profile}: no profile there")
    memory, state = found.memory(), found.state
    pictures = [
        {"number": int(number), "class": found.classes[label], "added": float(added)}
        for number, label, added in zip(memory.numbers, memory.labels, memory.times, strict=True)
    ]
    result: dict[str, Any] = {
        "classes": list(found.classes),
        "pictures": pictures,
        "heads": [entry.file for entry in state.heads],
        "in_use": state.in_use,
        "limits": asdict(state.limits),
        "keep_pictures": state.keep_pictures,
        "journal": found.journal(),
    }

    def for_people() -> None:
        for place, name in enumerate(found.classes):
            if count := int((memory.labels == place).sum()):
                stdout.print(f"{count:5d} {name}")
        stdout.print(f"{len(memory):5d} pictures are remembered")
        stdout.print(f"in use: {f'personal head {state.in_use}' if state.in_use else 'the shipped head'}")
        for entry in result["journal"]:
            when = datetime.fromtimestamp(entry["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            stdout.print(f"{when}  {entry['event']}: {_in_words(entry)}")

    show(result, as_json, for_people)


@profile.command()
def remove(
    bundle: BundleFolder,
    profile: ProfileFolder,
    label: Annotated[str | None, typer.Option("--class", help="All pictures of this class.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Pictures added longer ago: 30d, 12h, 45m or 10s; with --class, of that class.")
    ] = None,
    picture: Annotated[list[Path] | None, typer.Option(help="This picture; repeatable.")] = None,
    number: Annotated[list[int] | None, typer.Option(help="The picture of this number; repeatable.")] = None,
    signed_by: SignedBy = None,
    as_json: AsJson = False,
) -> None:
    """Forget pictures and every head fitted with them; fit a new head to what is left."""
    age = None if older_than is None else _seconds(older_than)
    result = _open(bundle, profile, signed_by).remove(label, age, picture or (), number or ())

    def for_people() -> None:
        stdout.print(f"{result.forgotten} pictures are forgotten, {result.left} are left")
        stdout.print(f"in use: {f'personal head {result.head}' if result.head else 'the shipped head'}")

    show(asdict(result), as_json, for_people)


@profile.command()
def rollback(bundle: BundleFolder, profile: ProfileFolder, signed_by: SignedBy = None, as_json: AsJson = False) -> None:
    """Take the head before the present one back into use."""
    head = _open(bundle, profile, signed_by).roll_back()
    show(
        {"head": head},
        as_json,
        lambda: stdout.print(f"in use: {f'personal head {head}' if head else 'the shipped head'}"),
    )


@profile.command()
def limit(
    bundle: BundleFolder,
    profile: ProfileFolder,
    pictures: Annotated[int | None, typer.Option(min=0, help="How many are remembered at most; 0 for any.")] = None,
    megabytes: Annotated[
        float | None, typer.Option(min=0, help="What their features may take at most; 0 for any.")
    ] = None,
    keep_pictures: Annotated[
        bool | None, typer.Option(help="Keep the pictures' files too, for another bundle to look at.")
    ] = None,
    signed_by: SignedBy = None,
) -> None:
    """Bound what a profile remembers. The oldest pictures of the largest classes go first."""
    from fbkit.device_runtime.manifest import read_manifest
    from fbkit.device_runtime.profile import find_profile

    found = find_profile(profile, read_manifest(bundle))
    if found is None:
        raise UserError(f"{profile}: no profile there")
    limits, keep = found.state.limits, found.state.keep_pictures
    if pictures is not None:
        limits = replace(limits, pictures=pictures or None)
    if megabytes is not None:
        limits = replace(limits, bytes=int(megabytes * 1e6) or None)
    _open(bundle, profile, signed_by).set_limits(limits, keep if keep_pictures is None else keep_pictures)


@profile.command("add-class")
def add_class(bundle: BundleFolder, profile: ProfileFolder, name: str, signed_by: SignedBy = None) -> None:
    """Make room for a class that the model never saw."""
    _open(bundle, profile, signed_by).add_class(name)


@profile.command("export-head")
def export_head(
    bundle: BundleFolder,
    profile: ProfileFolder,
    out: Annotated[Path, typer.Option(help="The file to write: safetensors.")],
    signed_by: SignedBy = None,
) -> None:
    """Write the personal head in use as a file of its own."""
    _open(bundle, profile, signed_by).export_head(out)


def _open(bundle: Path, profile: Path, signed_by: Path | None) -> Personalizer:
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.personalizer import Personalizer

    return Personalizer(Bundle.open(bundle, signed_by=signed_by), profile)


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd])", age)
    if not found:
        raise UserError(f"--older-than {age}: write it as 30d, 12h, 45m or 10s")
    return float(found[1]) * _UNITS[found[2]]


def _in_words(entry: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in entry.items() if key not in ("time", "event"))
