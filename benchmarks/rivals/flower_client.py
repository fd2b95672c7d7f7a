"""Flower's ClientApp. A module of its own, so that actors import it once instead of getting it with each message."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from local_training import Batcher, optimizer_of, stream, train
from net import Net, make_net
from torch import Tensor
from workload import Workload, read_workload

app = ClientApp()


@dataclass(frozen=True)
class Kept:
    """What an actor keeps from one client to the next."""

    workload: Workload
    images: Tensor
    labels: Tensor
    net: Net


@lru_cache(maxsize=1)
def kept(folder: str) -> Kept:
    torch.set_num_threads(1)
    workload = read_workload(Path(folder))
    spec = workload.spec
    return Kept(
        workload,
        torch.from_numpy(workload.images),
        torch.from_numpy(workload.labels),
        make_net(workload.shape, spec, workload.weights),
    )


@app.query()
def which_client(message: Message, context: Context) -> Message:
    """Tell the server which client a node is; the actor gets ready on the way."""
    kept(str(message.content["config"]["workload"]))
    client = int(context.node_config["partition-id"])
    return Message(RecordDict({"metrics": MetricRecord({"client": client})}), reply_to=message)


@app.train()
def train_client(message: Message, context: Context) -> Message:
    """Train on the client's pictures, from the server's weights."""
    config = message.content["config"]
    here = kept(str(config["workload"]))
    spec, client = here.workload.spec, int(context.node_config["partition-id"])
    indices = torch.from_numpy(here.workload.pictures_of(client))
    images, labels = here.images[indices], here.labels[indices]
    generator = stream(spec.seed, int(config["server-round"]), client)

    here.net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = optimizer_of(spec)(here.net.parameters(), lr=float(config["lr"]))
    batcher = Batcher.of(spec)
    batches = (batch for _ in range(spec.local_epochs) for batch in batcher.one_pass(images, labels, generator))
    pictures = train(here.net, batches, optimizer)

    weight = len(labels) if spec.weighting == "examples" else 1
    metrics = MetricRecord({"weight": weight, "pictures": pictures})
    content = RecordDict({"arrays": ArrayRecord(here.net.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)
