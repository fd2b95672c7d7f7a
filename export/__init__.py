"""From a finished run to a bundle for the edge: split, fold, lower, verify.

``export_run`` is the function behind ``fbkit export``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fbkit.export.exporting import export_run

__all__ = ["export_run"]


def __getattr__(name: str) -> Any:
    if name == "export_run":
        from fbkit.export.exporting import export_run

        return export_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
