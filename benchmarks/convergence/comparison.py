"""The whole comparison: get the bundles, let every client personalize each of them, keep what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fbkit.benchmarks.clients import ClientFolder, find_clients
from fbkit.benchmarks.convergence.measure import measure_client
from fbkit.benchmarks.convergence.native import SOLVERS as NATIVE_SOLVERS
from fbkit.benchmarks.convergence.native import measure_natively
from fbkit.benchmarks.convergence.plan import Plan
from fbkit.benchmarks.convergence.result import ConvergenceResult, Curve, Subject
from fbkit.benchmarks.convergence.sources import STOPPED, Source, sources_given, sources_trained
from fbkit.benchmarks.convergence.store import Kept, digest_of, kept
from fbkit.benchmarks.device.facts import Machine, describe_device
from fbkit.benchmarks.folder import folder_to_go_on
from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.errors import Interrupted
from fbkit.files import write_atomic, write_json

Wanted = tuple[str, int]  # solver, pictures a class


@dataclass(frozen=True)
class _Job:
    """One client under one bundle on one runtime: what is kept of it already, and where."""

    subject: int
    bundle: Bundle
    program: Path | None  # the native runner, where that runs it
    client: ClientFolder
    kept: Kept
    wanted: tuple[Wanted, ...]


def run_convergence(
    paths: Sequence[Path], clients: Path | None, plan: Plan, out: Path, command: str, reporter: Reporter | None = None
) -> ConvergenceResult:
    """Measure what ``out`` does not hold yet, and write convergence.json and curves.csv.

    Args:
        paths: runs and bundles; none to train the plan's algorithms.
        clients: folder CLIENT/{train,test}/CLASS/PICTURE; None for those that the runs held out.
        out: folder to make or to go on with.
        command: that makes it again, for reports.

    Raises:
        UserError: something given cannot be used.
        Interrupted: Ctrl-C; the same call goes on from there.
    """
    say = reporter or Reporter(quiet=True)
    if clients is not None:
        find_clients(clients)  # before anything is trained
    with folder_to_go_on(out, "fbkit bench convergence", "fbkit.bench-convergence-folder", 1):
        (out / "curves").mkdir(exist_ok=True)
        sources = sources_given(paths, clients, plan, out, say) if paths else sources_trained(plan, clients, out, say)
        result = measure_sources(sources, plan, out, command, say)
        write_results(result, out)
    return result


def write_results(result: ConvergenceResult, out: Path) -> None:
    """Write convergence.json and curves.csv."""
    write_json(out / "convergence.json", result.to_json(), compact=True)
    write_atomic(out / "curves.csv", result.to_csv().encode())


def measure_sources(sources: Sequence[Source], plan: Plan, out: Path, command: str, say: Reporter) -> ConvergenceResult:
    """Measure what is not in ``out/curves`` yet."""
    machine = describe_device()
    subjects, jobs = _jobs(sources, plan, machine, out)
    missing = [[asked for asked in job.wanted if asked not in job.kept.read()] for job in jobs]
    with say.stage("personalizing", sum(map(len, missing))) as advance:
        for number, job in enumerate(jobs):
            if not missing[number]:
                continue
            try:
                if job.program:
                    curves = measure_natively(job.program, job.bundle, job.client, missing[number])
                else:
                    curves = measure_client(job.bundle, job.client, missing[number], plan.epochs)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(STOPPED) from interrupt
            job.kept.add(curves)
            for curve in curves:
                advance(f"{subjects[job.subject].source}, {curve.client}: {curve.accuracy[-1]:.1f}%")
    measured: list[Curve] = []
    for job in jobs:
        found = job.kept.read()
        measured += [replace(found[asked], subject=job.subject) for asked in job.wanted if asked in found]
    order = {wanted: place for place, wanted in enumerate(_wanted(plan))}
    measured.sort(key=lambda curve: (curve.subject, order[curve.solver, curve.per_class], curve.client))
    return ConvergenceResult(machine, command, _notes(sources, plan), tuple(subjects), tuple(measured))


def _wanted(plan: Plan) -> list[Wanted]:
    return [(solver, count) for count in plan.per_class for solver in plan.solvers]


def _jobs(sources: Sequence[Source], plan: Plan, machine: Machine, out: Path) -> tuple[list[Subject], list[_Job]]:
    """Client by client, the bundles each time in another order: whatever else the machine does falls on all alike."""
    subjects: list[Subject] = []
    by_client: dict[tuple[Path, str], list[_Job]] = {}
    people = {folder: find_clients(folder) for folder in dict.fromkeys(source.clients for source in sources)}
    digests = {client.train: digest_of(client) for found in people.values() for client in found}
    for source in sources:
        bundle = Bundle.open(source.bundle)
        manifest = bundle.manifest
        runners: list[tuple[str, str, Path | None, list[Wanted]]] = [
            (source.target, bundle.body.runtime, None, _wanted(plan))
        ]
        if plan.native and source.target == "executorch":
            known = [asked for asked in _wanted(plan) if asked[0] in NATIVE_SOLVERS]
            runners.append(("native", f"fbkit-device {machine.versions['fbkit']}", plan.native / "fbkit-device", known))
        for target, runtime, program, wanted in runners:
            size = sum(entry.bytes for entry in manifest.files.values())
            subjects.append(
                Subject(source.name, source.seed, target, source.precision, runtime, manifest.identity, size)
            )
            for client in people[source.clients]:
                epochs = None if program else plan.epochs
                place = kept(out, manifest.identity, runtime, machine.processor, digests[client.train], epochs)
                job = _Job(len(subjects) - 1, bundle, program, client, place, tuple(wanted))
                by_client.setdefault((source.clients, client.name), []).append(job)
    jobs: list[_Job] = []
    for number, mine in enumerate(by_client.values(), start=1):
        jobs += [mine[place] for place in epoch_order(len(mine), 0, number).tolist()]
    return subjects, jobs


def _notes(sources: Sequence[Source], plan: Plan) -> tuple[str, ...]:
    clients = len({(source.clients, client.name) for source in sources for client in find_clients(source.clients)})
    seeds = len({source.seed for source in sources})
    epochs = f"{plan.epochs} epochs" if plan.epochs else "as many epochs as each bundle recommends"
    return (
        f"{clients} clients that took no part in training, over {seeds} {'seeds' if seeds > 1 else 'seed'}.",
        f"SGD runs for {epochs}, with the bundle's learning rate where none is named.",
        "Times are of one personalization after another, with each runtime's default threads.",
    )
