"""``fbkit evaluate-run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbkit.console import Reporter, speaks_for_all, stdout
from fbkit.errors import UserError, require

if TYPE_CHECKING:
    from fbkit.train.recipe import EvaluationRecipe, PersonalizationRecipe, Recipe


def evaluate_run(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    out: Annotated[Path, typer.Option(help="Folder to make for the figures, a CSV and a plot.")],
    clients: Annotated[str | None, typer.Option(help="held-out, training or all; default: as the recipe says.")] = None,
    part: Annotated[
        str | None, typer.Option(help="What to fine-tune: head, body, full, several with commas; or none.")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(help="Judge after these numbers of epochs, with commas; needs --part [default: 1,5].")
    ] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rates, with commas; needs --part [default: 0.01].")] = None,
    statistics: Annotated[
        str | None, typer.Option(help="Normalisation: batch, static, or both with a comma; default: as the recipe.")
    ] = None,
    templates: Annotated[
        bool | None, typer.Option("--templates/--no-templates", help="The nearest class template, no head.")
    ] = None,
    pooled: Annotated[
        bool | None,
        typer.Option(
            "--pooled/--no-pooled", help="Everybody's pictures in one pool: accuracy, template, linear probe."
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the pictures are now, if not where they were in training.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a GPU or, without GPUs, one a core.")
    ] = None,
) -> None:
    """Judge a finished run: before and after fine-tuning, client by client."""
    for module, extra in (("torch", "train"), ("pydantic", "train"), ("matplotlib", "bench")):
        require(module, extra)
    from fbkit import plotting
    from fbkit.files import refuse_existing, whole_folder, write_atomic, write_json
    from fbkit.train import run_evaluation
    from fbkit.train.evaluation_plot import plot_evaluation
    from fbkit.train.evaluation_report import print_evaluation, to_csv
    from fbkit.train.run_folder import open_run

    refuse_existing(out)
    opened = open_run(run)
    if not part and (epochs or lr):
        raise UserError("--epochs and --lr say how to fine-tune; say also what, with --part head, body or full")
    evaluation, personalization = _asked(
        opened.recipe, clients, part, epochs, lr, statistics, templates=templates, pooled=pooled
    )
    with Reporter() as reporter:
        found = run_evaluation.evaluate_run(run, evaluation, personalization, workers, reporter, data_root=data_root)
    if not speaks_for_all():
        return
    with whole_folder(out) as folder:
        write_json(folder / "evaluation.json", found.model_dump())
        write_atomic(folder / "clients.csv", to_csv(found, opened.description.client_names).encode())
        plotting.save(plot_evaluation(found, opened.recipe.training.algorithm), folder / "evaluation")
    print_evaluation(found)
    stdout.print(f"figures: {out / 'evaluation.json'}, {out / 'clients.csv'}, plot: {out / 'evaluation.png'}")


def _asked(
    recipe: Recipe,
    clients: str | None,
    part: str | None,
    epochs: str | None,
    lr: str | None,
    statistics: str | None,
    *,
    templates: bool | None,
    pooled: bool | None,
) -> tuple[EvaluationRecipe, list[PersonalizationRecipe] | None]:
    """The command line's words as recipe sections, checked by the same rules."""
    from fbkit.train.recipe import parse_recipe

    values = recipe.model_dump(mode="json")
    asked = {
        "clients": clients,
        "statistics": _words(statistics) if statistics else None,
        "templates": templates,
        "pooled": pooled,
    }
    judged = values["evaluation"] | {key: value for key, value in asked.items() if value is not None}
    values["evaluation"] = judged
    if part:
        values["personalization"] = [
            {
                "part": name,
                "epochs": _numbers(epochs or "1,5", int, "--epochs"),
                "lr": _numbers(lr or "0.01", float, "--lr"),
                "statistics": by,
            }
            for name in _words(part)
            if name != "none"
            for by in judged["statistics"]
        ]
    checked = parse_recipe(values, "evaluate-run")
    return checked.evaluation, list(checked.personalization)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, kind: type[int] | type[float], option: str) -> list[int | float]:
    try:
        return [kind(word) for word in _words(text)]
    except ValueError as error:
        raise UserError(f"{option} {text}: expected numbers with commas between them") from error
