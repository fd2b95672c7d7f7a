"""From a torch module to the graph of its operators, for both targets."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr

import torch
from torch import nn
from torch._dynamo.exc import UserError as DynamoError
from torch._dynamo.exc import UserErrorType
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode


class NoGraphError(Exception):
    """A module's forward that no graph can stand for; the message says why, of "its forward"."""


_FIXED_NUMBER = (
    "its forward works for some numbers of pictures only, as it does with a loop over pictures or a condition "
    "on their number, but devices have other numbers; write it for a tensor of any number of pictures"
)
_VALUES = (
    "its forward goes by the values in a tensor, as with an if or item(), and a graph cannot do that; "
    "write it with operators on tensors, such as torch.where"
)


def capture(module: nn.Module, shape: tuple[int, int, int], batch: int | None = None) -> ExportedProgram:
    """The graph of a module in eval mode that takes pictures.

    Args:
        shape: channels, height and width of a picture.
        batch: how many pictures it is for; None: any number.

    Raises:
        NoGraphError: its forward is for some numbers of pictures only, or does what the values in a tensor say.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):  # where torch prints the graph if it fails
            try:
                return _export(module, shape, batch, strict=False)
            except Exception as error:  # noqa: BLE001  what is said in the end is said of this one
                return _export_from_source(module, shape, batch, error)
    finally:
        logging.disable(before)


def _export_from_source(
    module: nn.Module, shape: tuple[int, int, int], batch: int | None, first: Exception
) -> ExportedProgram:
    """The other way, which reads Python's code instead of running it, and knows that len(images) is no fixed number."""
    try:
        return _export(module, shape, batch, strict=True)
    except Exception as error:
        if isinstance(first, DynamoError) and first.error_type is UserErrorType.CONSTRAINT_VIOLATION:
            raise NoGraphError(_FIXED_NUMBER) from error
        if isinstance(first, GuardOnDataDependentSymNode):
            raise NoGraphError(_VALUES) from error
        raise first from error


def _export(module: nn.Module, shape: tuple[int, int, int], batch: int | None, strict: bool) -> ExportedProgram:
    any_number = ({0: Dim("batch", min=1)},) if batch is None else None
    example = torch.zeros(2 if batch is None else batch, *shape)
    return torch.export.export(module, (example,), dynamic_shapes=any_number, strict=strict)
