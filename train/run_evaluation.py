"""More questions to a finished run: the function behind ``fbkit evaluate-run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fbkit.console import Reporter
from fbkit.errors import Interrupted
from fbkit.train.data import Dataset
from fbkit.train.evaluation import evaluate, stages_of
from fbkit.train.federation import make_federation
from fbkit.train.recipe import EvaluationRecipe, PersonalizationRecipe, Recipe, parse_recipe
from fbkit.train.records import Evaluation
from fbkit.train.run_folder import open_run
from fbkit.train.workers import Workers, default_worker_count, run_on_workers


def evaluate_run(
    run_folder: Path,
    evaluation: EvaluationRecipe | None = None,
    personalization: Sequence[PersonalizationRecipe] | None = None,
    workers: int | None = None,
    reporter: Reporter | None = None,
    dataset: Dataset | None = None,
    data_root: Path | None = None,
) -> Evaluation:
    """Judge a finished run anew; nothing in its folder changes.

    Args:
        evaluation: whom to judge and by what; None for what the run's recipe says.
        personalization: fine-tunings; None for those of the recipe.
        workers, reporter, dataset: as for ``train``.
        data_root: where the pictures are now, if not where they were in training.

    Raises:
        UserError: the run is not finished, its data are not what they were, or it cannot be judged so.
    """
    run = open_run(run_folder)
    run.refuse_incomplete()
    values = run.recipe.model_dump(mode="json")
    if evaluation:
        values["evaluation"] = evaluation.model_dump(mode="json")
    if personalization is not None:
        values["personalization"] = [how.model_dump(mode="json") for how in personalization]
    if data_root:
        values["data"]["root"] = str(data_root)
    recipe = parse_recipe(values, str(run_folder))
    workers = workers or min(default_worker_count(), run.description.clients)
    try:
        return run_on_workers(
            workers, _evaluate_on_worker, recipe, run_folder, dataset, first_only={"reporter": reporter}
        )
    except KeyboardInterrupt as interrupt:
        raise Interrupted("interrupted") from interrupt


def _evaluate_on_worker(
    workers: Workers, recipe: Recipe, run_folder: Path, dataset: Dataset | None, reporter: Reporter | None = None
) -> Evaluation:
    reporter = reporter or Reporter(quiet=True)
    run = open_run(run_folder)
    federation = make_federation(recipe.without_init(), workers, run_folder / "clients", dataset, reporter)
    run.check_data(federation)
    federation.note_rounds_until(recipe.training.rounds)
    run.load_weights(federation.model)
    federation.model.to(workers.device)
    calibration = run.evaluation.calibration
    with reporter.stage("evaluating", stages_of(recipe.evaluation, recipe.personalization)) as advance:
        return evaluate(federation, recipe.evaluation, recipe.personalization, calibration, advance)
