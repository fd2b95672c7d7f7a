"""What an export target does: turn torch modules into files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from fbkit.errors import UserError, require

STEP_BATCH = 50
# Rows of the step graph beyond the model's classes, for classes that a device adds.
SPARE_CLASSES = 10


@dataclass(frozen=True)
class Request:
    """What to lower.

    Attributes:
        body: folded, in eval mode: float32 [B, channels, height, width] to features [B, F].
        head: features to logits.
        shape: channels, height and width of a picture.
        step_classes: rows of the head that the step graph takes.
        precision: of the body: ``fp32`` or ``int8``.
        calibration: normalised pictures float32 [N, channels, height, width] from which an int8 body takes its ranges.
        keep_float: names of the body's modules that stay fp32 in an int8 body.
        with_model: whether to make body and head in one file, too.
    """

    body: nn.Module
    head: nn.Linear
    shape: tuple[int, int, int]
    step_classes: int
    precision: str = "fp32"
    calibration: Tensor | None = None
    keep_float: tuple[str, ...] = ()
    with_model: bool = False


@dataclass(frozen=True)
class Lowered:
    """Files as bytes, and what is known of them.

    Attributes:
        body: pictures to features.
        step: the head's training step for STEP_BATCH rows and the request's ``step_classes``.
        body_batches: the batch sizes that body and model take; empty: any.
        suffix: of the files' names.
        model: pictures to logits, None if not asked for.
        graph: what the body is made of, for the manifest: JSON values only.
    """

    body: bytes
    step: bytes
    body_batches: tuple[int, ...]
    suffix: str
    model: bytes | None = None
    graph: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """A module that lowers for one runtime."""

    def lower(self, request: Request) -> Lowered:
        """Lower what is asked for.

        Raises:
            UserError: ``keep_float`` names a module that the body does not have.
        """


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
