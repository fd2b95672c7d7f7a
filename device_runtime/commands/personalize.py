"""``fbkit personalize``."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fbkit.console import Reporter, say_next, show, stdout
from fbkit.device_runtime.commands.signed_by import SignedBy

_FROM_BUNDLE = "the bundle's"


class StepEngine(StrEnum):
    """Who computes a training step."""

    NUMPY = "numpy"
    GRAPH = "graph"


def personalize(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    data: Annotated[Path, typer.Argument(help="Folder with one folder of pictures for each class.")],
    profile: Annotated[Path, typer.Option(help="Profile folder that keeps the result; made if there is none.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Passes over the pictures.", show_default=_FROM_BUNDLE)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=1e-9, max=1e3, help="Learning rate.", show_default=_FROM_BUNDLE)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Pictures a step.", show_default=_FROM_BUNDLE)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of pictures.")] = 0,
    step: Annotated[StepEngine, typer.Option(help="numpy, or the bundle's own step graph.")] = StepEngine.NUMPY,
    signed_by: SignedBy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fine-tune the bundle's head on local pictures and keep it in a profile."""
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.personalizer import Personalizer
    from fbkit.device_runtime.solvers.sgd import default_schedule, numpy_step

    opened = Bundle.open(bundle, signed_by=signed_by)
    given: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    given = {name: value for name, value in given.items() if value is not None}
    schedule = replace(default_schedule(opened.manifest.personalization), seed=seed, **given)
    with Reporter(quiet=as_json) as reporter:
        result = Personalizer(opened, profile, reporter).fit(
            data, schedule, opened.graph_step if step is StepEngine.GRAPH else numpy_step
        )

    def for_people() -> None:
        count = sum(result.pictures.values())
        stdout.print(f"{count} pictures in {len(result.pictures)} classes; the body ran on {result.computed} new ones")
        stdout.print(f"loss on these pictures: {result.loss_before:.3f} -> {result.loss_after:.3f}")
        stdout.print("seconds: " + ", ".join(f"{name} {value:.3f}" for name, value in result.seconds.items()))
        stdout.print(f"personal head {result.head} is in use in {profile}")
        say_next("evaluate", bundle, "OTHER_PICTURES", "--profile", profile)

    show(asdict(result), as_json, for_people)
