"""The report's folder: index.html, report.md, figures as SVG and PNG, tables as CSV."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

import fbkit
from fbkit.benchmarks.convergence.groups import group
from fbkit.benchmarks.convergence.result import ConvergenceResult
from fbkit.benchmarks.device.result import DeviceResult
from fbkit.benchmarks.report.convergence_figures import draw_curves, draw_pictures_needed, draw_times, usual
from fbkit.benchmarks.report.device_figures import draw_latencies, draw_learning, draw_stages
from fbkit.benchmarks.report.findings import convergence_findings, device_findings
from fbkit.benchmarks.report.reading import Result
from fbkit.benchmarks.report.tables import Table, convergence_table, device_tables, lead_table
from fbkit.errors import UserError
from fbkit.files import refuse_existing, whole_folder, write_atomic
from fbkit.plotting import save, to_svg

TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its files, and what it shows."""

    name: str
    title: str
    figure: Figure


@dataclass(frozen=True)
class Section:
    """A part of the report: of one comparison, or of all devices."""

    title: str
    findings: list[str]
    pictures: list[Picture]
    tables: list[Table]
    facts: list[tuple[str, str]]


def write_report(results: Sequence[tuple[Path, Result]], out: Path, make_room: bool = False) -> Path:
    """Write the report's folder; return its page.

    Args:
        results: with the files that they are from.
        out: folder to make.
        make_room: whether a report that is there already makes room.

    Raises:
        UserError: ``out`` exists, or holds no report to be replaced.
    """
    if not results:
        raise UserError("no results given; fbkit bench convergence and fbkit bench device write some")
    if make_room and out.exists():
        if not (out / "report.md").exists():
            raise UserError(f"{out}: is no report that could be replaced; remove it or choose another folder")
        shutil.rmtree(out)
    refuse_existing(out)
    sections = _sections(results)
    with whole_folder(out) as folder:
        for section in sections:
            for picture in section.pictures:
                save(picture.figure, folder / picture.name)
            for table in section.tables:
                write_atomic(folder / f"{table.name}.csv", table.to_csv().encode())
        write_atomic(folder / "report.md", _markdown(sections).encode())
        write_atomic(folder / "index.html", _html(sections).encode())
    return out / "index.html"


def _sections(results: Sequence[tuple[Path, Result]]) -> list[Section]:
    comparisons = [(path, result) for path, result in results if isinstance(result, ConvergenceResult)]
    devices = [(path, result) for path, result in results if isinstance(result, DeviceResult)]
    made = []
    for number, (path, comparison) in enumerate(comparisons, start=1):
        suffix = "" if len(comparisons) == 1 else f"-{number}"
        made.append(_comparison(path, comparison, suffix, several=len(comparisons) > 1))
    if devices:
        named = [(name, result) for name, (_, result) in zip(_names(devices), devices, strict=True)]
        made.append(_devices(named))
    return made


def _names(devices: Sequence[tuple[Path, DeviceResult]]) -> list[str]:
    """The files' names, where these tell them apart."""
    names = [path.stem for path, _ in devices]
    return [name if names.count(name) == 1 else str(path) for name, (path, _) in zip(names, devices, strict=True)]


def _comparison(path: Path, result: ConvergenceResult, suffix: str, several: bool) -> Section:
    groups = group(result)
    if not groups:
        raise UserError(f"{path}: holds no curves")
    shown = usual(groups)
    where = f"{shown[0].target}, {shown[0].precision}"
    times = not result.machine.emulated
    pictures = [Picture("pictures-needed", f"How many pictures it takes ({where})", draw_pictures_needed(shown))]
    pictures.append(
        Picture(
            "accuracy",
            f"Accuracy against epochs{' and time' if times else ''} ({where}; bands: 95% intervals of the mean)",
            draw_curves(shown, ("epochs", "seconds") if times else ("epochs",)),
        )
    )
    pictures.append(
        Picture("steps", f"The same against steps and pictures ({where})", draw_curves(shown, ("steps", "seen")))
    )
    if any(curve.loss is not None for each in shown for curve in each.curves):
        pictures.append(
            Picture(
                "loss",
                f"Loss on unseen pictures ({where})",
                draw_curves(shown, ("epochs", "seconds") if times else ("epochs",), "loss"),
            )
        )
    solvers = list(dict.fromkeys(each.solver for each in groups))
    if len(solvers) > len({each.solver for each in shown}):
        last = [
            each
            for each in groups
            if (each.source, each.target, each.precision) == (shown[-1].source, shown[-1].target, shown[-1].precision)
        ]
        pictures.append(
            Picture(
                "solvers",
                f"Every solver on {last[0].source} ({where})",
                draw_curves(last, ("epochs", "seconds") if times else ("epochs",)),
            )
        )
    if times:
        pictures.append(Picture("times", "Where the time goes", draw_times(groups)))
    machine = result.machine
    facts = [
        ("made by", result.command),
        ("on", f"{machine.processor}, {machine.cores} cores, {machine.system}"),
        ("versions", ", ".join(f"{key} {value}" for key, value in machine.versions.items())),
        *(("note", note) for note in result.notes),
    ]
    if machine.emulated:
        facts.append(("note", "This machine is emulated: its times say nothing and are left out."))
    title = f"How fast personalization converges{f': {path}' if several else ''}"
    tables = (lead_table(shown), convergence_table(result))
    return Section(
        title,
        convergence_findings(result, groups),
        [replace(each, name=each.name + suffix) for each in pictures],
        [replace(table, name=table.name + suffix) for table in tables if table.rows],
        facts,
    )


def _devices(results: Sequence[tuple[str, DeviceResult]]) -> Section:
    real = [(name, result) for name, result in results if not result.machine.emulated]
    pictures = []
    if real:
        pictures.append(Picture("stages", "Where the time of a personalization goes", draw_stages(real)))
        pictures.append(Picture("latency", "Predictions", draw_latencies(real)))
    pictures.append(Picture("learning", "What was learned, step by step", draw_learning(results)))
    facts = [
        (name, ", ".join(f"{key} {value}" for key, value in result.machine.versions.items()))
        for name, result in results
    ]
    return Section("Devices", device_findings(results), pictures, device_tables(results), facts)


def _html(sections: Sequence[Section]) -> str:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    values: dict[str, Any] = {"sections": sections, "svg": to_svg, "version": fbkit.__version__}
    return templates.get_template("report.html").render(**values)


def _markdown(sections: Sequence[Section]) -> str:
    lines = []
    for section in sections:
        lines += [f"## {section.title}", "", *(f"- {line}" for line in section.findings), ""]
        for picture in section.pictures:
            lines += [f"{picture.title}:", "", f"![{picture.title}]({picture.name}.png)", ""]
        for table in section.tables:
            lines += [f"{table.title} ([CSV]({table.name}.csv)):", "", table.to_markdown()]
        lines += [f"- {key}: `{value}`" if key == "made by" else f"- {key}: {value}" for key, value in section.facts]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
