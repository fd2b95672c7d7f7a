"""Train a workload with Flower's simulation engine: python flower_simulation.py WORKLOAD OUT."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from outcome import Outcome, read_call, write_outcome
from processes import process_started
from workload import Workload

# Read when flwr and ray are imported. Nothing is reported, nothing is left in the home folder, and Ray stays on this
# machine: on its loopback address, and with a proxy that is not there when it looks for the cloud that it may run in.
SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HTTP_PROXY": "http://127.0.0.1:9",
}

NOTES = [
    "Flower's engine looks for new messages, and its server for replies, every 0.1 seconds",
    "weights go from the server to each client and back through Ray, as bytes",
]


def main() -> None:
    started = process_started()
    folder, out, workload = read_call(sys.argv)
    with tempfile.TemporaryDirectory(prefix="fbkit-flower-") as home:
        os.environ.update(SETTINGS, FLWR_HOME=home)
        outcome = simulate(folder, workload)
    write_outcome(out, "flower", ["flwr", "ray", "torch", "numpy"], started, outcome)


def simulate(folder: Path, workload: Workload) -> Outcome:
    """Train in Flower's simulation: as many clients at once as there are workers, each with one core."""
    from flower_client import app
    from flower_server import Course, make_server
    from flwr.simulation import run_simulation

    logging.getLogger("flwr").setLevel(logging.ERROR)  # importing it sets another level
    course = Course()
    run_simulation(
        server_app=make_server(workload, folder, course),
        client_app=app,
        num_supernodes=workload.clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": workload.spec.workers, "num_gpus": 0, "log_to_driver": False},
        },
    )
    if course.arrays is None:
        raise RuntimeError("the simulation ended before its last round")
    return Outcome(
        began=course.times[0],
        round_seconds=[end - begin for begin, end in pairwise(course.times)],
        pictures=course.pictures,
        weights={name: array.numpy() for name, array in course.arrays.items()},
        notes=NOTES,
    )


if __name__ == "__main__":
    main()
