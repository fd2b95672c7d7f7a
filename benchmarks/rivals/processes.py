"""When a process began, and that it does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_READ_AT = time.time()
_PR_SET_PDEATHSIG = 1  # from sys/prctl.h


def process_started() -> float:
    """When this process began, in the terms of time.time(); without /proc, when this module was read."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return _READ_AT


def end_with_parent() -> None:
    """Let the kernel end this process when its parent ends, however that is. Only Linux can."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
