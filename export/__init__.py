"""From a finished run to a bundle for the edge: split, fold, lower, verify.

``export_run`` is the function behind ``fbkit export``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fbkit.lazy import lazy_names

if TYPE_CHECKING:
    from fbkit.export.exporting import export_run

__getattr__ = lazy_names(__name__, {"export_run": "exporting"})

__all__ = ["export_run"]
