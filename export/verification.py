"""Is the bundle what was trained? The written files against torch, on real pictures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fbkit.device_runtime.body import normalise, open_network
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.probe import relative_error
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from fbkit.export.exportable import Exportable
from fbkit.train.data import Batcher

# What int8 may cost without being asked: points of accuracy; where pictures have no labels, percent of the predictions
# that still are fp32's. Those that change are as a rule ones of which fp32 was not sure either, and some change for the
# better, so agreement falls further than accuracy.
MOST_LOSS = 0.5
LEAST_AGREEMENT = 98.0


@dataclass(frozen=True)
class Comparison:
    """Logits of the bundle against torch's.

    ``logit_error`` is the largest difference over torch's largest logit, ``logit_error_l2`` the same of the root mean
    squares. Agreement and accuracy are percent; accuracy is None without labels. ``decided_agreement`` counts only
    pictures whose two largest logits differ by more than twice the largest error, where no rounding can turn the
    prediction.
    """

    logit_error: float
    logit_error_l2: float
    agreement: float
    decided_agreement: float
    accuracy: float | None


@dataclass(frozen=True)
class Verification:
    """What was found on ``pictures`` real pictures.

    Attributes:
        feature_error: largest difference over torch's largest feature; feature_error_l2: of the root mean squares.
        torch_accuracy: percent, None without labels.
        bundle: of body and head.
        model: of both in one file, None where there is none.
    """

    pictures: int
    feature_error: float
    feature_error_l2: float
    torch_accuracy: float | None
    bundle: Comparison
    model: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """For the manifest, without what is not known."""
        accuracies = {"torch_accuracy": self.torch_accuracy, "bundle_accuracy": self.bundle.accuracy}
        return {
            "pictures": self.pictures,
            "feature_error": self.feature_error,
            "feature_error_l2": self.feature_error_l2,
            **{key: value for key, value in asdict(self.bundle).items() if key != "accuracy"},
            **{key: value for key, value in accuracies.items() if value is not None},
            **({"model": {k: v for k, v in asdict(self.model).items() if v is not None}} if self.model else {}),
        }


def verify(bundle: Bundle, exportable: Exportable, accept_loss: bool = False) -> Verification:
    """Compare an opened bundle with the torch model it came from.

    Args:
        bundle: as a device opens it.
        accept_loss: whether an int8 bundle may cost more than MOST_LOSS.

    Raises:
        UserError: an fp32 bundle's features or logits differ by more than its tolerance, or a decided prediction
            differs; an int8 bundle costs more accuracy or agreement than it may.
    """
    manifest = bundle.manifest
    pictures, labels = exportable.verification.pictures, exportable.verification.labels
    features, logits = _torch_values(exportable)
    found = bundle.features(list(pictures))
    model = None
    if manifest.model:
        whole = open_network(manifest, manifest.model, len(manifest.classes), bundle.read(manifest.model), None)
        model = _compare(whole.features(normalise(pictures, manifest.input)), logits, labels)
    result = Verification(
        pictures=len(pictures),
        feature_error=relative_error(found, features),
        feature_error_l2=_relative_l2(found, features),
        torch_accuracy=_accuracy(logits, labels),
        bundle=_compare(bundle.head.logits(found), logits, labels),
        model=model,
    )
    if manifest.precision == "fp32":
        _refuse_difference(result, manifest.feature_tolerance)
    else:
        _refuse_loss(result, exportable.model.body, accept_loss)
    return result


def _torch_values(exportable: Exportable) -> tuple[Float, Float]:
    """Features and logits of the verification's pictures."""
    spec = exportable.spec
    batcher = Batcher(spec.mean, spec.std, batch_size=100)
    images = torch.from_numpy(exportable.verification.pictures).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = torch.cat([exportable.model.body(batcher.normalise(batch)) for batch in images.split(100)])
        logits: Float = exportable.model.head(features).numpy()
    return features.numpy(), logits


def _compare(found: Float, logits: Float, labels: Labels | None) -> Comparison:
    margin = np.diff(np.sort(logits, 1)[:, -2:], axis=1)[:, 0]
    decided = margin > 2 * np.abs(found - logits).max()
    same = found.argmax(1) == logits.argmax(1)
    return Comparison(
        logit_error=relative_error(found, logits),
        logit_error_l2=_relative_l2(found, logits),
        agreement=_percent(same),
        decided_agreement=_percent(same[decided]) if decided.any() else 100.0,
        accuracy=_accuracy(found, labels),
    )


def _accuracy(logits: Float, labels: Labels | None) -> float | None:
    return None if labels is None else _percent(logits.argmax(1) == labels)


def _percent(counted: npt.NDArray[np.bool_]) -> float:
    return round(100 * float(counted.mean()), 6)  # so that half a point is half a point


def _relative_l2(found: Float, expected: Float) -> float:
    """Not by BLAS, whose sums depend on its threads and on where the numbers lie."""
    wrong, right = (np.sum(np.square(values, dtype=np.float64)) for values in (found - expected, expected))
    return math.sqrt(wrong / max(float(right), float(np.finfo(np.float32).tiny)))


def _refuse_difference(result: Verification, tolerance: float) -> None:
    for name, part in _parts(result):
        close = result.feature_error <= tolerance and part.logit_error <= tolerance  # not a number is not close
        if not close or part.decided_agreement < 100:
            raise UserError(
                f"the exported {name} differs from torch: features by {result.feature_error:.2g}, logits by "
                f"{part.logit_error:.2g} (allowed {tolerance:.2g}), predictions agree on {part.agreement:.1f}%; "
                "no bundle was written"
            )


def _refuse_loss(result: Verification, body: nn.Module, accept_loss: bool) -> None:
    for name, part in _parts(result):
        if not np.isfinite([result.feature_error, part.logit_error]).all():
            raise UserError(f"the exported {name} gives values that are not finite; no bundle was written")
        if accept_loss:
            continue
        if part.accuracy is not None and result.torch_accuracy is not None:
            loss = round(result.torch_accuracy - part.accuracy, 6)
            too_much = loss > MOST_LOSS
            said = (
                f"costs {loss:.1f} points of accuracy on {result.pictures} pictures "
                f"({result.torch_accuracy:.1f}% to {part.accuracy:.1f}%, allowed are {MOST_LOSS:g})"
            )
        else:
            too_much = part.agreement < LEAST_AGREEMENT
            said = (
                f"changes {100 - part.agreement:.1f}% of the predictions on {result.pictures} pictures without labels "
                f"(allowed are {100 - LEAST_AGREEMENT:g}%)"
            )
        if too_much:
            raise UserError(
                f"the exported {name} in int8 {said}; keep layers in fp32, such as {_ends(body)}, or take it as it is "
                "with --accept-loss; no bundle was written"
            )


def _parts(result: Verification) -> list[tuple[str, Comparison]]:
    return [("body", result.bundle), *([("model", result.model)] if result.model else [])]


def _ends(body: nn.Module) -> str:
    """The first and last layer with weights, which int8 as a rule hurts most, as they are given to --keep-float."""
    names = [name for name, module in body.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return " ".join(f"--keep-float {name}" for name in dict.fromkeys([*names[:1], *names[-1:]]))
