"""The folder of runs and evaluations: found by content, shared between the questions.

paper.json                      says what the folder is, and its scale
recipes/CELL-KEY.toml           one for each run, whether it was made yet or not
runs/CELL-KEY/                  run folders; KEY is made from recipe, data and RESULTS_VERSION
evaluations/CELL-KEY-WHAT.json  an evaluation record that holds WHAT
rq1/ ... rq5/, index.md         reports
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fbkit.benchmarks.paper.cells import Cell
from fbkit.benchmarks.paper.results import Measured
from fbkit.benchmarks.paper.wanted import Tuning, Wanted
from fbkit.errors import UserError
from fbkit.files import locked, read_json, sha256_bytes, write_atomic, write_json
from fbkit.train.metrics import read_metrics
from fbkit.train.recipe import Recipe, recipe_to_toml
from fbkit.train.records import Evaluation, PersonalizedAccuracies, read_record
from fbkit.train.run_folder import open_run

# Part of every run's key: count it up when training or evaluation gives other figures for the same recipe.
RESULTS_VERSION = 1

SCHEMA, VERSION = "fbkit.paper", 1


@dataclass(frozen=True)
class Store:
    """An open folder of results for one data set."""

    out: Path
    fingerprint: str

    def run_name(self, cell: Cell, recipe: Recipe) -> str:
        moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": ""})})
        key = f"{RESULTS_VERSION}\n{self.fingerprint}\n{recipe_to_toml(moved)}"  # wherever the pictures lie
        return f"{cell.name}-{sha256_bytes(key.encode())[:12]}"

    def run_folder(self, run: str) -> Path:
        return self.out / "runs" / run

    def is_trained(self, run: str) -> bool:
        return (self.run_folder(run) / "evaluation.json").exists()

    def write_recipe(self, run: str, recipe: Recipe) -> None:
        write_atomic(self.out / "recipes" / f"{run}.toml", recipe_to_toml(recipe).encode())

    def missing(self, run: str, wanted: Wanted) -> Wanted:
        """What of ``wanted`` was not measured yet. A fine-tuning is done anew with what its file holds already."""
        tunings = []
        for tuning in wanted.tunings:
            found = {after.epochs for after in self._tuned(run, tuning)}
            if not found.issuperset(tuning.epochs):
                tunings.append(Tuning(tuning.part, tuning.lr, tuple(sorted(found.union(tuning.epochs)))))
        return Wanted(
            templates=wanted.templates and not self._path(run, "templates").exists(),
            pooled=wanted.pooled and not self._path(run, "pooled").exists(),
            tunings=tuple(tunings),
        )

    def keep(self, run: str, done: Wanted, evaluation: Evaluation) -> None:
        """Write what was measured, a file for each thing that can be asked for again."""
        nothing: dict[str, object] = {"templates": None, "pooled": None, "personalized": []}
        parts: dict[str, dict[str, object]] = {}
        if done.templates:
            parts["templates"] = {"templates": evaluation.templates}
        if done.pooled:
            parts["pooled"] = {"pooled": evaluation.pooled}
        for tuning in done.tunings:
            found = [after for after in evaluation.personalized if (after.part, after.lr) == (tuning.part, tuning.lr)]
            parts[tuning.name] = {"personalized": found}
        for name, part in parts.items():
            record = evaluation.model_copy(update=nothing | part)
            write_json(self._path(run, name), record.model_dump())

    def measured(self, run: str, wanted: Wanted) -> Measured:
        """All that is ``wanted`` of a run, and nothing else; it must be there."""
        folder = self.run_folder(run)
        trained = open_run(folder).evaluation
        assert trained.initial.batch  # noqa: S101  for the type checker: the recipe asks for it
        templates = self._read(run, "templates").templates if wanted.templates else None
        pooled = self._read(run, "pooled").pooled if wanted.pooled else None
        return Measured(
            run=run,
            initial=trained.initial.batch,
            own_part=trained.own_part,
            without_own=len(trained.without_own),
            templates=templates.batch if templates else None,
            pooled=pooled.batch if pooled else None,
            tuned={
                (after.part, after.lr, after.epochs): after
                for tuning in wanted.tunings
                for after in self._tuned(run, tuning)
                if after.epochs in tuning.epochs
            },
            seconds=sum(float(line.get("seconds", 0)) for line in read_metrics(folder)),
        )

    def _tuned(self, run: str, tuning: Tuning) -> list[PersonalizedAccuracies]:
        if not self._path(run, tuning.name).exists():
            return []
        return self._read(run, tuning.name).personalized

    def _path(self, run: str, name: str) -> Path:
        return self.out / "evaluations" / f"{run}-{name}.json"

    def _read(self, run: str, name: str) -> Evaluation:
        try:
            return read_record(Evaluation, self._path(run, name))
        except UserError as error:
            raise UserError(f"{error}; remove the file, and the same command measures it again") from error


@contextmanager
def open_store(out: Path, scale: str, fingerprint: str) -> Iterator[Store]:
    """Make the folder or go on with it; nobody else works in it meanwhile.

    Raises:
        UserError: it holds something else, results of another scale, or another command works in it.
    """
    marker = out / "paper.json"
    if marker.exists():
        found = read_json(marker)
        if (found.get("schema"), found.get("version")) != (SCHEMA, VERSION):
            raise UserError(
                f"{marker}: not of a folder that this fbkit bench paper can go on with; choose another --out"
            )
        if found.get("scale") != scale:
            raise UserError(f"{out}: holds results of --scale {found.get('scale')}; choose another --out")
    elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and was not made by fbkit bench paper; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            write_json(marker, {"schema": SCHEMA, "version": VERSION, "scale": scale})
        for name in ("recipes", "runs", "evaluations"):
            (out / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or written ({error.strerror})") from error
    with locked(marker, "fbkit bench paper"):
        yield Store(out, fingerprint)
