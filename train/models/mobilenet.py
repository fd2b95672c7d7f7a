"""The paper's MobileNet for CIFAR: MobileNet v1 with a stem that keeps the size of a small picture."""

from __future__ import annotations

from torch import nn

# Output channels and stride of each depthwise-separable block.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet(channels: int, classes: int) -> nn.Sequential:
    """13 depthwise-separable blocks between a 3x3 stem and the mean over each of 1024 maps; then linear."""
    layers = _convolution(channels, 32, 3)
    width = 32
    for wider, stride in BLOCKS:
        layers += _convolution(width, width, 3, stride=stride, groups=width)
        layers += _convolution(width, wider, 1)
        width = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _convolution(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]
