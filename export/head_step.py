"""The head's training step as a plain inference graph, so that any stock runtime can train the head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax


class HeadStep(nn.Module):
    """One step of SGD with momentum on the weighted mean cross-entropy, its gradient written out.

    Inputs: features [B, F], labels int64 [B], row weights [B], weight [C, F], bias [C], their momentum buffers,
    learning rate [1], momentum [1]. Outputs: loss before the step [1], weight, bias and both buffers after it.
    A row of weight zero does not count, so a batch that is not full can be padded.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.class_numbers: Tensor
        self.register_buffer("class_numbers", torch.arange(classes))

    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        row_weights: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_buffer: Tensor,
        bias_buffer: Tensor,
        lr: Tensor,
        momentum: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        shares = (row_weights / row_weights.sum()).unsqueeze(1)
        wanted = torch.eq(labels.unsqueeze(1), self.class_numbers).to(features.dtype)
        log_probabilities = log_softmax(features @ weight.t() + bias, dim=1)
        loss = -(wanted * log_probabilities * shares).sum().reshape(1)
        error = (log_probabilities.exp() - wanted) * shares
        weight_buffer = momentum * weight_buffer + error.t() @ features
        bias_buffer = momentum * bias_buffer + error.sum(0)
        return loss, weight - lr * weight_buffer, bias - lr * bias_buffer, weight_buffer, bias_buffer


INPUT_NAMES = (
    "features",
    "labels",
    "row_weights",
    "weight",
    "bias",
    "weight_buffer",
    "bias_buffer",
    "lr",
    "momentum",
)
OUTPUT_NAMES = ("loss", "new_weight", "new_bias", "new_weight_buffer", "new_bias_buffer")


def example_inputs(batch: int, features: int, classes: int) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and dtypes, for tracing."""
    weight, bias = torch.zeros(classes, features), torch.zeros(classes)
    rate = torch.full((1,), 0.1)
    return (
        torch.zeros(batch, features),
        torch.zeros(batch, dtype=torch.int64),
        torch.ones(batch),
        weight,
        bias,
        weight.clone(),
        bias.clone(),
        rate,
        rate.clone(),
    )
