from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fbkit.benchmarks.convergence import run_convergence
from fbkit.device_runtime import Bundle, Personalizer, Schedule
from fbkit.device_runtime.solvers.sgd import fit_sgd
from tests.conftest import Outcome


def test_curves_are_those_of_the_solver_and_times_only_grow(
    onnx_bundle: Path, pte_bundle: Path, clients: Path, tmp_path: Path
) -> None:
    out, schedule = tmp_path / "out", Schedule(epochs=4, lr=0.02)
    result = run_convergence([onnx_bundle, pte_bundle], clients, out, schedule)
    assert sorted(path.name for path in out.iterdir()) == [
        "averages.csv",
        "convergence.json",
        "convergence.png",
        "convergence.svg",
        "curves.csv",
        "profiles",
    ]
    assert json.loads((out / "convergence.json").read_text()) == result
    rows = list(csv.DictReader((out / "curves.csv").open()))
    assert len(rows) == 2 * 2 * 5  # bundles, clients, epochs with the shipped head's

    bundle = Bundle.open(onnx_bundle)
    for client in sorted(clients.iterdir()):
        mine = [row for row in rows if row["bundle"] == onnx_bundle.name and row["client"] == client.name]
        assert [int(row["epoch"]) for row in mine] == [0, 1, 2, 3, 4]
        seconds = [float(row["seconds"]) for row in mine]
        assert seconds[0] == 0
        assert seconds == sorted(seconds)
        personalizer = Personalizer(bundle)
        train, test = personalizer.read_folder(client / "train"), personalizer.read_folder(client / "test")
        heads = [bundle.head]
        fit_sgd(bundle.head, *train, schedule, listener=lambda _epoch, head, _loss, heads=heads: heads.append(head))  # type: ignore[misc]
        for row, head in zip(mine, heads, strict=True):
            assert float(row["test_accuracy"]) == pytest.approx(head.accuracy(*test))
            assert float(row["test_loss"]) == pytest.approx(head.loss(*test), rel=1e-4)

    summary = result["bundles"][onnx_bundle.name]
    last = [float(row["test_accuracy"]) for row in rows if row["bundle"] == onnx_bundle.name and row["epoch"] == "4"]
    assert summary["test_accuracy"][-1] == pytest.approx(np.mean(last))
    assert summary["test_accuracy_worst"][-1] == pytest.approx(min(last))
    ends = [summary["clients"][client.name]["test_accuracy"][-1] for client in sorted(clients.iterdir())]
    assert ends == pytest.approx(last)
    averages = list(csv.DictReader((out / "averages.csv").open()))
    assert len(averages) == 2 * 5
    assert float(averages[4]["test_accuracy"]) == pytest.approx(np.mean(last), rel=1e-5)
    assert 0 < summary["seconds_features"] < summary["seconds"][1]


def test_the_command_prints_a_table_and_where_things_are(
    onnx_bundle: Path, clients: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    outcome = fbkit("bench", "convergence", onnx_bundle, "--clients", clients, "--out", tmp_path / "o", "--epochs", 2)
    assert outcome.code == 0, outcome.err
    assert "small-onnx" in outcome.out
    assert str(tmp_path / "o" / "curves.csv") in outcome.out
    assert json.loads((tmp_path / "o" / "convergence.json").read_text())["schedule"]["epochs"] == 2


def test_bad_input_ends_in_one_line_and_leaves_nothing(
    onnx_bundle: Path, clients: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    twin = Path(shutil.copytree(onnx_bundle, tmp_path / "twin" / onnx_bundle.name))
    half = Path(shutil.copytree(clients, tmp_path / "half"))
    shutil.rmtree(next(half.iterdir()) / "test")
    broken = Path(shutil.copytree(clients, tmp_path / "broken"))
    next(broken.rglob("*.png")).write_bytes(b"no")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out" / "result"
    cases = [
        ((onnx_bundle, twin, "--clients", clients), "bundles must have different folder names"),
        ((onnx_bundle, "--clients", half), "test: no such folder; every client needs one"),
        ((onnx_bundle, "--clients", tmp_path / "empty"), "holds no clients"),
        ((onnx_bundle, "--clients", sorted(clients.iterdir())[0]), "is a single client; give the folder that holds it"),
        ((onnx_bundle, "--clients", tmp_path / "none"), "no such folder"),
        ((onnx_bundle, "--clients", broken), "not a picture that can be read"),
        ((tmp_path / "none", "--clients", clients), "no such bundle folder"),
    ]
    for arguments, said in cases:
        outcome = fbkit("bench", "convergence", *arguments, "--out", out)
        assert outcome.code == 2, outcome
        assert said in outcome.err, outcome
        assert outcome.err.count("\n") == 1, outcome
        assert not out.parent.exists() or not list(out.parent.iterdir())
