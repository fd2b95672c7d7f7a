"""Train a workload with Apple's pfl: python pfl_simulation.py WORKLOAD OUT.

With several workers this process only starts them: pfl is told by environment variables that it is one of many.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
from outcome import Outcome, read_call, write_outcome
from processes import end_with_parent, process_started
from workload import Workload

RANK, ADDRESSES, STARTED = "PFL_WORKER_RANK", "PFL_WORKER_ADDRESSES", "RIVALS_STARTED"

NOTES = [
    "pfl's processes share a cohort by the clients' sizes and meet in one all-reduce a round (torch.distributed, gloo)",
    "pfl judges the first round's clients before and after training; it cannot be told not to",
]


def main() -> None:
    started = process_started()
    _, out, workload = read_call(sys.argv)
    count = min(workload.spec.workers, workload.cohorts.shape[1])  # one without a client would wait for ever
    if count > 1 and RANK not in os.environ:
        del workload
        sys.exit(run_workers(count, started))
    if RANK in os.environ:
        end_with_parent()
    simulate(out, workload, float(os.environ.get(STARTED, started)), count)


def run_workers(count: int, started: float) -> int:
    """Run this script ``count`` times; return 0 when all went well. One that fails ends them all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(count))
    shared = {ADDRESSES: addresses, STARTED: str(started), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback()}
    workers = [
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, **shared, RANK: str(rank)})
        for rank in range(count)
    ]
    try:
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            time.sleep(0.05)
        return int(any(codes))
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. Only the first worker will."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def loopback() -> str:
    return "lo0" if sys.platform == "darwin" else "lo"


def simulate(out: Path, workload: Workload, started: float, count: int) -> None:
    """Train, as one of ``count`` workers; the first of them writes the result."""
    os.environ["PFL_PYTORCH_DEVICE"] = "cpu"
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*reduce_op.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    import torch
    from net import weights_of
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints, WeightByUser
    from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl_parts import Course, make_model, make_users

    torch.set_num_threads(1)
    spec, rank = workload.spec, int(os.environ.get(RANK, "0"))
    np.random.seed(spec.seed)  # noqa: NPY002  what pfl draws from, to be seeded alike in all workers
    model, users, course = make_model(workload), make_users(workload, rank), Course(workload)
    weighting = WeightByDatapoints() if spec.weighting == "examples" else WeightByUser()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=spec.rounds,
            evaluation_frequency=spec.rounds,
            train_cohort_size=workload.cohorts.shape[1],
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=users, val_data=users, postprocessors=[weighting]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_batch_size=spec.batch_size, local_num_epochs=spec.local_epochs, local_learning_rate=course
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[course],
        send_metrics_to_platform=False,
    )
    if rank == 0:
        seconds = [end - begin for begin, end in pairwise(course.times)]
        weights = weights_of(model.pytorch_model.net)
        notes = [f"{count} processes with one thread each", *NOTES]
        outcome = Outcome(course.times[0], seconds, course.pictures, weights, notes)
        write_outcome(out, "pfl", ["pfl", "torch", "numpy"], started, outcome)


if __name__ == "__main__":
    main()
