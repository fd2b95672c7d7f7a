"""What runs on the device: open a bundle, personalize its head on local pictures, predict. Needs no torch.

>>> from fbkit.device_runtime import Bundle, Personalizer
>>> bundle = Bundle.open("bundle")
>>> personalizer = Personalizer(bundle, "profile")
>>> personalizer.fit("my-pictures")
>>> personalizer.predict(["photo.jpg"])

The functions behind the commands: ``read_manifest`` (inspect), ``check_bundle`` (check), ``Personalizer.fit``
(personalize), ``Personalizer.predict`` and ``Personalizer.evaluate``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fbkit.lazy import lazy_names

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it when it is imported, by whomever

if TYPE_CHECKING:
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.checking import check_bundle
    from fbkit.device_runtime.head import Head
    from fbkit.device_runtime.manifest import read_manifest
    from fbkit.device_runtime.personalizer import Personalizer
    from fbkit.device_runtime.solvers.exact import ExactFit, fit_exact
    from fbkit.device_runtime.solvers.sgd import Schedule

__getattr__ = lazy_names(
    __name__,
    {
        "Bundle": "bundle",
        "ExactFit": "solvers.exact",
        "Head": "head",
        "Personalizer": "personalizer",
        "Schedule": "solvers.sgd",
        "check_bundle": "checking",
        "fit_exact": "solvers.exact",
        "read_manifest": "manifest",
    },
)

__all__ = ["Bundle", "ExactFit", "Head", "Personalizer", "Schedule", "check_bundle", "fit_exact", "read_manifest"]
