"""What a body is made of, for the manifest: parameters, multiply-accumulates, operators, expected memory.

The keys, all for the body alone: ``parameters``; ``macs``, for one picture, of convolutions and matrix products;
``operators``, how many of each kind the file holds; ``memory_bytes``. An ExecuTorch body also has ``xnnpack`` and
``portable``: which of the operators XNNPACK runs, and which ExecuTorch's own kernels.

Memory is an estimate for one picture: the file, which a runtime holds, and the values between operators where most of
them are alive. Not counted is what is the runtime's own: its code, an operator's scratch space, and weights that it
copies into another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Operators that write where they read, or become a part of the operator before.
_IN_PLACE = {
    *("relu", "clip", "clamp", "hardtanh", "leakyrelu", "leaky_relu", "sigmoid", "hardsigmoid", "hardswish"),
    *("reshape", "flatten", "squeeze", "unsqueeze"),
    *("view_copy", "squeeze_copy", "unsqueeze_copy", "_clone_dim_order"),
}


@dataclass(frozen=True)
class Step:
    """One operator of a graph: its kind, and the names of the values that it reads and writes."""

    kind: str
    reads: Sequence[str]
    writes: Sequence[str]


def common_facts(
    body: nn.Module, shape: tuple[int, int, int], operators: Mapping[str, int], memory_bytes: int
) -> dict[str, Any]:
    """What every target tells."""
    return {
        "parameters": sum(values.numel() for values in body.parameters()),
        "macs": _count_macs(body, shape),
        "operators": dict(sorted(operators.items())),
        "memory_bytes": memory_bytes,
    }


def _count_macs(body: nn.Module, shape: tuple[int, int, int]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        body(torch.zeros(1, *shape))
    flops: int = counter.get_total_flops()
    return flops // 2


def largest_alive(steps: Sequence[Step], sizes: Mapping[str, int]) -> int:
    """The largest sum of the sizes of values that are alive at the same time.

    A value lives from the step that writes it (an input: from the first) to the last that reads it (an output: to the
    end). What is rounded to 8 bits at once, or was just made from 8 bits, counts as nothing: an int8 operator takes
    both steps in itself. Values of unknown size count as nothing, too.
    """
    place_of: dict[str, str] = {}  # where a value is written: its own name, or that of the value in its place
    space = dict(sizes)
    born: dict[str, int] = {}
    last: dict[str, int] = {}
    read_for: dict[str, set[str]] = {}
    fused = set()
    for time, step in enumerate(steps):
        kind = step.kind.lower()
        reads = [place_of.get(name, name) for name in step.reads]
        for name in reads:
            last[name] = time
            if kind not in _IN_PLACE:
                read_for.setdefault(name, set()).add(kind)
        for name in step.writes:
            place = place_of[name] = reads[0] if kind in _IN_PLACE else name
            born.setdefault(place, time)
            space[place] = max(space.get(place, 0), sizes.get(name, 0))
            if kind.startswith("dequantize"):
                fused.add(place)
    fused |= {name for name in born if name in read_for and all(k.startswith("quantize") for k in read_for[name])}
    alive = [0] * len(steps)
    for name in {place_of.get(name, name) for name in sizes} - fused:
        for time in range(born.get(name, 0), last.get(name, len(steps) - 1) + 1):
            alive[time] += space[name]
    return max(alive, default=0)
