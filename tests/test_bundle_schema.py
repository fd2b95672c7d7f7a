"""The published JSON Schema of a bundle's manifest says what the reader does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from fbkit.device_runtime.manifest import parse_manifest
from fbkit.errors import UserError

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "bundle.schema.json").read_text())
FIXTURE = Path(__file__).parent / "device_runtime" / "fixtures" / "bundle-v1" / "manifest.json"

Manifest = dict[str, Any]
Place = tuple[str | int, ...]

# Put into every place of a manifest. What is good in one is bad in another.
ODD: list[Any] = [
    *(None, True, False, {}, [], {"file": "body.onnx"}, {"file": "b/c"}, {"x": {"bytes": 1, "sha256": "a" * 64}}),
    *(-1, 0, 1, 2, 3, 9, 10, 50, 4096, 4097, 10**5, 10**5 + 1, 10**6, 10**6 + 1, 2**31, 2**31 + 1),
    *(-1e30, -1.1e30, 1e30, 1.1e30, 1e-300, 1e-6, 2e-6, 0.01, 0.011, 0.1, 0.11, 0.999, 1.5),
    *(
        "",
        "a",
        ".a",
        "a/b",
        "..",
        "a\n",
        "a b",
        "a\u00a0b",
        "a\u200bb",
        "日本",
        "\x1b[2J",
        "fp32",
        "onnx",
        "executorch",
    ),
    *(
        "head.safetensors",
        "manifest.json",
        "x" * 64,
        "x" * 65,
        "x" * 200,
        "x" * 201,
        "f" * 64,
        "F" * 64,
        "f" * 63 + "\n",
    ),
    *([1], [1, 1], [1, 4096], [0], [1, 4097], [32], [1] * 101, list(range(1, 101)), list(range(1, 102))),
    *([0.5], [0.0, 0.5, 1.0], [0.5, 0.5], [1e-6, 1, 1], [True], ["a", "b"], ["a", "a"], ["a", ".b"], ["a"], ["a", 1]),
]


def manifests() -> dict[str, Manifest]:
    """One of each version, target and precision, with everything that can be in it."""
    version1 = json.loads(FIXTURE.read_text())
    onnx = copy.deepcopy(version1)
    onnx["version"] = 2
    onnx["head_step"]["classes"] = 14
    onnx["personalization"] = {"epochs": 7, "lr": 0.02, "momentum": 0.8, "batch_size": 20, "penalty": 3.0}
    onnx["graph"] = {"operators": {"Conv": 4}}
    onnx["model"] = {"file": "model.onnx"}
    onnx["training_module"] = {"file": "training.pte"}
    onnx["files"] |= {name: {"bytes": 3, "sha256": "0" * 64} for name in ("model.onnx", "training.pte")}
    pte = copy.deepcopy(onnx)
    pte["target"], pte["precision"], pte["probe"]["tolerance"] = "executorch", "int8", 0.05
    pte["body"]["batch_sizes"] = [1, 32]
    pte["input"] |= {"channels": 3, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    return {"version 1": version1, "onnx": onnx, "executorch": pte}


def refusal(manifest: Manifest | bytes) -> str:
    """What the reader says against a manifest; empty where it takes it."""
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    try:
        parse_manifest(data, Path("manifest.json"))
    except UserError as error:
        return str(error)
    return ""


def is_valid(manifest: Manifest) -> bool:
    return bool(Draft202012Validator(SCHEMA).is_valid(manifest))


def is_good(manifest: Manifest) -> bool:
    """What schema and reader both say."""
    valid, said = is_valid(manifest), refusal(manifest)
    assert valid == (not said), said or "the reader takes what the schema does not"
    return valid


def places(value: Any, before: Place = ()) -> Iterator[Place]:
    """Every place below a value, but none below a key whose content is free."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*before, key)
        if key not in ("graph", "provenance", "verification"):
            yield from places(value[key], (*before, key))


def changed(manifest: Manifest, place: Place, change: Callable[[Any, Any], None]) -> Manifest:
    """A copy, with ``change`` done to the last container on the way to ``place`` and its key."""
    result = copy.deepcopy(manifest)
    container: Any = result
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    return result


