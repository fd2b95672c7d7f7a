from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from fbkit.benchmarks.export_matrix.cells import export_as_advised
from fbkit.benchmarks.export_matrix.timing import is_timed
from fbkit.benchmarks.export_matrix.weights import MODELS, TRAININGS, start_model, write_pictures
from fbkit.device_runtime.manifest import read_manifest
from fbkit.errors import UserError
from fbkit.export import export_model
from fbkit.export.own_model import exportable_model
from fbkit.train.models.names import SMALL, TORCHVISION
from tests.conftest import Outcome
from tests.export.own_nets import Net, make_own, unbalance

Run = Callable[..., Outcome]

CELLS = [f"conv4-{target}-{precision}" for target in ("onnx", "executorch") for precision in ("fp32", "int8")]


def rows_of(markdown: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_command_measures_a_model_and_goes_on(fbkit: Run, tmp_path: Path, full: bool, onnx_bundle: Path) -> None:
    """A narrow 4-conv net, and a bundle that is there already, as if made before."""
    if not full:
        pytest.skip("trains, exports and times: in full only (make test-all)")
    out = tmp_path / "matrix"
    command = ("bench", "export", "--out", out, "--models", "conv4", "--rounds", 1, "--width", 8)
    placed = {"conv4-onnx-fp32": onnx_bundle}
    for name, folder in placed.items():
        shutil.copytree(folder, out / "bundles" / name)
        (out / "folder.json").write_text(json.dumps({"schema": "fbkit.export-matrix", "version": 1}))
    shown = fbkit(*command)
    assert shown.code == 0, shown.err
    assert (out / "export.md").read_text() in shown.out
    assert [f"{cell}: exported" in shown.err for cell in CELLS] == [cell not in placed for cell in CELLS]

    result = json.loads((out / "export.json").read_text())
    rows = rows_of((out / "export.md").read_text())
    assert result["failed"] == {}
    assert len(result["cells"]) == len(rows) == len(CELLS)
    for cell, found, row in zip(CELLS, result["cells"], rows, strict=True):
        assert f"{found['model']}-{found['target']}-{found['precision']}" == cell
        bundle = out / "bundles" / cell
        size = next(bundle.glob("body.*")).stat().st_size
        verification = read_manifest(bundle).verification
        assert (found["body_bytes"], row["body, MB"]) == (size, f"{size / 1e6:.2f}")
        assert (found["agreement"], row["same top 1"]) == (
            verification["agreement"],
            f"{verification['agreement']:.1f}%",
        )
        lost = verification["torch_accuracy"] - verification["bundle_accuracy"]
        assert row["points lost"] == f"{lost:.1f}"
        assert (row["weights"], row["pictures"]) == ("trained", "1x28x28")
        assert all(found[time] > 0 for time in ("alone_ms", "batch_ms", "opening_ms"))
        assert found["opening_ms"] > found["alone_ms"]  # it has one look in it
    assert {path.name for path in out.glob("export.*")} == {f"export.{kind}" for kind in ("json", "md", "png", "svg")}

    before = contents(out)
    (out / "times" / f"{CELLS[0]}.json").unlink()
    assert fbkit(*command).code == 0
    after = contents(out)
    assert before.keys() == after.keys()
    remade = {name for name, stamp in after.items() if stamp != before[name]}
    assert remade == {f"times/{CELLS[0]}.json"}
    assert is_timed(out / "bundles" / CELLS[0], out / "times" / f"{CELLS[0]}.json")
    assert not is_timed(out / "bundles" / CELLS[0], out / "times" / f"{CELLS[1]}.json")

    shown = fbkit(*command[:-1], 9)
    assert shown.code == 2
    assert "conv4: has other --rounds or --width" in shown.err


def contents(out: Path) -> dict[str, int]:
    """When each file of runs, bundles and times was written."""
    folders = ("runs", "bundles", "times")
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for folder in folders
        for path in (out / folder).rglob("*")
        if path.is_file()
    }


