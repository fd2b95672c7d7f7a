"""Models, each a body (images to features) and a linear head (features to logits).

``build_model`` makes any of them from a recipe; ``names`` knows what there is without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fbkit.lazy import lazy_names
from fbkit.train.models.names import check_model_name

if TYPE_CHECKING:
    from fbkit.train.models.norms import judge_by, norm_layers, set_static_statistics
    from fbkit.train.models.registry import build_model
    from fbkit.train.models.split_model import SplitModel, model_size
    from fbkit.train.models.splitting import split

__getattr__ = lazy_names(
    __name__,
    {
        "SplitModel": "split_model",
        "build_model": "registry",
        "judge_by": "norms",
        "model_size": "split_model",
        "norm_layers": "norms",
        "set_static_statistics": "norms",
        "split": "splitting",
    },
)

__all__ = [
    "SplitModel",
    "build_model",
    "check_model_name",
    "judge_by",
    "model_size",
    "norm_layers",
    "set_static_statistics",
    "split",
]