def put(manifest: Manifest, place: Place, value: Any) -> Manifest:
    return changed(manifest, place, lambda container, key: container.__setitem__(key, value))


def drop(manifest: Manifest, place: Place) -> Manifest:
    return changed(manifest, place, lambda container, key: container.__delitem__(key))


def test_the_schema_is_one() -> None:
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(SCHEMA)


def test_manifests_as_they_are_written_are_valid(onnx_bundle: Path, pte_bundle: Path) -> None:
    for path in (FIXTURE, onnx_bundle / "manifest.json", pte_bundle / "manifest.json"):
        Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("name", manifests())
def test_schema_and_reader_judge_alike_what_was_changed(name: str, full: bool) -> None:
    manifest = manifests()[name]
    assert is_good(manifest)
    every = list(places(manifest))
    cases = [(f"{place} = {odd!r}", put(manifest, place, odd)) for place in every for odd in ODD]
    if not full:
        cases = [cases[case] for case in np.random.default_rng(0).permutation(len(cases))[:300]]
    cases += [(f"without {place}", drop(manifest, place)) for place in every]
    verdicts = set()
    for what, case in cases:
        valid, said = is_valid(case), refusal(case)
        # The two rules of one key about another that the schema cannot say.
        if valid and ("manifest.json: files lacks " in said or _has_fewer_step_classes(case)):
            continue
        assert valid == (not said), f"{what}: {said or 'the reader takes it'}"
        verdicts.add(valid)
    assert verdicts == {True, False}


def _has_fewer_step_classes(manifest: Manifest) -> bool:
    return bool(manifest["version"] == 2 and manifest["head_step"]["classes"] < len(manifest["classes"]))


@pytest.mark.parametrize(
    ("place", "good", "bad"),
    [
        (("classes",), ["a", "b"], ["a"]),
        (("classes",), ["a", "b"], ["a", "a"]),
        (("classes", 0), "x" * 200, "x" * 201),
        (("classes", 0), "a.b c", ".b"),
        (("classes", 0), "1", 1),
        (("body", "file"), "head.safetensors", 1),
        (("classes", 0), "日本", "日/本"),
        (("input", "channels"), 1, 2),
        (("input", "height"), 4096, 4097),
        (("input", "width"), 1, 0),
        (("input", "mean"), [1e30], [1.1e30]),
        (("input", "mean"), [-1e30], [-1.1e30]),
        (("input", "mean"), [0], [0, 0]),
        (("input", "std"), [1e30], [1.1e30]),
        (("input", "std"), [1.01e-6], [1e-6]),
        (("input", "std"), [1], [1, 1]),
        (("features",), 10**6, 10**6 + 1),
        (("features",), 1, 0),
        (("body", "batch_sizes"), [], [1]),
        (("head_step", "batch_size"), 4096, 4097),
        (("head_step", "classes"), 10**5, 10**5 + 1),
        (("head_step", "classes"), 10, 1),
        (("probe", "tolerance"), 0.01, 0.0101),
        (("probe", "tolerance"), 1e-300, 0),
        (("files", "x"), {"bytes": 2**31, "sha256": "0" * 64}, {"bytes": 2**31 + 1, "sha256": "0" * 64}),
        (("files", "x"), {"bytes": 1, "sha256": "f" * 64}, {"bytes": 0, "sha256": "f" * 64}),
        (("files", "body.onnx", "sha256"), "9" * 64, "9" * 63),
        (("files", "body.onnx", "sha256"), "9" * 64, 9),
        (("files", "body.onnx", "sha256"), "a" * 64, "a" * 65),
        (("files", "body.onnx", "sha256"), "a" * 64, "A" * 64),
        (("files", "body.onnx", "sha256"), "a" * 64, "a" * 63 + "\n"),
        (("personalization", "epochs"), 10**5, 10**5 + 1),
        (("personalization", "epochs"), 1, 0),
        (("personalization", "lr"), 1e30, 1.1e30),
        (("personalization", "lr"), 1e-300, 0),
        (("personalization", "momentum"), 0, -1e-300),
        (("personalization", "momentum"), 0.999, 1),
        (("personalization", "batch_size"), 10**6, 10**6 + 1),
        (("personalization", "batch_size"), 1, 0),
        (("personalization", "penalty"), 1e30, 1.1e30),
        (("personalization", "penalty"), 1e-300, 0),
        (("version",), 1, 3),
    ],
)
def test_schema_and_reader_draw_the_same_lines(place: Place, good: Any, bad: Any) -> None:
    manifest = manifests()["onnx"]
    assert is_good(put(manifest, place, good))
    assert not is_good(put(manifest, place, bad))


