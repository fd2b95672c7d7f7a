"""Lowering to ExecuTorch's .pte, with XNNPACK for the body."""

from __future__ import annotations

from itertools import accumulate

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeProgramManager, ExecutorchProgramManager, to_edge_transform_and_lower
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult
from torch.nn.functional import hardtanh

from fbkit.device_runtime.manifest import pictures_at_once
from fbkit.export.capture import capture
from fbkit.export.executorch_facts import executorch_facts
from fbkit.export.head_step import HeadStep, example_inputs
from fbkit.export.keep_float import check_keep_float
from fbkit.export.target import STEP_BATCH, Lowered, Request

# Fixed batches as methods of one program with shared weights: a dynamic batch fails for some networks under XNNPACK.


def lower(request: Request) -> Lowered:
    """A body with a method for one picture and one for as many as a device looks at together, and the step graph.

    The step graph, for STEP_BATCH rows, is method ``forward``.

    Raises:
        UserError: ``keep_float`` names a module that the body does not have; the body's forward has no graph, or for
            int8 none for any number of pictures.
    """
    check_keep_float(request.body, request.keep_float)
    body = request.body.eval()
    if request.precision == "int8":
        assert request.calibration is not None  # noqa: S101  the request's promise
        from fbkit.export.executorch_int8 import quantize

        body = quantize(body, request.calibration, request.keep_float)
    edge, program = _lower(_for_batches(body, request.shape))
    model = None
    if request.with_model:
        _, whole = _lower(_for_batches(nn.Sequential(body, request.head), request.shape))
        model = bytes(whole.buffer)
    example = example_inputs(STEP_BATCH, request.head.in_features, request.step_classes)
    step = torch.export.export(HeadStep(request.step_classes).eval(), example)
    _, step_program = _lower({"forward": step}, xnnpack=False)
    return Lowered(
        body=bytes(program.buffer),
        step=bytes(step_program.buffer),
        body_batches=_batches(request.shape),
        suffix="pte",
        model=model,
        graph=executorch_facts(request.body, request.shape, edge, program, "b1"),
    )


def _batches(shape: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(sorted({1, pictures_at_once(*shape[1:])}))


def _for_batches(module: nn.Module, shape: tuple[int, int, int]) -> dict[str, ExportedProgram]:
    """A method for each batch size of a module that takes pictures."""
    programs = {f"b{batch}": capture(module, shape, batch) for batch in _batches(shape)}
    return {name: program.run_decompositions(_DECOMPOSITIONS) for name, program in programs.items()}


def _hardsigmoid(values: Tensor) -> Tensor:
    return hardtanh(values + 3.0, 0.0, 6.0) / 6.0


def _split(values: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    length = values.shape[dim]
    return [values.narrow(dim, start, min(size, length - start)) for start in range(0, length, size)]


def _split_with_sizes(values: Tensor, sizes: list[int], dim: int = 0) -> list[Tensor]:
    starts = accumulate(sizes, initial=0)
    return [values.narrow(dim, start, size) for start, size in zip(starts, sizes, strict=False)]


# Of what XNNPACK does not take, so that a network with it fell apart into many small XNNPACK programs: hardsigmoid, as
# torch's own decomposition has whole numbers in it, for which executorch casts tensors; splits, but it takes slices.
_DECOMPOSITIONS = {
    torch.ops.aten.hardsigmoid.default: _hardsigmoid,
    torch.ops.aten.split.Tensor: _split,
    torch.ops.aten.split_with_sizes.default: _split_with_sizes,
}


def _lower(
    methods: dict[str, ExportedProgram], xnnpack: bool = True
) -> tuple[EdgeProgramManager, ExecutorchProgramManager]:
    """The program of some methods, before and after it is emitted."""
    edge = to_edge_transform_and_lower(
        methods,
        transform_passes=[_NumberOperators()],
        partitioner={name: [XnnpackPartitioner()] for name in methods} if xnnpack else None,
    )
    return edge, edge.to_executorch()


class _NumberOperators(PassBase):
    """Numbers operators for debugging, as they come.

    executorch's own numbers go by the addresses of graphs in memory, so that the same program could get other ones.
    """

    def call(self, graph_module: GraphModule) -> PassResult:
        for number, node in enumerate(graph_module.graph.nodes, 1):
            node.meta["debug_handle"] = number
        return PassResult(graph_module, True)
