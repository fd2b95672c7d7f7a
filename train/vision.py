"""torchvision, also beside a torch that its compiled operators do not fit."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

_OPERATORS = ("nms", "qnms")

# The definitions vanish with the object that made them.
_stand_ins: list[Any] = []


def import_torchvision() -> ModuleType:
    """Import torchvision; where its compiled operators cannot load, its other parts still work.

    torchvision's wheels are linked against one build of torch. Beside another one (a CPU build beside a CUDA wheel is
    the common case) its operators do not load, and the import fails because it registers shapes for them. Defining
    their signatures first lets data sets, transforms and classification models work; detection models do not.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _stand_ins.append(library)
        import torchvision
    module: ModuleType = torchvision
    return module
