"""A .pte bundle where nothing can run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# A name that is None in sys.modules cannot be imported, as if its package were not installed.
CLI_WITHOUT_RUNTIMES = """
import sys
sys.modules.update(dict.fromkeys(("torch", "executorch", "executorch_numpy_runtime")))
from fbkit.cli import main
main()
"""


def test_pte_bundle_without_a_runtime_names_the_ways_out(pte_bundle: Path) -> None:
    """Whoever copies the wrong kind of bundle to a small device must learn in one line what to do."""
    ended = subprocess.run(
        [sys.executable, "-c", CLI_WITHOUT_RUNTIMES, "check", pte_bundle], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"fbkit: {pte_bundle}: body.pte: no runtime for .pte files is installed")
    for way_out in ("pip install 'fbkit[pte]'", "pip install 'fbkit[executorch]'", "--target onnx"):
        assert way_out in line
