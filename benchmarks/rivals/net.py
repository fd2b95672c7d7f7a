"""The 4-conv net in plain torch, with the names and the maths of fbkit's conv4 with batch statistics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from workload import Spec


class Net(nn.Module):
    """Four times convolution, normalisation by the batch, ReLU and 2x2 maximum; then a linear head.

    With ``bfloat16`` layers compute in mixed precision; weights and logits are float32 all the same.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, classes: int, bfloat16: bool = False) -> None:
        super().__init__()
        self.bfloat16 = bfloat16
        channels, height, breadth = shape
        layers: list[nn.Module] = []
        for _ in range(4):
            padding = (height % 2, breadth % 2)  # an odd map is padded before it is halved
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width, track_running_stats=False),
                nn.ReLU(),
                nn.MaxPool2d(2, padding=padding),
            ]
            channels, height, breadth = width, (height + 1) // 2, (breadth + 1) // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(width * height * breadth, classes)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = self.head(self.body(images))
        return logits.float()


def make_net(shape: tuple[int, int, int], spec: Spec, weights: Mapping[str, NDArray[np.float32]]) -> Net:
    """The net with these weights, in the layout and the precision that the workload asks for."""
    net = Net(shape, spec.width, spec.classes, spec.bfloat16)
    net.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    layout = torch.channels_last if spec.channels_last else torch.contiguous_format
    return net.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def weights_of(net: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The net's state as plain arrays."""
    return {name: np.ascontiguousarray(values.detach().numpy()) for name, values in net.state_dict().items()}
