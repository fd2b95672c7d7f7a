"""How fast personalization converges, and the demo that shows it.

The functions behind the commands: ``run_convergence`` (fbkit bench convergence) and ``run_demo`` (fbkit demo).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fbkit.benchmarks.convergence import run_convergence
    from fbkit.benchmarks.demo import run_demo

_HOMES = {"run_convergence": "convergence", "run_demo": "demo"}

__all__ = ["run_convergence", "run_demo"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
