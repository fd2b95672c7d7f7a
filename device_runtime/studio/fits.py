"""Personalizing in a thread, one at a time, and what a page can see of it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.outcomes import FitResult
from fbkit.device_runtime.solvers.sgd import EpochListener
from fbkit.errors import UserError


class Stopped(Exception):
    """The server ends, and the fit with it; the profile is as it was."""


@dataclass(frozen=True)
class Progress:
    """The latest fit.

    Attributes:
        number: of the fit, from 1 on; 0 before the first.
        curve: steps of the solver, and the loss on the pictures after each; step 0 is the shipped head's.
        result: once it is done.
        error: where it failed.
    """

    number: int = 0
    running: bool = False
    curve: tuple[tuple[int, float], ...] = ()
    result: FitResult | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Fits:
    """Runs ``fit``, which is given a listener, in a thread."""

    def __init__(self, fit: Callable[[EpochListener], FitResult]) -> None:
        self._fit = fit
        self._lock = threading.Lock()
        self._progress = Progress()
        self._thread: threading.Thread | None = None
        self._stop = False

    @property
    def progress(self) -> Progress:
        return self._progress

    def start(self) -> bool:
        """Begin; False if one is running."""
        with self._lock:
            if self._stop or self._progress.running:
                return False
            self._progress = Progress(self._progress.number + 1, running=True)
            self._thread = threading.Thread(target=self._run, name="fit")
            self._thread.start()
            return True

    def stop(self) -> None:
        """End the one that is running, at its next step, and wait for it."""
        with self._lock:
            self._stop = True
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        number, curve = self._progress.number, list[tuple[int, float]]()
        done = Progress(number, error="personalizing failed; start fbkit studio with --debug to see where")

        def listen(step: int, _head: Head, loss: float) -> None:
            if self._stop:
                raise Stopped
            curve.append((step, float(loss)))
            self._progress = Progress(number, True, tuple(curve))

        try:
            result = self._fit(listen)
            done = Progress(number, False, ((0, result.loss_before), *curve), result)
        except Stopped:
            pass
        except UserError as error:
            done = Progress(number, error=str(error))
        except OSError as error:
            done = Progress(number, error=f"{error.filename or 'the profile'}: {error.strerror}")
        finally:
            self._progress = done
