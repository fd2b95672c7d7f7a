"""What an export target does: turn two torch modules into files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import nn

from fbkit.errors import UserError, require

STEP_BATCH = 50


@dataclass(frozen=True)
class Lowered:
    """A body and a step graph as files' bytes, and the batch sizes the body takes (empty: any)."""

    body: bytes
    step: bytes
    body_batches: tuple[int, ...]
    suffix: str


class Target(Protocol):
    """A module that lowers for one runtime."""

    def lower(self, body: nn.Module, shape: tuple[int, int, int], features: int, classes: int) -> Lowered:
        """Lower a folded body for pictures of ``shape`` (channels, height, width) and the head's step."""


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UserError: no such target, or its packages are not installed.
    """
    if name == "onnx":
        require("onnxscript", "export")
        from fbkit.export import onnx_target

        return onnx_target
    if name == "executorch":
        require("executorch.exir", "executorch")
        from fbkit.export import executorch_target

        return executorch_target
    raise UserError(f"--target {name}: known targets are onnx and executorch")
