"""From a model to a bundle for the edge: split, fold, lower, verify.

``export_run`` and, for a model that fbkit never trained, ``export_model`` are the functions behind ``fbkit export``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fbkit.lazy import lazy_names

if TYPE_CHECKING:
    from fbkit.export.exporting import Options, export_model, export_run
    from fbkit.export.own_model import OwnModel

__getattr__ = lazy_names(
    __name__,
    {"Options": "exporting", "OwnModel": "own_model", "export_model": "exporting", "export_run": "exporting"},
)

__all__ = ["Options", "OwnModel", "export_model", "export_run"]
