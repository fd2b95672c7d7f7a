"""The head's joint graph of forward and backward pass, for apps that use ExecuTorch's own training API."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export.experimental import _export_forward_backward
from torch.nn.functional import cross_entropy, linear

from fbkit.errors import require


class _HeadAndLoss(nn.Module):
    """The loss comes first, as the training API wants it; parameters are named as in head.safetensors."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(head.weight.detach().clone())
        self.bias = nn.Parameter(head.bias.detach().clone())

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = linear(features, self.weight, self.bias)
        return cross_entropy(logits, labels), logits.detach()


def lower_training_module(head: nn.Linear, batch: int) -> bytes:
    """A .pte for ExecuTorch's TrainingModule: method ``forward`` takes features [batch, F] and labels int64 [batch].

    It gives the mean cross-entropy, a scalar, and the logits [batch, classes]. A row of label -100 does not count, so a
    batch that is not full can be padded. The parameters are named ``weight`` and ``bias``.

    Raises:
        UserError: ExecuTorch is not installed.
    """
    require("executorch.exir", "executorch")
    from executorch.exir import to_edge

    example = (torch.zeros(batch, head.in_features), torch.zeros(batch, dtype=torch.int64))
    joint = _export_forward_backward(torch.export.export(_HeadAndLoss(head), example))
    return bytes(to_edge(joint).to_executorch().buffer)
