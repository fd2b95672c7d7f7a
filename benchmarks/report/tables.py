"""The report's tables, whose cells know what they are sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fbkit.benchmarks.convergence.groups import SHARES, Group, group, lead, summarize
from fbkit.benchmarks.convergence.result import ConvergenceResult, to_csv
from fbkit.benchmarks.device.result import DeviceResult, Learning


@dataclass(frozen=True)
class Cell:
    """What people read, and what rows are sorted by: a number where there is one."""

    text: str
    value: float | str

    @property
    def is_number(self) -> bool:
        return not isinstance(self.value, str)


@dataclass(frozen=True)
class Table:
    """name: of its CSV file. brief: the columns that Markdown has, where that is narrower; none for all."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    brief: tuple[str, ...] = ()

    def to_csv(self) -> str:
        return to_csv(self.columns, [[cell.value for cell in row] for row in self.rows])

    def to_markdown(self) -> str:
        shown = [place for place, column in enumerate(self.columns) if not self.brief or column in self.brief]
        numbers = [all(row[place].is_number or not row[place].text for row in self.rows) for place in shown]
        lines = [
            "| " + " | ".join(self.columns[place] for place in shown) + " |",
            "|" + "|".join("--:" if number else "---" for number in numbers) + "|",
        ]
        cells = [[row[place].text.replace("|", "\\|") for place in shown] for row in self.rows]
        lines += [f"| {' | '.join(row)} |" for row in cells]
        return "\n".join(lines) + "\n"


MISSING = Cell("", "")


def number(value: float | None, form: str = "{:.1f}") -> Cell:
    return MISSING if value is None else Cell(form.format(value), round(value, 6))


def word(text: object) -> Cell:
    return Cell(str(text), str(text))


def milliseconds(seconds: float | None) -> Cell:
    if seconds is None:
        return MISSING
    value = 1000 * seconds
    return number(value, "{:.2f}" if value < 1 else "{:.1f}" if value < 100 else "{:,.0f}")


def convergence_table(result: ConvergenceResult) -> Table:
    """The main table: a row for each group of curves."""
    percents = [f"{100 * share:.0f}%" for share in SHARES]
    emulated = result.machine.emulated
    columns = ["body", "target", "precision", "solver", "pictures a class", "pictures", "as shipped", "afterwards"]
    columns += ["95% interval", "spread", "worst tenth", "loss as shipped", "loss afterwards"]
    columns += [f"epochs to {percent}" for percent in percents]
    columns += [f"steps to {percent}" for percent in percents]
    if not emulated:
        columns += [f"ms to {percent}" for percent in percents]
        columns += ["features, ms", "done, ms"]
    rows = []
    for each in group(result):
        found = summarize(each)
        row = [word(each.source), word(each.target), word(each.precision), word(each.solver)]
        row += [number(each.per_class, "{:.0f}") if each.per_class else word("all"), number(found.pictures, "{:.0f}")]
        row += [number(found.shipped), number(found.final)]
        row += [Cell(f"{found.low:.1f} to {found.high:.1f}", round(found.low, 6)), number(found.spread, "±{:.1f}")]
        row += [number(found.worst), number(found.shipped_loss, "{:.3f}"), number(found.final_loss, "{:.3f}")]
        row += [number(reached.epochs, "{:g}") for reached in found.reached]
        row += [number(reached.steps, "{:g}") for reached in found.reached]
        if not emulated:
            row += [milliseconds(reached.seconds) for reached in found.reached]
            row += [milliseconds(found.features_seconds), milliseconds(found.seconds)]
        rows.append(tuple(row))
    return Table(
        "convergence", "Every body, target, solver and number of pictures", tuple(columns), tuple(rows), _BRIEF
    )


_BRIEF = (
    *("body", "target", "precision", "solver", "pictures a class", "as shipped", "afterwards", "spread"),
    *("worst tenth", "loss afterwards", *(f"epochs to {100 * share:.0f}%" for share in SHARES)),
    *("ms to 95%", "features, ms", "done, ms"),
)
_BRIEF_DEVICES = ("device", "model", "processor", "cores", "system", "emulated", "bundle", "runtime")


def lead_table(groups: Sequence[Group]) -> Table:
    """Which body is ahead under the same solver, and which solver on the same body, by the same clients."""
    columns = ("pictures a class", "this", "against", "points ahead", "95% interval", "beyond noise", "clients")
    rows = []
    for place, each in enumerate(groups):
        for other in groups[:place]:
            one_differs = (each.source == other.source) != (each.solver == other.solver)
            found = lead(each, other) if one_differs and each.per_class == other.per_class else None
            if found:
                row = [number(each.per_class, "{:.0f}") if each.per_class else word("all")]
                row += [word(f"{one.source}, {one.solver}") for one in (each, other)]
                row += [number(found.mean, "{:+.1f}")]
                row += [Cell(f"{found.low:+.1f} to {found.high:+.1f}", round(found.low, 6))]
                row += [word("no" if found.is_noise else "yes"), number(found.clients, "{:.0f}")]
                rows.append(tuple(row))
    rows.sort(key=lambda row: row[0].value if row[0].is_number else float("inf"))
    return Table("leads", "Who is ahead, on the same clients", columns, tuple(rows))


