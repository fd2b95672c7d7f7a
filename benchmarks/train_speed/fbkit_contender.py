"""fbkit itself, by its public door: ``train`` with so many workers, timed from outside round by round.

python -m fbkit.benchmarks.train_speed.fbkit_contender WORKLOAD OUT WORKERS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fbkit.benchmarks.train_speed.contender import write_result
from fbkit.benchmarks.train_speed.workload import recipe_of
from fbkit.console import Reporter
from fbkit.train import train
from fbkit.train.metrics import read_metrics


class _Clock(Reporter):
    """Notes when each step of each stage ended."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.begun: dict[str, float] = {}
        self.ended: dict[str, list[float]] = {}

    @contextmanager
    def stage(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
        self.begun[description] = time.monotonic()
        ended = self.ended.setdefault(description, [])
        with super().stage(description, total, done) as advance:

            def noted(note: str = "") -> None:
                ended.append(time.monotonic())
                advance(note)

            yield noted


def main(workload: Path, out: Path, workers: int) -> None:
    started = time.monotonic()
    recipe = recipe_of(workload)
    clock = _Clock()
    run = train(recipe, out / "run", workers=workers, reporter=clock)
    stage = f"training {recipe.training.algorithm}"
    ended = clock.ended[stage]
    seconds = [after - before for before, after in zip([clock.begun[stage], *ended], ended, strict=False)]
    # Every client has equally many pictures, so a round's number is the same for all of them.
    pictures = [round(line["pictures_per_second"] * line["seconds"]) for line in read_metrics(run.folder)]
    write_result(out, clock.begun[stage] - started, seconds, pictures, run.load_model().state_dict())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
