"""``fbkit personalize``."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbkit.console import Reporter, say_next, show, stdout
from fbkit.device_runtime.commands.options import AsJson, BundleFolder, SignedBy, Threads
from fbkit.errors import UserError

if TYPE_CHECKING:
    from fbkit.device_runtime.fitting import Recipe
    from fbkit.device_runtime.manifest import Defaults

_FROM_BUNDLE = "the bundle's"


class SolverName(StrEnum):
    EXACT = "exact"
    SGD = "sgd"


class AbsentName(StrEnum):
    KEEP = "keep"
    MASK = "mask"


class StepEngine(StrEnum):
    """Who computes a step of SGD."""

    NUMPY = "numpy"
    GRAPH = "graph"


def personalize(
    bundle: BundleFolder,
    data: Annotated[Path, typer.Argument(help="Folder with one folder of pictures for each class.")],
    profile: Annotated[Path, typer.Option(help="Profile folder that keeps the result; made if there is none.")],
    solver: Annotated[SolverName, typer.Option(help="exact: to the minimum; sgd: so many epochs.")] = SolverName.EXACT,
    penalty: Annotated[
        float | None, typer.Option(min=0, max=1e30, help="Pull to the shipped head.", show_default=_FROM_BUNDLE)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="sgd: passes over the pictures.", show_default=_FROM_BUNDLE)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=1e-9, max=1e3, help="sgd: learning rate.", show_default=_FROM_BUNDLE)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="sgd: pictures a step.", show_default=_FROM_BUNDLE)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="sgd: of the order of pictures.", show_default="0")
    ] = None,
    step: Annotated[StepEngine, typer.Option(help="sgd: numpy, or the bundle's own step graph.")] = StepEngine.NUMPY,
    absent: Annotated[
        AbsentName, typer.Option(help="Classes without pictures: predicted all the same, or left out.")
    ] = AbsentName.KEEP,
    add_classes: Annotated[bool, typer.Option(help="Take folders of other names for new classes.")] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Time for solving and judging.", show_default="no limit")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Change nothing; tell what would be.")] = False,
    threads: Threads = None,
    signed_by: SignedBy = None,
    as_json: AsJson = False,
) -> None:
    """Fit the bundle's head to local pictures and keep it in a profile."""
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.personalizer import Personalizer
    from fbkit.device_runtime.solvers.sgd import numpy_step

    of_sgd = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    given = {name: value for name, value in of_sgd.items() if value is not None}
    if solver is SolverName.EXACT and (given or step is StepEngine.GRAPH):
        name = next(iter(given), "step").replace("_", "-")
        raise UserError(f"--{name} is for --solver sgd; exact has nothing to choose but --penalty")
    opened = Bundle.open(bundle, threads, signed_by)
    recipe = _recipe(opened.manifest.personalization, solver, absent, penalty, given)
    with Reporter(quiet=as_json) as reporter:
        result = Personalizer(opened, profile, reporter).fit(
            data,
            recipe,
            step=opened.graph_step if step is StepEngine.GRAPH else numpy_step,
            seconds=seconds,
            new_classes=add_classes,
            dry_run=dry_run,
        )

    def for_people() -> None:
        count = sum(result.pictures.values())
        stdout.print(f"{count} pictures in {len(result.pictures)} classes; the body ran on {result.computed} new ones")
        stdout.print(f"loss on these pictures: {result.loss_before:.3f} -> {result.loss_after:.3f}")
        if result.verdict.losses:
            judged = ", ".join(f"{name} {value:.3f}" for name, value in result.verdict.losses.items())
            stdout.print(f"loss on pictures not fitted on: {judged}")
            right = ", ".join(f"{name} {value:.1f}%" for name, value in result.verdict.correct.items())
            stdout.print(f"right on pictures not fitted on: {right}")
        stdout.print("seconds: " + ", ".join(f"{name} {value:.3f}" for name, value in result.seconds.items()))
        stdout.print(result.verdict.reason)
        if dry_run:
            stdout.print("nothing was changed")
            return
        stdout.print(f"{f'personal head {result.head}' if result.head else 'the shipped head'} is in use in {profile}")
        say_next("evaluate", bundle, "OTHER_PICTURES", "--profile", profile)

    show(asdict(result), as_json, for_people)


def _recipe(
    defaults: Defaults, solver: SolverName, absent: AbsentName, penalty: float | None, of_sgd: dict[str, Any]
) -> Recipe:
    from fbkit.device_runtime.fitting import default_recipe

    recipe = replace(default_recipe(defaults, solver.value), absent=absent.value)
    strength = recipe.penalty if penalty is None else penalty
    if recipe.schedule is None:
        if strength <= 0:
            raise UserError("--penalty 0: must be above 0 for --solver exact, or there is no one minimum")
        return replace(recipe, penalty=strength)
    return replace(recipe, penalty=strength, schedule=replace(recipe.schedule, penalty=strength, **of_sgd))
