"""Ways in which a bundle is broken, or made to break whoever opens it."""

from __future__ import annotations

import functools
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from fbkit.files import sha256_file

Change = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Mutation:
    """``change`` is done to a bundle's folder; then, if ``sealed``, the manifest gets the checksums that fit."""

    change: Change
    sealed: bool

    def __str__(self) -> str:
        return self.change.__name__ + (" (sealed)" if self.sealed else "")

    def apply(self, folder: Path, rng: random.Random) -> None:
        self.change(folder, rng)
        if self.sealed:
            seal(folder)


def seal(folder: Path) -> None:
    """Rewrite the checksums, as an attacker or a broken exporter would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
    path.write_text(json.dumps(manifest))


def part(folder: Path, role: str) -> Path:
    """The file of a role: body, head, head_step, probe."""
    name: str = json.loads((folder / "manifest.json").read_text())[role]["file"]
    return folder / name


def files(folder: Path) -> list[Path]:
    return [folder / name for name in json.loads((folder / "manifest.json").read_text())["files"]]


def graphs(folder: Path) -> list[Path]:
    return [path for path in files(folder) if path.suffix != ".safetensors"]


def any_file(folder: Path, rng: random.Random) -> Path:
    """Graphs are the larger risk, and drawn more often."""
    return rng.choice([*files(folder), *graphs(folder), *graphs(folder)])


# Bytes


def flip_bits(folder: Path, rng: random.Random) -> None:
    path = any_file(folder, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def flip_bits_at_the_start(folder: Path, rng: random.Random) -> None:
    """Where formats keep what they believe about the rest."""
    path = any_file(folder, rng)
    data = bytearray(path.read_bytes())
    data[rng.randrange(min(256, len(data)))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def write_a_number(folder: Path, rng: random.Random) -> None:
    """Over an aligned place, where flatbuffers keep offsets, lengths and sizes."""
    path = any_file(folder, rng)
    data = bytearray(path.read_bytes())
    width = rng.choice([1, 2, 4, 8])
    value = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, rng.randrange(256)])
    place = rng.randrange(len(data) // width) * width
    data[place : place + width] = (value % 256**width).to_bytes(width, "little")
    path.write_bytes(data)


def overwrite(folder: Path, rng: random.Random) -> None:
    path = any_file(folder, rng)
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    count = min(rng.choice([4, 64, 1024]), len(data) - start)
    data[start : start + count] = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count)])
    path.write_bytes(data)


def move_a_piece(folder: Path, rng: random.Random) -> None:
    path = any_file(folder, rng)
    data = path.read_bytes()
    first, second, target = sorted(rng.randrange(len(data)) for _ in range(3))
    path.write_bytes(data[:first] + data[second:target] + data[first:second] + data[target:])


def truncate(folder: Path, rng: random.Random) -> None:
    path = any_file(folder, rng)
    data = path.read_bytes()
    path.write_bytes(data[: rng.choice([1, len(data) - 1, rng.randrange(1, len(data))])])


def append(folder: Path, rng: random.Random) -> None:
    with any_file(folder, rng).open("ab") as file:
        file.write(rng.choice([b"\0", rng.randbytes(100), bytes(100_000)]))


# Files


def remove(folder: Path, rng: random.Random) -> None:
    rng.choice([*files(folder), folder / "manifest.json"]).unlink()


def replace_by_a_link(folder: Path, rng: random.Random) -> None:
    path = rng.choice([*files(folder), folder / "manifest.json"])
    moved = path.rename(folder.parent / f"{folder.name}-{path.name}")
    path.symlink_to(rng.choice([moved, Path("/etc/passwd"), Path("/dev/zero"), path]))


def replace_by_something_else(folder: Path, rng: random.Random) -> None:
    path = rng.choice([*files(folder), folder / "manifest.json"])
    path.unlink()
    rng.choice([os.mkfifo, os.mkdir])(path)


def swap_files(folder: Path, rng: random.Random) -> None:
    first, second = rng.sample(files(folder), 2)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


# safetensors


def other_tensors(folder: Path, rng: random.Random) -> None:
    """NaN, infinity, other shapes and dtypes, names missing or new."""
    path = part(folder, rng.choice(["head", "probe"]))
    tensors = dict(load_file(path))
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    changed = tensor.astype(np.float32).copy()
    changed.flat[rng.randrange(changed.size)] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
    replaced: dict[str, Any] = rng.choice(
        [
            {name: changed},
            {name: tensor.astype(rng.choice([np.float64, np.float16, np.int64, np.uint8]))},
            {name: np.ascontiguousarray(tensor[:-1])},
            {name: np.ascontiguousarray(tensor[:0])},
            {name: np.ascontiguousarray(tensor[None])},
            {name: np.ascontiguousarray(tensor.T)},
            {f"{name}2": tensor},
            {name: tensor, "more": tensor},
            {},
        ]
    )
    save_file(tensors | replaced, path)


def other_header(folder: Path, rng: random.Random) -> None:
    """A header that lies about what follows, or is hard to read."""
    path = part(folder, rng.choice(["head", "probe"]))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(sorted(header))
    entry = dict(header[name])
    huge = rng.choice([2**31, 2**62, 2**63, 2**64 - 1, 10**30])
    changes = [
        {"shape": [huge, *entry["shape"][1:]]},
        {"shape": [0, huge]},
        {"shape": [-1, *entry["shape"][1:]]},
        {"data_offsets": [entry["data_offsets"][0], huge]},
        {"data_offsets": [0, 0]},
        {"data_offsets": entry["data_offsets"][::-1]},
        {"dtype": rng.choice(["BF16", "F8_E4M3", "F64", "I8", "BOOL", "X", ""])},
        {"shape": []},
    ]
    header[name] = entry | rng.choice(changes)
    text = json.dumps(header).encode()
    text = rng.choice([text, text, text, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"[" * 100_000])
    said = rng.choice([len(text), len(text), len(text), huge % 2**64])
    path.write_bytes(said.to_bytes(8, "little") + text + data[8 + length :])


# ONNX


def with_onnx(change: Callable[[onnx.ModelProto, random.Random], None]) -> Change:
    @functools.wraps(change)
    def changed(folder: Path, rng: random.Random) -> None:
        path = rng.choice(graphs(folder))
        model = onnx.load_model_from_string(path.read_bytes())
        change(model, rng)
        path.write_bytes(model.SerializeToString())

    return changed


def external_data(model: onnx.ModelProto, rng: random.Random) -> None:
    """A tensor whose values are to be read from a file of the machine, or from its memory."""
    tensor = model.graph.initializer.add() if not model.graph.initializer else rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = ["/etc/passwd", "../../../etc/passwd", "manifest.json", "body.onnx", "*/_ORT_MEM_ADDR_/*"]
    entries = [("location", rng.choice(places)), ("offset", str(rng.choice([0, 4096]))), ("length", "4")]
    rng.shuffle(entries)
    for key, value in entries:
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def other_weights(model: onnx.ModelProto, rng: random.Random) -> None:
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    if not floats:
        model.graph.ClearField("initializer")
        return
    tensor = rng.choice(floats)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[rng.randrange(values.size)] = rng.choice([np.nan, np.inf, 1e30, -1e30])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def other_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer and rng.random() < 0.7:
        tensor = rng.choice(model.graph.initializer)
        size = rng.choice([0, -1, 2**31, 2**40, 2**62])
        tensor.dims[:] = rng.choice([[size], [size, size], [*tensor.dims, size], list(tensor.dims)[::-1], []])
    else:
        value = rng.choice([*model.graph.input, *model.graph.output])
        value.type.tensor_type.elem_type = rng.choice([TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT8, 0, 99])


def other_nodes(model: onnx.ModelProto, rng: random.Random) -> None:
    """Operators that are unknown, lack inputs, come twice, or feed themselves."""
    nodes = model.graph.node
    node = rng.choice(nodes)
    kind = rng.randrange(6)
    if kind == 0:
        node.op_type = rng.choice(["Nothing", "", "Loop", "Identity", "If", "x" * 100_000])
    elif kind == 1:
        node.domain = rng.choice(["com.microsoft", "evil", "com.microsoft.nchwc"])
    elif kind == 2:
        nodes.remove(node)
    elif kind == 3:
        nodes.add().CopyFrom(node)
    elif kind == 4 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([node.output[0], "nowhere", ""])
    else:
        for attribute in node.attribute:
            attribute.i, attribute.f = rng.choice([0, -1, 2**31, 2**62]), float("nan")
            attribute.ints[:] = [rng.choice([0, -1, 2**31, 2**62]) for _ in attribute.ints]


def no_outputs(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5:
        model.graph.ClearField("output")
    else:
        model.graph.output.reverse()
        model.graph.output.add().CopyFrom(model.graph.input[0])


def endless_loop(model: onnx.ModelProto, rng: random.Random) -> None:
    """The first output is computed over and over, more often than there is time."""
    output = model.graph.output[0]
    kept = output.name
    for node in model.graph.node:
        node.output[:] = [f"{name}_first" if name == kept else name for name in node.output]
    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still_go_on"]),
            helper.make_node(rng.choice(["Identity", "Sin"]), ["value"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still_go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62, np.int64), "turns"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("Loop", ["turns", "yes", f"{kept}_first"], [kept], body=turn))


def endless_memory(model: onnx.ModelProto, rng: random.Random) -> None:
    """The first output is added to the mean of more zeros than there is memory."""
    kept = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{name}_first" if name == kept else name for name in node.output]
    size = rng.choice([2**33, 2**36, 2**40])
    model.graph.initializer.append(numpy_helper.from_array(np.array([size], np.int64), "size"))
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["size"], ["many"]),
            helper.make_node("Cos", ["many"], ["ones"]),
            helper.make_node("ReduceMean", ["ones"], ["one"], keepdims=0),
            helper.make_node("Mul", [f"{kept}_first", "one"], [kept]),
        ]
    )


# The manifest

VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 3, 2**31, 2**63, 10**400, 1e308, -1e308, 1e-300, 0.5),
    *(
        "",
        "x",
        "../../etc/passwd",
        "/etc/passwd",
        "body.onnx",
        "head.safetensors",
        "manifest.json",
        "\x1b[2J",
        "é" * 2000,
    ),
    *([], {}, [1], [1, 32], [4096], [1, 4096], ["a", "b"], [["a"]], {"file": "probe.safetensors"}, [0.0], [1e30]),
]


def other_field(folder: Path, rng: random.Random) -> None:
    """A key of the manifest, anywhere in it, missing or with another value."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    place: Any = manifest
    while True:
        key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.2:
            break
        place = place[key]
    if rng.random() < 0.2:
        del place[key]
    elif isinstance(place, dict) and rng.random() < 0.1:
        place[rng.choice(["../x", "/etc/passwd", "x" * 1000, "signature.json", "\ud800", "CON", "a/b"])] = place.pop(
            key
        )
    else:
        place[key] = rng.choice(VALUES)
    path.write_text(json.dumps(manifest))


