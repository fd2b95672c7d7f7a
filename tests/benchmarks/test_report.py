"""``fbkit bench report``: a page that needs no network, tables, Markdown."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fbkit.benchmarks.convergence.groups import group, summarize
from fbkit.benchmarks.convergence.result import ConvergenceResult
from fbkit.benchmarks.device.facts import Conditions, describe_device
from fbkit.benchmarks.device.result import DeviceResult, Disk, Latency, Learning, Point
from fbkit.benchmarks.device.result import Subject as DeviceSubject
from fbkit.benchmarks.fresh_process import FreshProcess
from fbkit.benchmarks.report.writing import write_report
from fbkit.errors import UserError
from tests.benchmarks.made_up import made_up_convergence
from tests.conftest import Outcome, run_fbkit


class Page(HTMLParser):
    """What a page loads, its cells, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self._tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags.append(tag)
        if tag == "td":
            self.cells.append("")
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]

    def handle_endtag(self, tag: str) -> None:
        while self._tags and self._tags.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._tags and self._tags[-1] in ("script", "style"):
            return
        self.text += data
        if self._tags and self._tags[-1] == "td":
            self.cells[-1] += data


def made_up_device(milliseconds: float, emulated: bool) -> DeviceResult:
    points = tuple(Point(step, step, 0.01 * step, 50.0 + step, 1.0 - 0.1 * step) for step in range(5))
    turn = {"decode": 0.001, "body": milliseconds / 1000, "solver": 0.002, "judging": 0.003, "write": 0.004}
    start = FreshProcess(0.5, 0.1, 0.01, 10**8, 2 * 10**8, None)
    calm = Conditions(41.5, 1500.0, "ondemand", False, 0.1)
    subject = DeviceSubject("small", "d" * 64, "onnx", "fp32", 28, 10, 64, "onnxruntime 1", 20, 10)
    return DeviceResult(
        machine=replace(describe_device(), emulated=emulated, model="Board <b>"),
        before=calm,
        after=calm,
        subject=subject,
        disk=Disk(10**6, 10**8),
        start=(start, start),
        latency=tuple(
            Latency(1, batch, 100, *(batch * milliseconds / 1000 * by for by in (1, 1.1, 1.3))) for batch in (1, 4)
        ),
        learning=(Learning("exact", (turn, turn), points), Learning("sgd", (turn, turn), points)),
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, paths = tmp_path_factory.mktemp("results"), []
    values: dict[str, ConvergenceResult | DeviceResult] = {
        "convergence": made_up_convergence(),
        "board": made_up_device(2.0, emulated=False),
        "emulator": made_up_device(777.0, emulated=True),
    }
    for name, value in values.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(value.to_json()))
    return paths