@pytest.mark.parametrize(
    ("place", "good", "bad"),
    [
        (("body", "batch_sizes"), [4096, 1], [4097, 1]),
        (("body", "batch_sizes"), [1, 2], [2]),
        (("body", "batch_sizes"), [1, 2], [1, 2, 2]),
        (("body", "batch_sizes"), list(range(1, 101)), list(range(1, 102))),
        (("probe", "tolerance"), 0.1, 0.101),
        (("input", "mean"), [1, 2, 3], [1, 2, 3, 4]),
        (("input", "std"), [1, 2, 3], [1, 2]),
        (("input", "std"), [1, 2, 3], [1, 2, 3, 4]),
    ],
)
def test_they_do_for_executorch_and_int8(place: Place, good: Any, bad: Any) -> None:
    manifest = manifests()["executorch"]
    assert is_good(put(manifest, place, good))
    assert not is_good(put(manifest, place, bad))


@pytest.mark.parametrize(
    ("name", "good"),
    [
        *(("a", True), ("7_B.b-c", True), ("x" * 64, True)),
        *(("x" * 65, False), ("", False), ("_a", False), (".a", False), ("a/b", False), ("a\n", False), ("é", False)),
        *(("manifest.json", False), ("signature.json", False)),
    ],
)
def test_they_know_the_same_file_names(name: str, good: bool) -> None:
    manifest = put(manifests()["onnx"], ("files", name), {"bytes": 1, "sha256": "0" * 64})
    assert is_good(manifest) == good


def test_they_end_at_the_same_number_of_classes(full: bool) -> None:
    names = [f"{number}" for number in range(100_001)]
    manifest = manifests()["version 1"]
    assert not is_good(put(manifest, ("classes",), names))
    if full:
        assert is_good(put(manifest, ("classes",), names[:-1]))


@pytest.mark.parametrize("place", [(), ("input",), ("body",), ("head",), ("files", "body.onnx"), ("personalization",)])
def test_unknown_keys_are_welcome(place: Place) -> None:
    assert is_good(put(manifests()["onnx"], (*place, "new"), {"any": [1, None]}))


def test_what_version_1_did_not_have_means_nothing_there() -> None:
    manifest = manifests()["version 1"] | {"graph": 1, "personalization": "none"}
    manifest["head_step"]["classes"] = "many"
    assert is_good(manifest)


NESTED: Any = 1
for _ in range(32):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("body", "file"), "other.onnx", "files lacks other.onnx"),
        (("training_module", "file"), "other.pte", "files lacks other.pte"),
        (("head_step", "classes"), 9, "must be a whole number from 10"),
        (("features",), 256.0, "must be a whole number"),
        (("body", "batch_sizes"), [1.0], "must be a whole number"),
        (("classes",), ["a", "\ud800"], "cannot name a folder"),
        (("classes",), ["a", "\u0378"], "cannot name a folder"),  # a character that Unicode does not have yet
        (("provenance", "x"), float("nan"), "NaN is not JSON"),
        (("provenance", "x"), NESTED, "nested more than 32 deep"),
        (("provenance", "x"), "x" * 2**24, "larger than"),
    ],
)
def test_only_these_rules_are_the_readers_own(place: Place, value: Any, said: str) -> None:
    name = "executorch" if "batch_sizes" in place else "onnx"
    manifest = put(manifests()[name], place, value)
    assert is_valid(manifest)
    assert said in refusal(manifest)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"features": 256', '"features": 256, "features": 256', "stands twice"),
        ('"seed": 0', '"seed": 1e999', "too large"),
    ],
)
def test_of_what_stands_in_the_text_the_schema_knows_nothing(old: str, new: str, said: str) -> None:
    text = FIXTURE.read_text()
    assert old in text
    text = text.replace(old, new, 1)
    assert is_valid(json.loads(text))
    assert said in refusal(text.encode())
