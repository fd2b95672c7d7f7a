"""``fbkit train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, say_next, speaks_for_all, stdout
from fbkit.errors import require


def train(
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    recipe: Annotated[
        Path | None, typer.Argument(help="TOML recipe; without one, the recipe that fbkit ships.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; repeatable.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a GPU or, without GPUs, one a core.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out from its last checkpoint. With RECIPE or --set: or begin it.",
        ),
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Write a checkpoint also when the last is so old; 0: by training.checkpoint_every.")
    ] = 0.0,
    keep_checkpoints: Annotated[int, typer.Option(min=1, help="How many checkpoints stay, the newest ones.")] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; errors and the result only.")] = False,
) -> None:
    """Train a body federatedly by a recipe."""
    require("torch", "train")
    require("pydantic", "train")
    require("tensorboard", "train")
    from fbkit.train import training
    from fbkit.train.checkpoints import CheckpointPolicy
    from fbkit.train.evaluation_report import print_evaluation
    from fbkit.train.recipe import NO_COMMON_BODY, load_recipe

    policy = CheckpointPolicy(checkpoint_minutes, keep_checkpoints)
    asked = None if resume and not (recipe or settings) else load_recipe(recipe, settings or ())
    with Reporter(quiet) as reporter:
        if resume or asked is None:
            run = training.resume(out, workers, reporter, checkpoints=policy, recipe=asked)
        else:
            run = training.train(asked, out, workers, reporter, checkpoints=policy)
    if not speaks_for_all():
        return
    evaluation = run.evaluation
    size = run.description.model
    stdout.print(f"run folder: {run.folder}")
    stdout.print(
        f"model: {run.recipe.model.name}, {size.body_parameters:,} parameters in the body, {size.features} features, "
        f"{size.head_parameters:,} parameters in the head"
    )
    print_evaluation(evaluation)
    if run.recipe.training.algorithm in NO_COMMON_BODY or not run.has_statistics:
        say_next("evaluate-run", run.folder, "--out", "EVALUATION")
    else:
        say_next("export", run.folder, "--target", "onnx", "--out", "BUNDLE")
