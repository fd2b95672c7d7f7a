"""A result of fbkit bench convergence, made up: what the report and the comparison are tried on."""

from __future__ import annotations

import numpy as np

from fbkit.benchmarks.convergence.result import ConvergenceResult, Curve, Subject
from fbkit.benchmarks.device.facts import describe_device

SOLVERS = ("sgd", "exact", "nearest")


def made_up_convergence(
    points: float = 0.0, slower: float = 1.0, noise: int = 0, clients: int = 10, seeds: int = 2
) -> ConvergenceResult:
    """Two bodies, three solvers, 1 and 5 pictures a class.

    Args:
        points: added to what fedbabu ends at.
        slower: factor of its times.
        noise: a seed; equal ones give equal noise, of a point and of 3%.
    """
    subjects, curves = [], []
    for seed in range(seeds):
        for source, start, end in (("fedavg", 40.0, 80.0), ("fedbabu", 50.0, 85.0)):
            subjects.append(Subject(source, seed, "onnx", "fp32", "onnxruntime 1", f"{source}-{seed}", 10**6))
            for client in range(clients):
                own = np.random.default_rng([seed, client])
                for number, solver in enumerate(SOLVERS):
                    for per_class in (1, 5):
                        drawn = np.random.default_rng([noise, seed, client, number, per_class])
                        changed = source == "fedbabu"
                        last = end + own.normal(0, 4) + per_class + drawn.normal(0, 1) + points * changed
                        rounds = {"sgd": 8, "exact": 4, "nearest": 1}[solver]
                        path = start + (last - start) * (1 - np.exp(-2.0 * np.arange(rounds + 1)))
                        times = 0.01 * (1 + np.arange(rounds)) * np.exp(drawn.normal(0, 0.03))
                        curves.append(
                            Curve(
                                subject=len(subjects) - 1,
                                solver=solver,
                                per_class=per_class,
                                client=f"client-{client}",
                                pictures=5 * per_class,
                                batch=10 if solver == "sgd" else None,
                                features_seconds=0.005,
                                seconds=(0.0, *(times * (slower if changed else 1)).round(6).tolist()),
                                accuracy=tuple(path.clip(0, 100).round(3).tolist()),
                                loss=None if solver == "nearest" else tuple((2 - path / 60).round(5).tolist()),
                            )
                        )
    return ConvergenceResult(describe_device(), "fbkit bench convergence --out x", (), tuple(subjects), tuple(curves))
