"""The demo: its small form on every run, the real one (a minute or two) in full."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fbkit.benchmarks.convergence.groups import group, summarize
from fbkit.benchmarks.convergence.result import convergence_result_from_json
from tests.conftest import FBKIT, SMALL, Outcome, run_fbkit


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


IN_SMALL = [flag for setting in SMALL for flag in ("--set", setting)]


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder demo-out and what the command said, in its folder's parent."""
    folder = tmp_path_factory.mktemp("demo")
    command = [str(FBKIT), "demo", "--out", "demo-out", *IN_SMALL]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder / "demo-out", ended.stdout


def test_getting_started_works_line_by_line(small_demo: tuple[Path, str]) -> None:
    """As it stands in the page, but for the demo, which ran before, and for a smaller model to train."""
    folder = small_demo[0].parent
    path = f"{FBKIT.parent}:{os.environ['PATH']}"
    page = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text()
    lines = re.findall(r"^    (fbkit .+)$", page, re.MULTILINE)
    assert len(lines) >= 10
    said = {}
    for line in lines:
        if line.startswith("fbkit demo"):
            assert line == "fbkit demo --out demo-out"
            continue
        smaller = f" {shlex.join(IN_SMALL)} --set training.rounds=2" if line.startswith("fbkit train") else ""
        command, environment = ["bash", "-c", line + smaller], {**os.environ, "PATH": path}
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}: {ended.stderr}"
        said[line.split()[1]] = ended.stdout
    assert "personal head" in said["personalize"]
    assert "shipped head" in said["evaluate"]
    assert "the shipped head" in said["profile"]


def test_the_demo_in_small_leaves_what_it_says(
    small_demo: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fbkit: Callable[..., Outcome]
) -> None:
    out, shown = small_demo
    monkeypatch.chdir(out.parent)
    for path in re.findall(r"^(?:report|runs|bundles|pictures|curves): (.+)$", shown, re.MULTILINE):
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
    command = re.search(r"^next: \S*fbkit (.+)$", shown, re.MULTILINE)
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
