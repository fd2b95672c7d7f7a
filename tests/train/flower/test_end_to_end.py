"""A SuperLink and SuperNodes on loopback, `flwr run` with the example app, and the engine beside it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fbkit.export import export_run
from fbkit.train import open_run, train
from tests.train.flower.processes import APP, BIN, HOW_TO_MAKE, ROOT, FlowerPrograms
from tests.train.flower.silos import CLASSES, assert_same_model, engine_recipe, write_recipe, write_silos

pytestmark = pytest.mark.skipif(not (BIN / "flower-superlink").exists(), reason=HOW_TO_MAKE)

CONFIG: dict[str, Any] = {"classes": ",".join(CLASSES), "timeout": 120.0}


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[FlowerPrograms]:
    with FlowerPrograms(tmp_path) as programs:
        yield programs


def make_app(folder: Path, **changes: Any) -> Path:
    """The example, with a recipe of the tests."""
    shutil.copytree(APP, folder)
    write_recipe(folder / "recipe.toml", **changes)
    return folder


def test_two_silos_reach_what_the_engine_reaches(flower: FlowerPrograms, tmp_path: Path, full: bool) -> None:
    folders = write_silos(tmp_path / "silos")
    for client, folder in enumerate(folders):
        flower.start_silo(f"silo-{client}", folder, client)
    runs: dict[str, dict[str, Any]] = {"fedbabu": {"model": {"norm": "running"}}}
    if full:  # static statistics take a message for each layer
        runs["fedavg"] = {"training": {"algorithm": "fedavg", "weighting": "examples"}}
    for name, changes in runs.items():
        shown = flower.run(make_app(tmp_path / f"app-{name}", **changes), CONFIG | {"out": f"run-{name}"})
        assert f"run folder: {tmp_path / f'run-{name}'}" in shown, shown + flower.log("silo-0")
        run = open_run(tmp_path / f"run-{name}")
        engine = train(engine_recipe(tmp_path / "silos", **changes), tmp_path / f"engine-{name}", workers=1)
        assert_same_model(run, engine)
        assert run.description.input == engine.description.input
        assert run.evaluation.initial == engine.evaluation.initial
        assert run.evaluation.personalized == engine.evaluation.personalized
        assert run.evaluation.calibration.kept == engine.evaluation.calibration.kept
    assert export_run(run.folder, "onnx", tmp_path / "bundle").manifest.classes == CLASSES


def test_silos_that_cannot_take_part_and_one_that_dies(flower: FlowerPrograms, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("takes minutes; --all runs it")
    folders = write_silos(tmp_path / "silos")
    app = make_app(tmp_path / "app", training={"rounds": 4}, model={"norm": "group"})
    flower.start_silo("silo-0", folders[0], 0)
    flower.start_silo("silo-1", folders[1], 0)
    assert "both say that they are client 0" in flower.run(app, CONFIG | {"out": "run"})

    flower.interrupt("silo-1")
    flower.start_silo("silo-2", folders[1], 1)
    shown = flower.run(app, CONFIG | {"out": "run", "classes": "bee,cat"})
    assert "has pictures of a class that the run does not know; the run's are bee, cat" in shown
    assert "dog" not in shown
    assert f"{folders[1]} has dog" in flower.log("silo-2")

    flower.start_run(app, CONFIG | {"out": "run", "min-answers": 1})
    flower.wait_for("round 1/4: loss")
    flower.kill("silo-2")
    flower.wait_for("round 2/4: goes on without client 1: ")
    flower.start_silo("silo-3", folders[1], 1)
    shown = flower.finish_run()
    assert "client 1 is back" in shown
    assert open_run(tmp_path / "run").evaluation.clients == [0, 1]


def test_letters_travel_through_flower() -> None:
    """The tests of what imports Flower run where it is installed."""
    command = [str(BIN / "python"), "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    tests = ROOT / "tests" / "train" / "flower" / "test_messages.py"
    result = subprocess.run([*command, str(tests)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
