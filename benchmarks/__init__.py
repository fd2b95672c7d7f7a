"""How fast personalization converges, and the demo that shows it.

The functions behind the commands: ``run_convergence`` (fbkit bench convergence) and ``run_demo`` (fbkit demo).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fbkit.lazy import lazy_names

if TYPE_CHECKING:
    from fbkit.benchmarks.convergence.comparison import run_convergence
    from fbkit.benchmarks.demo import run_demo

__getattr__ = lazy_names(__name__, {"run_convergence": "convergence.comparison", "run_demo": "demo"})

__all__ = ["run_convergence", "run_demo"]
