"""The head: the one part that learns on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fbkit.device_runtime.tensors import Float, Labels, pack_tensors, unpack_tensors


@dataclass(frozen=True)
class Head:
    """A linear classifier: weight float32 [classes, features], bias float32 [classes]."""

    weight: Float
    bias: Float

    def logits(self, features: Float) -> Float:
        """float32 [N, features] to float32 [N, classes]."""
        logits: Float = features @ self.weight.T + self.bias
        return logits

    def probabilities(self, features: Float) -> Float:
        logits = self.logits(features)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        probabilities: Float = exponentials / exponentials.sum(1, keepdims=True)
        return probabilities

    def accuracy(self, features: Float, labels: Labels) -> float:
        """Percent of the rows whose label has the largest logit."""
        return 100 * float(np.mean(self.logits(features).argmax(1) == labels))

    def loss(self, features: Float, labels: Labels) -> float:
        """Mean cross-entropy in nats."""
        logits = self.logits(features).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        normaliser = np.log(np.exp(logits).sum(1))
        return float(np.mean(normaliser - logits[np.arange(len(labels)), labels]))

    def to_bytes(self, metadata: dict[str, str] | None = None) -> bytes:
        return pack_tensors({"weight": self.weight, "bias": self.bias}, metadata)


def head_from_bytes(data: bytes, classes: int, features: int, origin: str) -> Head:
    """Read a head and check its shapes.

    Raises:
        UserError: not a head of this many classes and features.
    """
    tensors = unpack_tensors(
        data, {"weight": ("float32", (classes, features)), "bias": ("float32", (classes,))}, origin
    )
    return Head(tensors["weight"], tensors["bias"])
