"""The head: the one part that learns on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.tensors import Float, Labels, pack_tensors, unpack_tensors

Mask = npt.NDArray[np.bool_]

# The bias of a class that is left out: its probability is 0 exactly, and unlike infinity it is a number when doubled,
# negated or multiplied by 0.
NO_CHANCE = np.float32(-1e30)


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

    def losses(self, features: Float, labels: Labels) -> npt.NDArray[np.float64]:
        """Cross-entropy of each row, in nats: float64 [N]."""
        logits = self.logits(features).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        losses: npt.NDArray[np.float64] = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
        return losses

    def loss(self, features: Float, labels: Labels) -> float:
        """Mean cross-entropy in nats."""
        return float(self.losses(features, labels).mean())

    def without(self, left_out: Mask) -> Head:
        """The same, but that classes for which ``left_out``, bool [classes], is true have a probability of 0."""
        return Head(self.weight, np.where(left_out, NO_CHANCE, self.bias))

    def grown(self, chances: Mask) -> Head:
        """With more rows: one for each of ``chances``, bool [classes].

        A new class for which it is true gets the mean of the rows there are, which is neutral: whatever is added to all
        rows changes no probability. The others have none.
        """
        own = len(self.bias)
        new = len(chances) - own
        return Head(
            np.vstack([self.weight, np.tile(self.weight.mean(0), (new, 1))]),
            np.concatenate([self.bias, np.where(chances[own:], self.bias.mean(), NO_CHANCE).astype(np.float32)]),
        )

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