class Deeper(Net):
    """Neither the first convolution nor the last is the one that ``unbalance`` makes int8 ruin."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        layers = list(self.layers)
        last = [nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:6], *last, *layers[6:])


@pytest.mark.parametrize(("kind", "advised"), [(Net, ("layers.0", "layers.3")), (Deeper, ("layers.0", "layers.6"))])
def test_int8_that_costs_too_much_is_exported_as_advised(
    kind: type[Net], advised: tuple[str, ...], tmp_path: Path
) -> None:
    """Where the advice is not enough the figures are had all the same."""
    own = make_own(tmp_path, kind, after=unbalance)
    manifest = export_as_advised(partial(export_model, own.model, "onnx", tmp_path / "bundle"), "int8").manifest
    found = manifest.verification
    assert tuple(manifest.provenance["keep_float"]) == advised
    assert (found["torch_accuracy"] - found["bundle_accuracy"] <= 0.5) == (kind is Net)


def test_what_is_refused_for_another_reason_stays_refused(tmp_path: Path) -> None:
    own = make_own(tmp_path, each=3)
    with pytest.raises(UserError, match=r"9 pictures are too few for --precision int8"):
        export_as_advised(partial(export_model, own.model, "onnx", tmp_path / "bundle"), "int8")


def test_a_random_start_has_the_pictures_statistics(tmp_path: Path) -> None:
    """By hand: the mean over batches of 50 of what the first normalisation sees."""
    pictures = tmp_path / "pictures"
    write_pictures(pictures)
    paths = sorted(pictures.iterdir())
    assert len(paths) == 1300
    start_model("mobilenet_v3_small", pictures, tmp_path / "start.safetensors")
    own = start_model("mobilenet_v3_small", pictures, tmp_path / "start.safetensors")
    exportable = exportable_model(own, "int8")
    assert exportable.calibration is not None and len(exportable.verification) == 1000

    stem = exportable.model.body.get_submodule("features.0.0")
    chosen = np.sort(np.random.default_rng(0).permutation(1300)[:300])
    seen = [
        np.asarray(Image.open(paths[row]).convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)) for row in chosen
    ]
    images = ((torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2) / 255 - 0.2860) / 0.3530).split(50)
    with torch.no_grad():
        means = torch.stack([stem(batch).mean((0, 2, 3)) for batch in images]).mean(0)
    saved = load_file(own.weights)
    torch.testing.assert_close(saved["body.features.0.1.running_mean"], means, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        features = exportable.model.body(images[0])
    assert features.isfinite().all() and features.std(0).max() > 1e-3


def test_every_model_of_the_registry_is_in_the_matrix() -> None:
    assert {*SMALL, *TORCHVISION} == set(MODELS) > set(TRAININGS)


def test_a_random_start_is_measured_without_accuracy(fbkit: Run, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("long")
    out = tmp_path / "matrix"
    shown = fbkit("bench", "export", "--out", out, "--models", "mobilenet_v3_small")
    assert shown.code == 0, shown.err
    for found, row in zip(json.loads((out / "export.json").read_text())["cells"], rows_of(shown.out), strict=True):
        assert row["weights"] == "untrained"
        assert row["accuracy: torch"] == row["bundle"] == row["points lost"] == row["kept fp32"] == ""
        assert found["pictures"] == 1000
        assert found["feature_error"] > 0


def test_bad_input_ends_in_one_line(fbkit: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "export.md").write_text("mine")
    marked = tmp_path / "marked"
    marked.mkdir()
    (marked / "folder.json").write_text('{"schema": "another", "version": 1}')
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--out", tmp_path / "new", "--models", "conv5"), "--models conv5: known are conv4, mobilenet,"),
        (("--out", tmp_path / "new", "--models", ","), "known are conv4, mobilenet,"),
        (("--out", other), "exists and was not made by fbkit bench export; choose another --out"),
        (("--out", marked), "folder.json: not of a folder that this fbkit bench export can go on with"),
    ]
    for arguments, said in cases:
        shown = fbkit("bench", "export", *arguments)
        assert (shown.code, shown.err.count("\n")) == (2, 1)
        assert said in shown.err
    assert not (tmp_path / "new").exists()
    assert [path.name for path in other.iterdir()] == ["export.md"]
