"""``fbkit remote bench``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fbkit.benchmarks.commands.device import Pictures, Turns, print_result
from fbkit.console import Reporter, show
from fbkit.device_runtime.commands.options import AsJson, BundleFolder, SignedBy, To


def remote_bench(
    bundle: BundleFolder,
    pictures: Pictures,
    to: To,
    out: Annotated[Path | None, typer.Option(help="File here for the result, for fbkit bench report.")] = None,
    turns: Turns = 5,
    signed_by: SignedBy = None,
    as_json: AsJson = False,
) -> None:
    """Run fbkit bench device there, and bring the result here. Pictures here are sent there for the time."""
    from fbkit.benchmarks.device.result import device_result_from_json
    from fbkit.device_runtime.remote.deploying import open_link
    from fbkit.device_runtime.remote.running import visiting
    from fbkit.files import parse_json, write_json

    say = Reporter(quiet=as_json).line  # not in a with block: the device may show bars of its own
    with open_link(to) as link, visiting(link, bundle, say, signed_by) as visit:
        there = visit.path(pictures)
        say(f"{link.name}: measuring")
        command = ["bench"] if visit.is_native else ["bench", "device"]
        ended = visit.run([*command, visit.bundle, there, "--turns", str(turns), "--json"])
    if ended.code:
        raise typer.Exit(ended.code)
    origin = f"{link.name}: its answer"
    result = device_result_from_json(parse_json(ended.out, Path(origin)), origin)
    result = replace(result, subject=replace(result.subject, name=bundle.resolve().name))  # there it goes by its digest
    if out is not None:
        write_json(out, result.to_json(), compact=True)
    show(result.to_json(), as_json, lambda: print_result(result))