def other_text(folder: Path, rng: random.Random) -> None:
    """The manifest as text: nested, doubled, cut, not UTF-8, not finite."""
    path = folder / "manifest.json"
    text = path.read_bytes().decode()
    changed = rng.choice(
        [
            text.replace('"provenance": {', '"provenance": {"a": ' + "[" * 100_000 + "]" * 100_000 + ", ", 1),
            text.replace('"provenance": {', '"provenance": {"a": ' + '{"a":' * 40 + "1" + "}" * 40 + ", ", 1),
            text.replace('"provenance": {', '"provenance": {"a": 1e999, ', 1),
            text.replace('"provenance": {', '"provenance": {"a": NaN, ', 1),
            text.replace('"provenance": {', '"provenance": {"a": ' + "9" * 10_000 + ", ", 1),
            text.replace('"features":', '"features": 1, "features":', 1),
            text + " " * 20_000_000,
            text[: rng.randrange(len(text))],
            text + text,
            "[" + text + "]",
            '{"a":' * 200_000,
        ]
    )
    path.write_bytes(rng.choice([changed.encode(), changed.encode(), b"\xff\xfe" + changed.encode("utf-16-le")]))


def flip_the_manifest(folder: Path, rng: random.Random) -> None:
    path = folder / "manifest.json"
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def absurd_size(folder: Path, rng: random.Random) -> None:
    """A file of many zeros, which take no room on the disk."""
    path = rng.choice(files(folder))
    size = rng.choice([10**8, 10**10, 10**15])
    os.truncate(path, min(size, 10**10))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name]["bytes"] = size
    (folder / "manifest.json").write_text(json.dumps(manifest))


BYTEWISE: list[Change] = [flip_bits, flip_bits_at_the_start, write_a_number, overwrite]
SEALED: list[Change] = [*BYTEWISE, move_a_piece, truncate, append, swap_files, other_tensors, other_header]
ONNX_ONLY: list[Change] = [
    with_onnx(change)
    for change in (external_data, other_weights, other_shape, other_nodes, no_outputs, endless_loop, endless_memory)
]
UNSEALED: list[Change] = [
    *(flip_bits, overwrite, truncate, append, swap_files, absurd_size),
    *(remove, replace_by_a_link, replace_by_something_else),
    *(other_field, other_text, flip_the_manifest),
]


def kinds(target: str) -> list[Mutation]:
    """Every kind of mutation of a bundle of ``target``; more than half are sealed."""
    sealed = [*SEALED, *(ONNX_ONLY if target == "onnx" else BYTEWISE)]
    return [Mutation(change, True) for change in sealed] + [Mutation(change, False) for change in UNSEALED]
