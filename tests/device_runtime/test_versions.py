"""Bundles of every version of the format; ``fixtures/`` keeps one of each older one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.checking import check_bundle
from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.fitting import Recipe
from fbkit.device_runtime.manifest import VERSION, read_manifest
from fbkit.device_runtime.solvers.sgd import Schedule, Step, numpy_step
from tests.conftest import Outcome

FIXTURES = Path(__file__).parent / "fixtures"
PICTURES = FOLDER / "pictures"


@pytest.mark.parametrize("version", range(1, VERSION))
def test_an_older_bundle_opens_and_personalizes(version: int, tmp_path: Path) -> None:
    folder = FIXTURES / f"bundle-v{version}"
    assert read_manifest(folder).version == version
    assert max(check_bundle(folder).errors.values()) < 1e-5
    bundle = Bundle.open(folder)
    recipe = Recipe("sgd", "keep", 0.0, Schedule(epochs=3, lr=0.01))
    losses = {}
    steps: dict[str, Step] = {"numpy": numpy_step, "graph": bundle.graph_step}
    for name, step in steps.items():
        personalizer = Personalizer(bundle, tmp_path / name)
        result = personalizer.fit(PICTURES / "train", recipe, step=step)
        assert result.loss_after < result.loss_before
        losses[name] = result.loss_after
        evaluation = personalizer.evaluate(PICTURES / "test")
        assert evaluation.personal_accuracy is not None
        assert evaluation.personal_accuracy > evaluation.shipped_accuracy
    assert losses["numpy"] == pytest.approx(losses["graph"], rel=1e-5)


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_a_newer_bundle_is_refused_with_advice(tmp_path: Path, command: str, fbkit: Callable[..., Outcome]) -> None:
    folder = Path(shutil.copytree(FOLDER / "bundle", tmp_path / "bundle"))
    value = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({"schema": value["schema"], "version": VERSION + 1}))
    outcome = fbkit(command, folder)
    assert outcome.code == 2
    said = f"version is {VERSION + 1}, this fbkit reads versions up to {VERSION}; upgrade fbkit to open this bundle"
    assert outcome.err == f"fbkit: {folder / 'manifest.json'}: {said}\n"
