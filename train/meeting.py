"""How the workers that torchrun starts find each other, also after it started them anew."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous


def meet_under_torchrun(patience: timedelta) -> tuple[PrefixStore, int, int]:
    """A store that these workers share, empty at first; this worker's rank; how many there are.

    Raises:
        RuntimeError, ValueError: there is no way to the store, or the environment is not torchrun's.
    """
    store, rank, count = next(iter(rendezvous("env://", timeout=patience)))
    return _fresh_part(store, rank, count), rank, count


def _fresh_part(store: Any, rank: int, count: int) -> PrefixStore:
    """A part of torchrun's store that nobody wrote to before this start of the workers.

    torchrun may keep one store over its restarts (torch 2.13 does), and then new workers would find the addresses of
    dead ones and wait for them. No number that torchrun gives is the same on all machines and new with each restart.
    So the first worker draws a name, and gives it to whoever asks with a name of their own.
    """
    mine = uuid.uuid4().hex
    if rank != 0:
        store.set(f"fbkit/asks/{rank}", mine)
        name = store.get(f"fbkit/answers/{mine}").decode()  # waits for it
        store.set(f"fbkit/{name}/has/{rank}", "")
        return PrefixStore(f"fbkit/{name}", store)
    waiting, answered = set(range(1, count)), {""}
    while waiting:
        for other in sorted(waiting):
            key = f"fbkit/asks/{other}"
            asks = store.get(key).decode() if store.check([key]) else ""  # perhaps a dead worker's, then it changes
            if asks not in answered:
                store.set(f"fbkit/answers/{asks}", mine)
                answered.add(asks)
        waiting = {other for other in waiting if not store.check([f"fbkit/{mine}/has/{other}"])}
        time.sleep(0.02)
    return PrefixStore(f"fbkit/{mine}", store)
