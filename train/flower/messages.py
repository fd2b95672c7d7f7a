"""Letters as Flower's messages."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fbkit.errors import UserError, describe
from fbkit.train.flower.letters import Letter

_VALUES, _TENSORS = "values", "tensors"


def to_record(letter: Letter) -> RecordDict:
    return RecordDict({_VALUES: ConfigRecord(letter.values), _TENSORS: ArrayRecord(letter.tensors)})


def from_record(record: RecordDict) -> Letter:
    """What a message holds.

    Raises:
        UserError: it holds no letter.
    """
    try:
        tensors = record.array_records[_TENSORS].to_torch_state_dict()
        return Letter(dict(record.config_records[_VALUES]), dict(tensors))
    except Exception as error:  # hostile bytes have many ways to fail
        raise UserError(f"sent what is no letter ({describe(error)})") from error


class GridChannel:
    """The way to the silos through a SuperLink. timeout: seconds that a silo has for an answer."""

    def __init__(self, grid: Grid, timeout: float) -> None:
        self._grid = grid
        self._timeout = timeout

    def connected(self) -> list[int]:
        return list(self._grid.get_node_ids())

    def ask(self, kind: str, nodes: Sequence[int], letter: Letter) -> dict[int, Letter | str]:
        if not nodes:
            return {}
        content = to_record(letter)
        messages = [Message(content, node, kind, ttl=self._timeout) for node in nodes]
        replies = self._grid.send_and_receive(messages, timeout=self._timeout)
        asked = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        answers: dict[int, Letter | str] = {}
        for reply in replies:
            node = asked.get(reply.metadata.reply_to_message_id)
            if node is not None:
                answers[node] = _read(reply)
        return answers


def _read(reply: Message) -> Letter | str:
    if reply.has_error():
        return str(reply.error.reason)
    try:
        return from_record(reply.content)
    except UserError as error:
        return str(error)
