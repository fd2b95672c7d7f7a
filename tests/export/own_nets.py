"""A small net of somebody's own with weights and pictures: the tests' model that fbkit never trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from fbkit.device_runtime.manifest import InputSpec
from fbkit.device_runtime.tensors import Bytes
from fbkit.export.own_model import OwnModel

CLASSES = ("red", "green", "blue")
SPEC = InputSpec(3, 16, 12, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Net(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layers(images))
        return logits


class NoBias(Net):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.classifier[1] = nn.Linear(16, num_classes, bias=False)


class _Doubled(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return 2 * super().forward(features)


class DoubledHead(Net):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.classifier[1] = _Doubled(16, num_classes)


class ByBatch(Net):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.layers[1] = nn.BatchNorm2d(8, track_running_stats=False)


class OtherWhenExported(Net):
    """What the exporter sees is not what torch computes. The condition keeps it from being folded beforehand."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[0] > 0 and torch.compiler.is_exporting():
            return self.classifier(self.layers(1.01 * images))  # type: ignore[no-any-return]
        return super().forward(images)


class OtherInTheDark(Net):
    """The same, but only for pictures darker than any of the probe's."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.layers(images)
        if images.shape[0] > 0 and torch.compiler.is_exporting():
            features = features + (-1.2 - images.mean((1, 2, 3))).relu().unsqueeze(1)
        logits: Tensor = self.classifier(features)
        return logits


@dataclass(frozen=True)
class Own:
    """net: trained, in eval mode; pictures: class folders; what the export is told of them is ``model``."""

    net: nn.Module
    model: OwnModel


def unbalance(net: nn.Module) -> None:
    """Scale one channel up where it is made and down where it is used: in fp32 nothing changes but rounding.

    With one scale of 8 bits for the layer's values nothing is left of the other channels.
    """
    with torch.no_grad():
        net.get_parameter("layers.1.weight")[0] *= 10_000
        net.get_parameter("layers.1.bias")[0] *= 10_000
        net.get_parameter("layers.3.weight")[:, 0] /= 10_000


def make_own(
    folder: Path,
    kind: type[nn.Module] = Net,
    each: int = 40,
    brightness: int = 200,
    after: Callable[[nn.Module], None] = lambda _net: None,
) -> Own:
    """Write ``each`` pictures a class, fit a net to them, change it ``after``, write weights and names of classes."""
    pictures = folder / "pictures"
    images, labels = _write_pictures(pictures, each, brightness)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = kind(len(CLASSES))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    net.eval()
    after(net)
    save_file(net.state_dict(), folder / "weights.safetensors")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    name = f"{kind.__module__}:{kind.__qualname__}"
    return Own(net, OwnModel(name, folder / "weights.safetensors", CLASSES, SPEC, pictures))


def arguments(own: Own) -> dict[str, object]:
    """What the command line is told, by option."""
    spec = own.model.spec
    return {
        "--model": own.model.name,
        "--weights": own.model.weights,
        "--classes": own.model.weights.with_name("classes.txt"),
        "--input": f"{spec.channels}x{spec.height}x{spec.width}",
        "--mean": ",".join(map(str, spec.mean)),
        "--std": ",".join(map(str, spec.std)),
        "--calibrate": own.model.calibrate,
    }


def normalised(pictures: Bytes) -> Tensor:
    """uint8 [N, H, W, 3] as the net takes them, by hand."""
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def _write_pictures(folder: Path, each: int, brightness: int) -> tuple[Tensor, Tensor]:
    """Noise with one channel brighter, of the body's size, as PNG; the same as normalised tensor with labels."""
    rng = np.random.default_rng(0)
    rows = []
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, brightness, (SPEC.height, SPEC.width, 3))
            pixels[..., label] += 55
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
            rows.append(pixels.astype(np.uint8))
    return normalised(np.stack(rows)), torch.arange(len(CLASSES)).repeat_interleave(each)
