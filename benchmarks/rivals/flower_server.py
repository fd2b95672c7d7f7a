"""Flower's ServerApp: FedAvg on cohorts that are given."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from workload import Workload

PATIENCE = 24 * 3600.0


@dataclass
class Course:
    """What the server noted: when each round began and the last one ended, and what the rounds gave."""

    times: list[float] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    arrays: ArrayRecord | None = None


class GivenCohorts(FedAvg):
    """FedAvg, with the clients of each round from the workload."""

    def __init__(self, workload: Workload, nodes: dict[int, int], course: Course) -> None:
        super().__init__(fraction_evaluate=0.0, weighted_by_key="weight")
        self.workload, self.nodes, self.course = workload, nodes, course

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        del grid
        self.course.times.append(time.time())
        config["server-round"] = server_round
        config["lr"] = self.workload.spec.learning_rates[server_round - 1]
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        cohort = self.workload.cohorts[server_round - 1].tolist()
        return [Message(record, self.nodes[client], MessageType.TRAIN) for client in cohort]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        came = answers(replies, self.workload.cohorts.shape[1])
        self.course.pictures.append(sum(int(reply.content["metrics"]["pictures"]) for reply in came))
        return super().aggregate_train(server_round, came)


def answers(replies: Iterable[Message], wanted: int) -> list[Message]:
    """The replies, if none is an error or missing: FedAvg would go on with those that came."""
    came = list(replies)
    for reply in came:
        if reply.has_error():
            raise RuntimeError(f"a client failed: {reply.error.reason}")
    if len(came) != wanted:
        raise RuntimeError(f"only {len(came)} of {wanted} clients answered")
    return came


def make_server(workload: Workload, folder: Path, course: Course) -> ServerApp:
    """A server that trains the workload and notes in ``course`` how it went."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        about = ConfigRecord({"workload": str(folder)})
        strategy = GivenCohorts(workload, nodes_of_clients(grid, workload.clients, about), course)
        start = ArrayRecord({name: torch.from_numpy(values) for name, values in workload.weights.items()})
        result = strategy.start(grid, start, workload.spec.rounds, timeout=PATIENCE, train_config=about)
        course.times.append(time.time())
        course.arrays = result.arrays

    return app


def nodes_of_clients(grid: Grid, clients: int, about: ConfigRecord) -> dict[int, int]:
    """The node of each client. A node knows its own number alone, so each is asked."""
    while len(nodes := list(grid.get_node_ids())) < clients:
        time.sleep(0.1)
    content = RecordDict({"config": about})
    replies = grid.send_and_receive([Message(content, node, MessageType.QUERY) for node in nodes], timeout=PATIENCE)
    return {int(reply.content["metrics"]["client"]): reply.metadata.src_node_id for reply in answers(replies, clients)}
