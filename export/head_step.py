"""The head's training step as a plain inference graph, so that any stock runtime can train the head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

# Of a class that is left out: its probability is 0 exactly. Infinity times a row weight of 0 would not be a number.
_LEFT_OUT = -1e30


class HeadStep(nn.Module):
    """One step of torch.optim.SGD on the head of K classes, its gradient written out.

    The loss is the weighted mean cross-entropy over the classes of ``class_mask`` (1: in use, 0: left out) plus
    penalty / 2 times the squared distance of weight and bias to the anchor's. A class that is left out has a gradient
    of zero. A row of weight zero does not count, so a batch that is not full can be padded.

    Inputs, float32 but for the labels: features [B, F], labels int64 [B], row weights [B], class mask [K],
    weight [K, F], bias [K], their momentum buffers, the anchor's weight and bias, learning rate, momentum, weight decay
    and penalty [1] each. Outputs: mean cross-entropy before the step [1], weight, bias and both buffers after it.
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
        class_mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_buffer: Tensor,
        bias_buffer: Tensor,
        anchor_weight: Tensor,
        anchor_bias: Tensor,
        lr: Tensor,
        momentum: Tensor,
        weight_decay: Tensor,
        penalty: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        shares = (row_weights / row_weights.sum()).unsqueeze(1)
        wanted = torch.eq(labels.unsqueeze(1), self.class_numbers).to(features.dtype)
        masked_bias = torch.where(class_mask > 0, bias, _LEFT_OUT)
        log_probabilities = log_softmax(features @ weight.t() + masked_bias, dim=1)
        loss = -(wanted * log_probabilities * shares).sum().reshape(1)
        error = (log_probabilities.exp() - wanted) * shares * class_mask
        pull, decay = penalty * class_mask, weight_decay * class_mask
        bias_gradient = error.sum(0) + pull * (bias - anchor_bias) + decay * bias
        pull, decay = pull.unsqueeze(1), decay.unsqueeze(1)
        weight_gradient = error.t() @ features + pull * (weight - anchor_weight) + decay * weight
        weight_buffer = momentum * weight_buffer + weight_gradient
        bias_buffer = momentum * bias_buffer + bias_gradient
        return loss, weight - lr * weight_buffer, bias - lr * bias_buffer, weight_buffer, bias_buffer


INPUT_NAMES = (
    "features",
    "labels",
    "row_weights",
    "class_mask",
    "weight",
    "bias",
    "weight_buffer",
    "bias_buffer",
    "anchor_weight",
    "anchor_bias",
    "lr",
    "momentum",
    "weight_decay",
    "penalty",
)
OUTPUT_NAMES = ("loss", "new_weight", "new_bias", "new_weight_buffer", "new_bias_buffer")


def example_inputs(batch: int, features: int, classes: int) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and dtypes, for tracing."""
    head = (torch.zeros(classes, features), torch.zeros(classes))
    scalar = torch.full((1,), 0.1)
    return (
        torch.zeros(batch, features),
        torch.zeros(batch, dtype=torch.int64),
        torch.ones(batch),
        torch.ones(classes),
        *(tensor.clone() for _ in range(3) for tensor in head),
        *(scalar.clone() for _ in range(4)),
    )