def device_tables(results: Sequence[tuple[str, DeviceResult]]) -> list[Table]:
    """Machines, starts, latencies and personalizations; times of emulated devices are left out."""
    real = [(name, result) for name, result in results if not result.machine.emulated]
    return [table for table in (_machines(results), _starts(real), _latencies(real), _learning(results)) if table.rows]


def _machines(results: Sequence[tuple[str, DeviceResult]]) -> Table:
    columns: tuple[str, ...] = (
        "device",
        "model",
        "processor",
        "cores",
        "memory, GB",
        "system",
        "emulated",
        "bundle",
        "runtime",
    )
    columns += ("features", "°C before", "°C after", "MHz before", "MHz after", "throttled", "load before", "versions")
    rows = []
    for name, result in results:
        machine, before, after = result.machine, result.before, result.after
        throttled = [each.throttled for each in (before, after)]
        rows.append(
            (
                word(name),
                word(machine.model or ""),
                word(f"{machine.processor}, {machine.architecture}"),
                number(machine.cores, "{:.0f}"),
                number(machine.memory / 1e9),
                word(f"{machine.system}, Linux {machine.kernel}"),
                word("EMULATED" if machine.emulated else "no"),
                word(f"{result.subject.name}, {result.subject.precision}, {result.subject.pixels} pixels"),
                word(result.subject.runtime),
                word(" ".join(feature for feature in machine.features if feature in _TELLING)),
                number(before.celsius),
                number(after.celsius),
                number(before.megahertz, "{:.0f}"),
                number(after.megahertz, "{:.0f}"),
                MISSING if throttled == [None, None] else word("yes" if any(throttled) else "no"),
                number(before.load, "{:.2f}"),
                word(", ".join(f"{key} {value}" for key, value in machine.versions.items())),
            )
        )
    return Table("devices", "The devices", columns, tuple(rows), _BRIEF_DEVICES)


# Features of processors that decide how fast a body runs.
_TELLING = {"asimd", "asimddp", "asimdhp", "i8mm", "sve", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "fma", "neon"}


def _starts(results: Sequence[tuple[str, DeviceResult]]) -> Table:
    columns: tuple[str, ...] = (
        "device",
        "start, ms",
        "opening, ms",
        "first prediction, ms",
        "memory, MB",
        "predicting, MB",
    )
    columns += ("personalizing, MB", "bundle, MB", "runtime on disk, MB")
    rows = []
    for name, result in results:
        times = [milliseconds(median(getattr(each, what) for each in result.start)) for what in _TIMES]
        memory = []
        for what in _MEMORY:
            known = [value for each in result.start if (value := getattr(each, what)) is not None]
            memory.append(number(median(known) / 1e6 if known else None))
        disk = [number(value / 1e6) for value in (result.disk.bundle, result.disk.runtime)]
        rows.append((word(name), *times, *memory, *disk))
    return Table("start", "A fresh process: time, peak memory, room on the disk", columns, tuple(rows))


_TIMES = ("start", "opening", "first_prediction")
_MEMORY = ("memory_steady", "memory_predicting", "memory_personalizing")


def _latencies(results: Sequence[tuple[str, DeviceResult]]) -> Table:
    columns = ("device", "threads", "pictures at once", "median, ms", "95th percentile", "99th percentile")
    rows = [
        (
            word(name),
            number(each.threads, "{:.0f}"),
            number(each.batch, "{:.0f}"),
            *(milliseconds(value) for value in (each.median, each.p95, each.p99)),
            number(each.pictures_per_second, "{:,.0f}"),
        )
        for name, result in results
        for each in result.latency
    ]
    return Table("latency", "Predictions", (*columns, "pictures a second"), tuple(rows))


STAGES = ("decode", "body", "solver", "judging", "write")


def _learning(results: Sequence[tuple[str, DeviceResult]]) -> Table:
    columns: tuple[str, ...] = (
        "device",
        "solver",
        "pictures",
        *(f"{stage}, ms" for stage in STAGES),
        "in all, ms",
        "rounds",
    )
    columns += ("as shipped", "afterwards", "loss as shipped", "loss afterwards")
    rows = []
    for name, result in results:
        for learned in result.learning:
            stages = stage_medians(learned)
            times = [MISSING] * (len(STAGES) + 1)
            if not result.machine.emulated:
                times = [milliseconds(seconds) for seconds in (*stages.values(), sum(stages.values()))]
            first, last = learned.points[0], learned.points[-1]
            row = [word(name), word(learned.solver), number(result.subject.pictures, "{:.0f}"), *times]
            row += [number(last.round, "{:.0f}"), number(first.accuracy), number(last.accuracy)]
            rows.append((*row, number(first.loss, "{:.3f}"), number(last.loss, "{:.3f}")))
    return Table("personalizing", "Personalizing: where the time goes, and what it brings", columns, tuple(rows))


def stage_medians(learned: Learning) -> dict[str, float]:
    """Seconds of each stage, over turns."""
    return {stage: median(turn.get(stage, 0.0) for turn in learned.turns) for stage in STAGES}
