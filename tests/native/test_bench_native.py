"""``fbkit bench native``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fbkit.device_runtime.demo import FOLDER as DEMO
from tests.conftest import Outcome

PICTURES = DEMO / "pictures"


def test_time_memory_and_agreement_lie_side_by_side(
    sanitized: Path, pte_bundle: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    given = ("--pictures", PICTURES / "train", "--unseen", PICTURES / "test", "--native", sanitized)
    outcome = fbkit("bench", "native", pte_bundle, *given, "--out", tmp_path / "out", "--turns", 1)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "native.md").read_text().strip() in outcome.out
    result = json.loads((tmp_path / "out" / "native.json").read_text())
    (found,) = result["found"]
    for name in ("Python", "native"):
        for command in ("predict", "personalize"):
            (took,) = found["times"][name][command]
            assert took["seconds"] > 0
            assert took["memory"] > 1e6
    assert found["agreement"]["features"] < 1e-4
    assert 0 <= found["agreement"]["sgd"] < 1e-4
    assert found["agreement"]["same"] == found["agreement"]["predictions"] == len(list((PICTURES / "test").glob("*/*")))
    assert result["folders"][sanitized.name] > 1e6


def test_what_cannot_be_compared_is_refused(
    sanitized: Path, pte_bundle: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    train, out = ("--pictures", PICTURES / "train"), ("--out", tmp_path / "out")
    unseen = ("--unseen", PICTURES / "test")
    for given, said in (
        ((pte_bundle, *train, *unseen, "--native", tmp_path), "make it with: make native"),
        ((pte_bundle, *train, "--unseen", tmp_path, "--native", sanitized), "holds no folder with pictures"),
        ((DEMO / "bundle", *train, *unseen, "--native", sanitized), "runs .pte bundles"),
    ):
        outcome = fbkit("bench", "native", *given, *out)
        assert outcome.code == 2
        assert said in outcome.err
    assert not (tmp_path / "out").exists()
