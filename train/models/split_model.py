"""What fbkit trains: a body and a linear head."""

from __future__ import annotations

from torch import Tensor, nn


class SplitModel(nn.Module):
    """body: float32 [B, C, H, W] to features [B, F]; head: features to logits [B, classes].

    ``head_name`` is where the head was in the module that the body comes from.
    """

    def __init__(self, body: nn.Module, head: nn.Linear, head_name: str = "") -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.head_name = head_name

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


def model_size(model: SplitModel) -> tuple[int, int, int]:
    """How many parameters the body has, how many the head, and the width of the features between them."""
    body, head = (sum(values.numel() for values in part.parameters()) for part in (model.body, model.head))
    return body, head, model.head.in_features
