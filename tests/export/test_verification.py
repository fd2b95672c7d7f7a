"""Bundles that differ from torch, or lose too much to int8, are not written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from fbkit.errors import UserError
from fbkit.export import Options, export_model
from tests.export.own_nets import OtherInTheDark, OtherWhenExported, Own, make_own, unbalance


@pytest.mark.parametrize(
    ("kind", "target"),
    [(OtherWhenExported, "onnx"), (OtherWhenExported, "executorch"), (OtherInTheDark, "onnx")],
)
def test_a_body_that_computes_something_else_is_not_written(
    kind: type[nn.Module], target: str, tmp_path: Path, full: bool
) -> None:
    """The second kind differs on dark pictures alone, and the probe has none."""
    if target == "executorch" and not full:
        pytest.skip("long")
    own = make_own(tmp_path, kind, each=10, brightness=20)
    with pytest.raises(UserError, match=r"the exported body differs from torch: .*; no bundle was written"):
        export_model(own.model, target, tmp_path / "new" / "bundle")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """A net that int8 ruins."""
    return make_own(tmp_path_factory.mktemp("unbalanced"), after=unbalance)


def test_int8_that_costs_accuracy_is_refused_unless_accepted_or_avoided(unbalanced: Own, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        export_model(unbalanced.model, "onnx", tmp_path / "new" / "bundle", Options("int8"))
    said = str(caught.value)
    assert "points of accuracy on 60 pictures" in said
    assert "--keep-float layers.0" in said
    assert "--accept-loss" in said
    assert list((tmp_path / "new").iterdir()) == []
    bundle = export_model(unbalanced.model, "onnx", tmp_path / "bundle", Options("int8", accept_loss=True))
    found = bundle.manifest.verification
    assert found["bundle_accuracy"] < found["torch_accuracy"] - 0.5
    kept = Options("int8", keep_float=("layers.0", "layers.3"))
    found = export_model(unbalanced.model, "onnx", tmp_path / "kept", kept).manifest.verification
    assert found["bundle_accuracy"] == found["torch_accuracy"]


def test_without_labels_int8_is_judged_by_agreement(unbalanced: Own, tmp_path: Path) -> None:
    unnamed = tmp_path / "pictures"
    unnamed.mkdir()
    for path in unbalanced.model.calibrate.iterdir():
        (unnamed / f"not-{path.name}").symlink_to(path)
    with pytest.raises(
        UserError, match=r"changes .*% of the predictions on 60 pictures without labels \(allowed are 2%"
    ):
        export_model(replace(unbalanced.model, calibrate=unnamed), "onnx", tmp_path / "bundle", Options("int8"))
