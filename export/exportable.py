"""What is exported, wherever it comes from: a run of fbkit's, or somebody's own model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fbkit.device_runtime.manifest import InputSpec
from fbkit.export.defaults import Chosen
from fbkit.export.real_pictures import RealPictures
from fbkit.train.models import SplitModel


@dataclass(frozen=True)
class Exportable:
    """A model and all that is needed to make a bundle of it.

    Attributes:
        origin: what messages call it.
        model: in eval mode with static statistics.
        calibration: pictures from which int8 takes its ranges; None for fp32.
        verification: other pictures, on which the bundle is compared with torch.
        provenance: where the model comes from; JSON values only.
        choose_defaults: finds the personalization defaults; slow, so it is asked last.
    """

    origin: str
    model: SplitModel
    classes: tuple[str, ...]
    spec: InputSpec
    calibration: RealPictures | None
    verification: RealPictures
    provenance: dict[str, Any]
    choose_defaults: Callable[[], Chosen]
