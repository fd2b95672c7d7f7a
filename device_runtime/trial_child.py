"""The child of a trial (``trial.py``): loads and runs a bundle's files under limits, and says how that went.

Run as ``python -P -m fbkit.device_runtime.trial_child FOLDER DIGEST``.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fbkit.device_runtime.body import import_runtime
from fbkit.device_runtime.bundle import read_contents
from fbkit.device_runtime.checking import check_opened
from fbkit.device_runtime.manifest import FILE_NAME
from fbkit.device_runtime.pte_runtime import NoRuntime
from fbkit.device_runtime.trial import Limits, limits_of
from fbkit.errors import UserError

_MAX_WRITTEN = 16 * 1024**2
_MAX_SAID = 1000


def main() -> None:
    """Answer on stdout, which nothing that a bundle's files say can reach."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)

    def say(kind: str, text: str) -> None:
        answers.write(f"{kind} {text[:_MAX_SAID]}\n")
        answers.flush()

    try:
        _try(Path(sys.argv[1]), sys.argv[2], say)
        say("good", "")
    except NoRuntime as error:
        say("missing", str(error))
    except UserError as error:
        say("refused", str(error))
    except MemoryError:
        say("starved", "")
    os._exit(0)  # runtimes take their time to leave


def _try(folder: Path, digest: str, say: Callable[[str, str], None]) -> None:
    """What the verdict is about; all that was loaded has gone when it returns."""
    contents = read_contents(folder)
    manifest = contents.manifest
    if contents.digest != digest:
        raise UserError(f"{folder / FILE_NAME}: was changed while the bundle was opened; try again")
    import_runtime(manifest.target)
    say("ready", "")
    os.dup2(1, 2)  # to nowhere: from here on it is the runtimes that write there
    _limit(limits_of(manifest))
    say("at", manifest.body)
    check_opened(contents.load(), lambda file: say("at", file))


def _limit(limits: Limits) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, _MAX_WRITTEN)
    # The parent keeps the time; this is for a child that has lost it. Idle threads of a runtime may spin.
    _lower(resource.RLIMIT_CPU, math.ceil(time.process_time() + limits.seconds * (os.cpu_count() or 1)))
    with suppress(OSError):  # Linux only; where there is none, as on macOS, the limit of time still holds
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + limits.memory)
        Path("/proc/self/oom_score_adj").write_text("1000")  # if the machine runs out of memory, this process goes


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lowest, lowest))


if __name__ == "__main__":
    main()
