"""What an ExecuTorch body is made of."""

from __future__ import annotations

from collections import Counter
from typing import Any

from executorch.exir import EdgeProgramManager, ExecutorchProgramManager
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from fbkit.export.graph_facts import Step, common_facts, largest_alive


def executorch_facts(
    body: nn.Module,
    shape: tuple[int, int, int],
    edge: EdgeProgramManager,
    program: ExecutorchProgramManager,
    method: str,
) -> dict[str, Any]:
    """The facts of a body in ExecuTorch, given the torch module it comes from and the method for one picture.

    Memory: what ExecuTorch has planned for the method, and the values inside of the largest part that XNNPACK runs.
    """
    outer = edge.exported_program(method).graph_module
    parts = [part.original_module for part in outer.children() if isinstance(part, LoweredBackendModule)]
    xnnpack = Counter(step.kind for part in parts for step in _steps(part.graph_module))
    portable = Counter(step.kind for step in _steps(outer))
    planned = {plan.name: sum(plan.non_const_buffer_sizes) for plan in program.executorch_program.execution_plan}
    inside = max((largest_alive(_steps(part.graph_module), _sizes(part)) for part in parts), default=0)
    common = common_facts(body, shape, xnnpack + portable, len(program.buffer) + planned[method] + inside)
    return {**common, "xnnpack": dict(sorted(xnnpack.items())), "portable": dict(sorted(portable.items()))}


def _steps(module: GraphModule) -> list[Step]:
    """The operators of a graph, not counting what calls XNNPACK or picks one of several outputs."""
    return [
        Step(node.target.__name__.split(".")[-2], [read.name for read in node.all_input_nodes], [node.name])
        for node in module.graph.nodes
        if node.op == "call_function" and "." in node.target.__name__
    ]


def _sizes(program: ExportedProgram) -> dict[str, int]:
    """Bytes of what operators write; inputs are in what is planned outside, and constants in the file."""
    return {
        node.name: node.meta["val"].nbytes
        for node in program.graph.nodes
        if node.op == "call_function" and isinstance(node.meta["val"], Tensor)
    }
