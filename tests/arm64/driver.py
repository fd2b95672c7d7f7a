"""Personalize on this machine through the real command line and print what came out, as one JSON object.

    python driver.py BUNDLE PICTURES OUT

Run by the tests on the emulated device and on this machine, whose outcomes must agree. All commands share one process
because on the device the imports take longer than everything else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from fbkit.cli import main
from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.fitting import default_recipe


def fbkit(*arguments: str | Path) -> Any:
    """Run one command as the shell would and return the JSON object that it printed."""
    sys.argv = ["fbkit", *map(str, arguments), "--json"]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"fbkit {arguments[0]} ended with exit code {end.code}")
    return json.loads(output.getvalue())


def personalize(bundle: Path, pictures: Path, out: Path) -> dict[str, Any]:
    """Do what a person does with a bundle; the profiles come to lie in ``out``, one for each kind of step."""
    train, test = pictures / "train", pictures / "test"
    profile = out / "exact"
    ways = {
        "exact": ("--solver", "exact"),
        "numpy": ("--solver", "sgd", "--step", "numpy"),
        "graph": ("--solver", "sgd", "--step", "graph"),
    }
    return {
        "machine": platform.machine(),
        "check": fbkit("check", bundle),
        "personalize": {
            way: fbkit("personalize", bundle, train, "--profile", out / way, *options) for way, options in ways.items()
        },
        "predict": fbkit("predict", bundle, *sorted(test.glob("*/*")), "--profile", profile),
        "evaluate": fbkit("evaluate", bundle, test, "--profile", profile),
        "curve": curve(Bundle.open(bundle), train, test),
        "torch": "torch" in sys.modules,
    }


def curve(bundle: Bundle, train: Path, test: Path) -> list[tuple[float, float]]:
    """After each epoch of SGD: percent of the test pictures, and the loss in training."""
    personalizer, heads = Personalizer(bundle), []
    features, labels = personalizer.read_folder(test)
    recipe = default_recipe(bundle.manifest.personalization, "sgd")
    personalizer.fit(train, recipe, listener=lambda _epoch, head, loss: heads.append((head, loss)), dry_run=True)
    return [(head.accuracy(features, labels), loss) for head, loss in heads]


if __name__ == "__main__":
    sys.executable = os.environ.get("DEVICE_PYTHON", sys.executable)  # what a bundle's trial starts
    json.dump(personalize(*map(Path, sys.argv[1:])), sys.stdout)
