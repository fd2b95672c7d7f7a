"""Where the bundles come from: bodies trained for the comparison, finished runs, or bundles that are there already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fbkit.benchmarks.clients import write_clients
from fbkit.benchmarks.convergence.plan import Plan
from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.errors import Interrupted, UserError
from fbkit.files import sha256_bytes

STOPPED = "stopped; what was done is kept, and the same command goes on from there"
RESULTS_VERSION = 1  # part of every name: count it up when training or export gives other bundles for the same recipe


@dataclass(frozen=True)
class Source:
    """One body on one target: a bundle's folder, and the folder of the clients that personalize it."""

    name: str
    seed: int
    target: str
    precision: str
    bundle: Path
    clients: Path


@dataclass(frozen=True)
class RunOf:
    """A finished run, and the name that it shares with those which differ only by their seed."""

    name: str
    seed: int
    folder: Path
    key: str


def sources_given(paths: Sequence[Path], clients: Path | None, plan: Plan, out: Path, say: Reporter) -> list[Source]:
    """Of runs and bundles, in that order.

    Raises:
        UserError: a path is neither, two have one name, or clients are missing.
    """
    runs = [path for path in paths if (path / "run.json").exists()]
    bundles = [path for path in paths if path not in runs]
    for path in bundles:
        if not path.is_dir():
            raise UserError(f"{path}: no such run or bundle folder")
        if not (path / "manifest.json").exists():
            raise UserError(f"{path}: neither a run (run.json) nor a bundle (manifest.json)")
    if runs:
        _refuse_missing(plan.targets)
    if bundles and clients is None:
        raise UserError("--clients is missing: bundles do not say who personalizes; CLIENT/{train,test}/CLASS/PICTURE")
    found = list(_of_runs(_named(runs), clients, plan, out, say)) if runs else []
    for path in bundles:
        assert clients  # noqa: S101  for the type checker: refused above
        manifest = Bundle.open(path).manifest
        found.append(Source(path.resolve().name, 0, manifest.target, manifest.precision, path, clients))
    _refuse_twins(found)
    return found


def sources_trained(plan: Plan, clients: Path | None, out: Path, say: Reporter) -> list[Source]:
    """Train what is not in ``out`` yet, or go on with it, and export it.

    Raises:
        UserError: a setting is not possible, or an algorithm leaves no body to export.
        Interrupted: Ctrl-C; the same call goes on from there.
    """
    from fbkit.train.recipe import load_recipe, recipe_to_toml

    _refuse_missing(plan.targets)
    settings = ("clients.shards_per_client=5", "evaluation.every=0", *plan.settings)
    recipes = {
        (algorithm, seed): load_recipe(None, [*settings, f"training.algorithm={algorithm}", f"seed={seed}"])
        for seed in range(plan.seeds)
        for algorithm in plan.algorithms
    }
    runs = []
    with say.stage("training", len(recipes)) as advance:
        for (algorithm, seed), recipe in recipes.items():
            key = sha256_bytes(f"{RESULTS_VERSION}\n{recipe_to_toml(recipe)}".encode())[:12]
            runs.append(RunOf(algorithm, seed, out / "runs" / f"{algorithm}-{seed}-{key}", key))
            _keeping(lambda run=runs[-1], recipe=recipe: _train(run.folder, recipe, say))  # type: ignore[misc]
            advance(f"{algorithm}, seed {seed}")
    return list(_of_runs(runs, clients, plan, out, say))


def _refuse_missing(targets: Sequence[str]) -> None:
    """Raise UserError where a target's packages are not installed, before anything is trained for it."""
    from fbkit.export.quiet import quiet_exporters
    from fbkit.export.target import find_target

    with quiet_exporters():  # some comment on their own import
        for target in targets:
            find_target(target)


def _train(folder: Path, recipe: object, say: Reporter) -> None:
    from fbkit.train.recipe import Recipe
    from fbkit.train.run_folder import open_run
    from fbkit.train.training import resume, train

    assert isinstance(recipe, Recipe)  # noqa: S101  its module needs torch and is imported late
    quiet = Reporter(quiet=True)
    if not folder.exists():
        train(recipe, folder, reporter=quiet)
    elif not open_run(folder).is_complete:
        say.line(f"{folder.name}: going on from its last checkpoint")
        resume(folder, reporter=quiet)


def _keeping(work: Callable[[], None]) -> None:
    try:
        work()
    except (Interrupted, KeyboardInterrupt) as interrupt:
        raise Interrupted(STOPPED) from interrupt


def _named(folders: Sequence[Path]) -> list[RunOf]:
    """Runs that differ by their seed alone share a name: the algorithm where that tells them apart, else a folder's."""
    from fbkit.train.recipe import recipe_to_toml
    from fbkit.train.run_folder import open_run

    alike: dict[str, list[tuple[Path, str, int]]] = defaultdict(list)
    for folder in folders:
        run = open_run(folder)
        run.refuse_incomplete()
        kind = recipe_to_toml(run.recipe.model_copy(update={"seed": 0}))
        alike[kind].append((folder, run.recipe.training.algorithm, run.recipe.seed))
    algorithms = [members[0][1] for members in alike.values()]
    named = []
    for members in alike.values():
        for folder, algorithm, seed in members:
            name = algorithm if algorithms.count(algorithm) == 1 else members[0][0].resolve().name
            named.append(RunOf(name, seed, folder, sha256_bytes(str(folder.resolve()).encode())[:12]))
    return named


def _of_runs(runs: Sequence[RunOf], clients: Path | None, plan: Plan, out: Path, say: Reporter) -> Iterator[Source]:
    from fbkit.export.exporting import Options, export_run

    kinds = [(target, precision) for target in plan.targets for precision in plan.precisions]
    with say.stage("exporting", len(runs) * len(kinds)) as advance:
        for run in runs:
            people = clients or _held_out(run, out)
            for target, precision in kinds:
                bundle = out / "bundles" / f"{run.name}-{run.seed}-{target}-{precision}-{run.key}"
                if not bundle.exists():
                    options = Options(precision, accept_loss=precision == "int8")  # the curves show what it costs
                    export_run(run.folder, target, bundle, options)
                yield Source(run.name, run.seed, target, precision, bundle, people)
                advance(f"{run.name}, {target}, {precision}")


def _held_out(run: RunOf, out: Path) -> Path:
    """The clients that took no part in a run's training, as folders of pictures; alike for runs that deal alike."""
    from fbkit.train.partition import partition
    from fbkit.train.run_folder import open_run
    from fbkit.train.sources import load_dataset

    recipe = open_run(run.folder).recipe
    if not recipe.clients.held_out:
        raise UserError(f"{run.folder}: holds no clients out; give others with --clients CLIENT/{{train,test}}/CLASS")
    key = sha256_bytes(f"{recipe.seed} {recipe.data!r} {recipe.clients!r}".encode())[:12]
    folder = out / "clients" / f"{recipe.seed}-{key}"
    if not folder.exists():
        dataset = load_dataset(recipe.data, recipe.seed)
        dealt = partition(dataset, recipe.clients, recipe.seed)
        write_clients(dataset, dealt, dealt.held_out, folder)
    return folder


def _refuse_twins(sources: Sequence[Source]) -> None:
    seen = set()
    for source in sources:
        key = (source.name, source.seed, source.target, source.precision)
        if key in seen:
            raise UserError(f"{source.bundle}: there are two named {source.name} of one seed; names tell them apart")
        seen.add(key)
