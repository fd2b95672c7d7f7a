"""The paper's 4-conv net."""

from __future__ import annotations

from torch import nn


def conv4(shape: tuple[int, int, int], width: int, classes: int) -> nn.Sequential:
    """Four times convolution, normalisation, ReLU and 2x2 maximum; then linear.

    The paper's 32x32 pictures end in maps of 2x2. So do smaller ones here: a map with an odd side is padded before it
    is halved, so 28x28 keeps the paper's feature width.

    ReLU comes after the maximum, in place: the values and gradients are the same to the last bit, on a quarter of the
    memory, which is what bounds training on several cores.
    """
    channels, height, width_pixels = shape
    layers: list[nn.Module] = []
    for _ in range(4):
        padding = (height % 2, width_pixels % 2)
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.MaxPool2d(2, padding=padding),
            nn.ReLU(inplace=True),
        ]
        channels, height, width_pixels = width, (height + padding[0]) // 2, (width_pixels + padding[1]) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * height * width_pixels, classes))
