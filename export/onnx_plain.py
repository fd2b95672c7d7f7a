"""What makes an ONNX file the same on every machine, and small: no notes, no names but those of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx


def plain_bytes(model: onnx.ModelProto) -> bytes:
    """The model as bytes; it is changed on the way.

    The exporter's notes hold stack traces with paths of this machine. The names of values and nodes say how somebody's
    modules are called, and in an int8 body of many small layers they are a fiftieth of the file. Neither is needed to
    run it, nor are the shapes of what lies between.
    """
    if model.functions:
        raise ValueError("the exporter left functions in the graph")
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    short: dict[str, str] = {"": ""}  # an optional input that is left out

    def shorten(name: str) -> str:
        return name if name in kept else short.setdefault(name, f"v{len(short)}")

    _forget(model)
    for graph in _graphs(model.graph):
        _strip(graph, shorten)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and the branches in it, which see its names."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(branch)


def _strip(graph: onnx.GraphProto, shorten: Callable[[str], str]) -> None:
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        _forget(part)
    for value in (*graph.input, *graph.output):
        value.name = shorten(value.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [shorten(name) for name in node.input]
        node.output[:] = [shorten(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = shorten(tensor.name)
    tensors = sorted(graph.initializer, key=lambda tensor: (len(tensor.name), tensor.name))  # as they are used
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _forget(part: onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto) -> None:
    part.doc_string = ""
    del part.metadata_props[:]
