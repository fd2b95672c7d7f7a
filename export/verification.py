"""Is the bundle what was trained? The written files against torch, on real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.probe import relative_error
from fbkit.device_runtime.tensors import Bytes, Float, Labels
from fbkit.errors import UserError
from fbkit.train.data import Batcher
from fbkit.train.models import SplitModel


@dataclass(frozen=True)
class Verification:
    """Errors are relative to torch's largest value. Agreement and accuracies are percent.

    ``decided_agreement`` counts only pictures whose two largest logits differ by more than twice the largest logit
    error, where no rounding can turn the prediction.
    """

    pictures: int
    feature_error: float
    logit_error: float
    agreement: float
    decided_agreement: float
    torch_accuracy: float
    bundle_accuracy: float


def verify(bundle: Bundle, model: SplitModel, pictures: Bytes, labels: Labels) -> Verification:
    """Compare an opened bundle with the torch model it came from.

    Args:
        bundle: as a device opens it.
        model: in eval mode with static statistics.
        pictures: uint8 [N, H, W, C], real ones.
        labels: int64 [N].

    Raises:
        UserError: features or logits differ by more than the bundle's tolerance, or a decided prediction differs.
    """
    spec = bundle.manifest.input
    with torch.inference_mode():
        inputs = Batcher(spec.mean, spec.std, batch_size=1).normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        features: Float = torch.cat([model.body(batch) for batch in inputs.split(100)]).numpy()
        logits: Float = model.head(torch.from_numpy(features)).numpy()
    found = bundle.features(list(pictures))
    head: Head = bundle.head
    found_logits = head.logits(found)
    margin = np.diff(np.sort(logits, 1)[:, -2:], axis=1)[:, 0]
    decided = margin > 2 * np.abs(found_logits - logits).max()
    same = found_logits.argmax(1) == logits.argmax(1)
    result = Verification(
        pictures=len(pictures),
        feature_error=relative_error(found, features),
        logit_error=relative_error(found_logits, logits),
        agreement=100 * float(same.mean()),
        decided_agreement=100 * float(same[decided].mean()) if decided.any() else 100.0,
        torch_accuracy=100 * float(np.mean(logits.argmax(1) == labels)),
        bundle_accuracy=100 * float(np.mean(found_logits.argmax(1) == labels)),
    )
    tolerance = bundle.manifest.feature_tolerance
    close = result.feature_error <= tolerance and result.logit_error <= tolerance  # not a number is not close
    if not close or result.decided_agreement < 100:
        raise UserError(
            f"the exported body differs from torch: features by {result.feature_error:.2g}, logits by "
            f"{result.logit_error:.2g} (allowed {tolerance:.2g}), predictions agree on {result.agreement:.1f}%; "
            "no bundle was written"
        )
    return result
