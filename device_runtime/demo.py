"""The device's part of the story, with a bundle and pictures that fbkit carries: no cluster and no torch needed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fbkit.console import say_next, stdout
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.checking import check_opened
from fbkit.device_runtime.fitting import Recipe
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.solvers.sgd import Schedule
from fbkit.files import refuse_existing

FOLDER = Path(__file__).parent / "demo"
RECIPE = Recipe("sgd", "keep", 0.0, Schedule(epochs=10, lr=0.01))


def run_device_demo(out: Path | None = None) -> None:
    """Check the carried bundle, personalize it, print the curve, predict.

    Args:
        out: the profile folder to make; None for a new temporary one.

    Raises:
        UserError: ``out`` exists.
    """
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="fbkit-demo-")) / "profile"
    refuse_existing(out)
    folder, pictures = FOLDER / "bundle", FOLDER / "pictures"

    bundle = Bundle.open(folder)
    report = check_opened(bundle)
    worst = max(report.errors.values())
    stdout.print(
        f"1. the bundle is whole and runs here on {report.runtime} (largest self-test error {worst:.0e})",
    )

    personalizer = Personalizer(bundle, out)
    features, labels = personalizer.read_folder(pictures / "test")
    heads: list[Head] = [bundle.head]
    result = personalizer.fit(pictures / "train", RECIPE, listener=lambda _epoch, head, _loss: heads.append(head))
    learned = ", ".join(f"{count} of {name}" for name, count in result.pictures.items())
    stdout.print(f"2. personalized on {learned}; accuracy on {len(labels)} other pictures:")
    block = "█" if stdout.encoding.startswith("utf") else "#"
    for epoch, head in enumerate(heads):
        accuracy = head.accuracy(features, labels)
        stdout.print(f"   epoch {epoch:2d} {block * round(accuracy / 2.5):40s} {accuracy:5.1f}%")
    stdout.print("   seconds: " + ", ".join(f"{name} {value:.3f}" for name, value in result.seconds.items()))

    stdout.print("3. predictions with the personal head:")
    shown = [sorted(path.iterdir())[0] for path in sorted((pictures / "test").iterdir())]
    for prediction in personalizer.predict(shown):
        path = Path(prediction.picture)
        certainty = 100 * max(prediction.probabilities.values())
        stdout.print(f"   {path.parent.name}/{path.name}: {prediction.label} {certainty:.0f}%")
    stdout.print(f"profile: {out}")
    say_next("evaluate", folder, pictures / "test", "--profile", out)
    say_next("studio", folder, "--profile", out)
