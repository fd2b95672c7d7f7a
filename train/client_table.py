"""What each client got: how many pictures of which class, summed up for people and written as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.table import Column, Table
from rich.text import Text
from torch import Tensor

from fbkit.errors import printable
from fbkit.train.data import Dataset
from fbkit.train.owned import sizes_of
from fbkit.train.partition import Clients

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClientTable:
    """``train`` and ``test``: int64 [clients, classes], numbers of pictures; ``held_out``: bool [clients].

    named: whether the clients came with the data and have names of their own.
    """

    names: tuple[str, ...]
    named: bool
    classes: tuple[str, ...]
    held_out: npt.NDArray[np.bool_]
    train: Counts
    test: Counts

    def role(self, client: int) -> str:
        return "held out" if self.held_out[client] else "training"

    def unevenness(self) -> float:
        """How much clients differ: 0 where all have the same mix of classes, near 1 where all have other classes.

        The mean over clients of the total variation distance (half the sum of absolute differences) between the
        client's distribution of training labels and everybody's.
        """
        some = self.train[self.train.sum(axis=1) > 0]
        each = some / some.sum(axis=1, keepdims=True)
        return float(np.abs(each - some.sum(axis=0) / some.sum()).sum(axis=1).mean() / 2)


def tabulate(dataset: Dataset, clients: Clients) -> ClientTable:
    """Count every client's pictures by class."""
    held_out = np.zeros(len(clients.train), dtype=np.bool_)
    held_out[list(clients.held_out)] = True
    class_count = len(dataset.classes)
    return ClientTable(
        names=tuple(clients.name(number) for number in range(len(clients.train))),
        named=bool(clients.names),
        classes=dataset.classes,
        held_out=held_out,
        train=_count(dataset.train.labels, clients.train, class_count),
        test=_count(dataset.test.labels, clients.test, class_count),
    )


def write_table(table: ClientTable, path: Path) -> None:
    """Write a CSV with a line for each client, split and class of which the client has pictures."""
    # Folder names that are no text to Python are written as the bytes they are.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("client", "name", "role", "split", "class", "pictures"))
        for client, name in enumerate(table.names):
            for split, counts in (("train", table.train[client]), ("test", table.test[client])):
                for label in np.flatnonzero(counts).tolist():
                    label_name = plain_cell(table.classes[label])
                    writer.writerow((client, plain_cell(name), table.role(client), split, label_name, counts[label]))


def plain_cell(name: str) -> str:
    """A name for a CSV's cell, with ' in front where a spreadsheet would take it for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def describe_data(dataset: Dataset, source: str) -> list[str]:
    """The pictures in a few lines."""
    channels, height, width = dataset.shape
    numbers = f"{len(dataset.train)} training and {len(dataset.test)} test pictures, {len(dataset.classes)} classes"
    mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (dataset.mean, dataset.std))
    return [
        f"data: {source}, {numbers}",
        f"pictures: {width} x {height}, {channels} channel{'s' * (channels > 1)}, mean {mean}, std {std}",
    ]


def describe_clients(table: ClientTable) -> list[str]:
    """The clients in a few lines."""
    apart = int(table.held_out.sum())
    spreads = {
        "training pictures a client": table.train.sum(axis=1),
        "test pictures a client": table.test.sum(axis=1),
        "classes a client": (table.train > 0).sum(axis=1),
    }
    return [
        f"clients: {len(table.names)}, of which {len(table.names) - apart} train and {apart} are held out",
        *(f"{name}: {v.min()} to {v.max()}, median {np.median(v):g}" for name, v in spreads.items()),
        f"unevenness: {table.unevenness():.2f} (0: all clients have the same mix of classes, near 1: each its own)",
    ]


def clients_for_people(table: ClientTable, first: int, width: int) -> Table:
    """A table of the first clients, a row each, for a screen that is ``width`` characters wide."""
    names = [printable(name) for name in table.names[:first]]
    rows = [
        (
            str(client),
            *([_shortened(name, max(4, min(24, width // 4)))] if table.named else []),
            table.role(client),
            str(table.train[client].sum()),
            str(table.test[client].sum()),
        )
        for client, name in enumerate(names)
    ]
    headers = ("client", *(["name"] if table.named else []), "role", "train", "test")
    widths = [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]
    # Beside each column lie two spaces and a line, and one more line at the end.
    room = max(width - sum(widths) - 3 * (len(widths) + 1) - 1, len("classes"))
    shown = Table(
        *(
            Column(header, justify="left" if header in ("name", "role") else "right", no_wrap=True)
            for header in headers
        ),
        Column("classes", no_wrap=True),
    )
    for client, row in enumerate(rows):
        words = _shortened(_classes_in_words(table.train[client], table.classes, room), room)
        shown.add_row(*map(Text, row), Text(words))
    return shown


def _shortened(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _count(labels: Tensor, owned: Sequence[Tensor], class_count: int) -> Counts:
    owners = np.repeat(np.arange(len(owned)), sizes_of(owned))
    theirs = labels.numpy()[np.concatenate([indices.numpy() for indices in owned])]
    cells = np.bincount(owners * class_count + theirs, minlength=len(owned) * class_count)
    return cells.reshape(len(owned), class_count).astype(np.int64)


def _classes_in_words(counts: Counts, classes: tuple[str, ...], room: int) -> str:
    """The classes with most pictures first, as many as there is room for."""
    labels = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]]
    if not labels:
        return "none"
    entries = [f"{printable(classes[label])} {counts[label]}" for label in labels]
    for kept in range(len(entries), 1, -1):
        more = f", {len(entries) - kept} more" if kept < len(entries) else ""
        words = ", ".join(entries[:kept]) + more
        if cell_len(words) <= room:
            return words
    rest = f" {counts[labels[0]]}" + (f", {len(entries) - 1} more" if len(entries) > 1 else "")
    return _shortened(printable(classes[labels[0]]), max(room - cell_len(rest), 2)) + rest
