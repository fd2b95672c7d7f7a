"""``fbkit predict``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, show, stdout
from fbkit.device_runtime.commands.options import AsJson, SignedBy, Threads


def predict(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures.")],
    profile: Annotated[Path | None, typer.Option(help="Profile folder; without one the shipped head predicts.")] = None,
    unsure: Annotated[
        float, typer.Option(min=0, max=1, help="Below this probability of the likeliest class, name none.")
    ] = 0.0,
    threads: Threads = None,
    signed_by: SignedBy = None,
    as_json: AsJson = False,
) -> None:
    """Predict the classes of pictures, with the personal head where there is one."""
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.personalizer import Personalizer

    with Reporter(quiet=as_json) as reporter:
        opened = Bundle.open(bundle, threads, signed_by)
        predictions = Personalizer(opened, profile, reporter).predict(images, unsure)

    def for_people() -> None:
        for prediction in predictions:
            ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:3]
            likely = ", ".join(f"{name} {100 * value:.1f}%" for name, value in ranked)
            stdout.print(f"{prediction.picture}: {'' if prediction.label else 'unsure: '}{likely}")

    show({"predictions": [asdict(prediction) for prediction in predictions]}, as_json, for_people)
