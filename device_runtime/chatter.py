"""Native runtimes comment on their own start to stderr, below Python; a user sees fbkit's lines only."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from fbkit.errors import UserError

# "E 00:00:00.001 executorch:program.cpp:67] reason", or without level and time "[program.cpp:67] reason".
_LOG_LINE = re.compile(r"(?:E [^\]]*|\[[^\]]*)\] (.+)")


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what this process, all its threads, writes to stderr, and log records below an error.

    Where the block raises, the runtime's own last error line joins the exception: it is often the one that says why.
    """
    try:
        real = os.dup(2)
    except OSError:  # closed, as some daemons have it: nothing to hold back
        yield
        return
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    if sys.stderr:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held, io.StringIO() as held_in_python:
        os.dup2(held.fileno(), 2)
        try:
            with redirect_stderr(held_in_python):
                yield
        except (ModuleNotFoundError, UserError):
            raise
        except Exception as error:
            held.seek(0)
            lines = [*held.read().decode(errors="replace").splitlines(), *held_in_python.getvalue().splitlines()]
            reasons = [found[1] for found in map(_LOG_LINE.match, lines) if found]
            if reasons:
                raise RuntimeError(f"{error}: {reasons[-1]}") from error
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
            logging.disable(before)
