"""The demo: its small form on every run, the real one (a minute or two) in full."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fbkit.benchmarks.convergence.groups import group, summarize
from fbkit.benchmarks.convergence.result import convergence_result_from_json
from tests.conftest import SMALL, Outcome, run_fbkit


class Page(HTMLParser):
    """Collects a page's cells and what it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.loads: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_cell = tag == "td"
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        if self._in_cell and data.strip():
            self.cells.append(data.strip())


def test_the_demo_in_small_leaves_what_it_says(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    out = tmp_path / "demo"
    outcome = fbkit("demo", "--out", out, *(flag for setting in SMALL for flag in ("--set", setting)))
    assert outcome.code == 0, outcome.err
    for path in re.findall(r"^(?:report|runs|bundles|pictures|curves): (.+)$", outcome.out, re.MULTILINE):
        assert Path(path).exists()
    result = json.loads((out / "demo.json").read_text())
    convergence = convergence_result_from_json(result["convergence"], "demo.json")
    assert {subject.source for subject in convergence.subjects} == {"fedbabu-onnx", "fedavg-onnx", "fedbabu-executorch"}
    assert len(convergence.clients) == 10
    assert all(seconds >= 0 for seconds in result["seconds"].values())

    page = Page((out / "report" / "index.html").read_text())
    assert page.loads == [], "the page must be readable without a network"
    for each in group(convergence):
        assert each.source in page.cells
        assert f"{summarize(each).final:.1f}" in page.cells
    assert (out / "report" / "index.html").read_text().count("<svg") == 2

    # The command that it names next works as it is printed.
    command = re.search(r"^next: \S*fbkit (.+)$", outcome.out, re.MULTILINE)
    assert command
    arguments = command[1].replace("my-profile", str(tmp_path / "profile")).split()
    assert fbkit(*arguments).code == 0


def test_the_demo_refuses_bad_input_in_one_line(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    (tmp_path / "file").touch()
    for arguments, said in (
        (("demo",), "--out DIR is missing"),
        (("demo", "--out", tmp_path), "exists already"),
        (("demo", "--device", "--out", tmp_path), "exists already"),
        (("demo", "--device", "--set", "seed=1"), "--device trains nothing"),
        (("demo", "--out", tmp_path / "x", "--set", "training.rounds=-1"), "training.rounds"),
    ):
        outcome = fbkit(*arguments)
        assert outcome.code == 2, outcome
        assert said in outcome.err
        assert outcome.err.count("\n") == 1, outcome


def test_the_real_demo_personalizes_by_at_least_eight_points(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains for a minute or two: in full only (make test-all)")
    out = tmp_path / "demo"
    result = run_fbkit("demo", "--out", out)
    assert result.returncode == 0, result.stderr
    convergence = convergence_result_from_json(json.loads((out / "demo.json").read_text())["convergence"], "demo.json")
    groups = {each.source: each for each in group(convergence)}
    for name in ("fedbabu-onnx", "fedbabu-executorch"):
        found = summarize(groups[name])
        assert found.final - found.shipped >= 8
    onnx, pte = (
        np.mean([curve.accuracy for curve in groups[f"fedbabu-{target}"].curves], axis=0)
        for target in ("onnx", "executorch")
    )
    assert onnx == pytest.approx(pte, abs=0.3)