@pytest.fixture(scope="module")
def out(results: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all three."""
    folder = tmp_path_factory.mktemp("report") / "out"
    ended = run_fbkit("bench", "report", *results, "--out", folder)
    assert ended.returncode == 0, ended.stderr
    assert str(folder / "index.html") in ended.stdout
    return folder


def test_a_page_holds_everything_and_loads_nothing(out: Path) -> None:
    text = (out / "index.html").read_text()
    page = Page(text)
    assert page.loads == [], "the page must be readable without a network"
    assert not re.search(
        r"url\((?!#)|@import|https?://(?!www\.w3\.org|purl\.org|creativecommons\.org|matplotlib)", text
    )
    figures = {path.stem for path in out.glob("*.svg")}
    assert figures == {
        "pictures-needed",
        "accuracy",
        "steps",
        "loss",
        "solvers",
        "times",
        "stages",
        "latency",
        "learning",
    }
    assert text.count("<svg") == len(figures)
    assert {path.stem for path in out.glob("*.png")} == figures

    convergence = made_up_convergence()
    for each in group(convergence):
        found = summarize(each)
        assert f"{found.final:.1f}" in page.cells
        assert f"{found.low:.1f} to {found.high:.1f}" in page.cells
    assert convergence.command in page.text
    assert "Board <b>" in page.cells, "names are text, not markup"

    rows = list(csv.DictReader((out / "convergence.csv").open()))
    assert len(rows) == len(group(convergence))
    best = max(group(convergence), key=lambda each: summarize(each).final)
    highest = max(rows, key=lambda row: float(row["afterwards"]))
    assert (highest["body"], highest["solver"]) == (best.source, best.solver)
    assert f"{best.source} with {best.solver} ends highest" in page.text
    leads = list(csv.DictReader((out / "leads.csv").open()))
    ahead = [row for row in leads if (row["this"], row["against"]) == ("fedbabu, exact", "fedavg, exact")]
    assert [row["beyond noise"] for row in ahead] == ["yes", "yes"]
    assert all(float(row["points ahead"]) == pytest.approx(5, abs=1) for row in ahead)


def test_markdown_has_the_tables_and_pictures(out: Path) -> None:
    text = (out / "report.md").read_text()
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (out / picture).exists()
    table = [line for line in text.split("Every body")[1].split("## Devices")[0].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + len(group(made_up_convergence()))


def test_times_of_an_emulated_device_are_left_out(results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "report"
    devices = [
        (path, made_up_device(*given)) for path, given in zip(results[1:], ((2.0, False), (777.0, True)), strict=True)
    ]
    write_report(devices, out)
    page = Page((out / "index.html").read_text())
    assert "emulator is emulated: its times say nothing and are left out" in page.text
    assert "exact on board and on emulator, step by step: the same accuracy, the same loss (5 points)." in page.text
    for name in ("start", "latency"):
        assert {row["device"] for row in csv.DictReader((out / f"{name}.csv").open())} == {"board"}
    learning = list(csv.DictReader((out / "personalizing.csv").open()))
    assert {row["device"]: row["body, ms"] for row in learning} == {"board": "2.0", "emulator": ""}
    assert {row["emulated"] for row in csv.DictReader((out / "devices.csv").open())} == {"no", "EMULATED"}
    assert "777" not in page.text

    alone = tmp_path / "alone"
    write_report(devices[1:], alone)
    assert {path.stem for path in alone.glob("*.svg")} == {"learning"}
    emulated = replace(made_up_convergence(), machine=devices[1][1].machine)
    write_report([(tmp_path / "x.json", emulated)], tmp_path / "emulated")
    page = Page((tmp_path / "emulated" / "index.html").read_text())
    assert " ms" not in (tmp_path / "emulated" / "convergence.csv").read_text()
    assert "This machine is emulated" in page.text


def test_columns_sort_in_a_browser(out: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = tmp_path / "index.html"
    clicks = """<script>
      const head = [...document.querySelectorAll("th")].find(each => each.textContent === "afterwards");
      const place = [...head.parentNode.children].indexOf(head);
      const seen = () => [...head.closest("table").tBodies[0].rows].map(row => row.cells[place].textContent).join(" ");
      head.querySelector("button").click(); document.title = seen();
      head.querySelector("button").click(); document.title += "|" + seen() + "|" + head.getAttribute("aria-sort");
    </script></body>"""
    page.write_text((out / "index.html").read_text().replace("</body>", clicks))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    title = re.search(r"<title>([^<]*)</title>", shown)
    assert title
    up, down, said = title[1].split("|")
    values = [float(value) for value in up.split()]
    assert len(values) == len(group(made_up_convergence()))
    assert values == sorted(values)
    assert [float(value) for value in down.split()] == values[::-1]
    assert said == "descending"


def test_what_is_no_result_is_refused(results: list[Path], tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    (tmp_path / "other.json").write_text('{"schema": "other"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "there").mkdir()
    out = tmp_path / "out"
    for given, said in (
        (
            (tmp_path / "other.json", "--out", out),
            "neither a result of fbkit bench convergence nor of fbkit bench device",
        ),
        ((tmp_path / "broken.json", "--out", out), "not readable as JSON"),
        ((tmp_path / "none.json", "--out", out), "no such file"),
        ((tmp_path / "there", "--out", out), "convergence.json: no such file"),
        ((results[0], "--out", tmp_path / "there"), "exists already"),
    ):
        outcome = fbkit("bench", "report", *given)
        assert outcome.code == 2, outcome
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
    assert not out.exists()
    with pytest.raises(UserError, match="is no report that could be replaced"):
        write_report([(results[0], made_up_convergence())], tmp_path / "there", make_room=True)
