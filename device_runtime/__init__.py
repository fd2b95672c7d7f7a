"""What runs on the device: open a bundle, personalize its head on local pictures, predict. Needs no torch.

>>> from fbkit.device_runtime import Bundle, Personalizer
>>> bundle = Bundle.open("bundle")
>>> personalizer = Personalizer(bundle, "profile")
>>> personalizer.fit("my-pictures")
>>> personalizer.predict(["photo.jpg"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.head import Head
    from fbkit.device_runtime.personalizer import Personalizer
    from fbkit.device_runtime.solvers.sgd import Schedule

_HOMES = {"Bundle": "bundle", "Head": "head", "Personalizer": "personalizer", "Schedule": "solvers.sgd"}

__all__ = ["Bundle", "Head", "Personalizer", "Schedule"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
