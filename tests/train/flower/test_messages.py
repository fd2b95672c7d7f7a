"""Letters in Flower's messages, and a silo's answers when something is wrong."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="runs in .venv-flower, see test_end_to_end.py")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fbkit.errors import UserError
from fbkit.train.flower.client_app import app
from fbkit.train.flower.letters import DESCRIBE, Letter
from fbkit.train.flower.messages import GridChannel, from_record, to_record
from fbkit.train.flower.terms import Terms

# Flower's processes learn who they are when they start; a message cannot be made before.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

TERMS = Terms(recipe="seed = 1\n[data]\nsize = 8\n", classes=["a", "b"], head_sha256="0" * 64)


def test_only_the_two_ends_import_flower() -> None:
    code = "import sys, fbkit.train.training, fbkit.train.flower.federate, fbkit.train.flower.silo as s; assert s"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'flwr' not in sys.modules"], check=True)


def test_a_letter_comes_out_as_it_went_in() -> None:
    tensors = {
        "weight": torch.randn(2, 3, 3, 3).contiguous(memory_format=torch.channels_last),
        "seen": torch.tensor(3),
    }
    values = {"text": "ä", "many": [0.5, 1.5], "names": ["a", "b"], "none": [], "number": 2**40, "yes": True}
    letter = from_record(to_record(Letter(values, tensors)))
    assert letter.values == values
    assert letter.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert letter.tensors[name].dtype == tensor.dtype
        assert torch.equal(letter.tensors[name], tensor)


def test_what_is_no_letter_is_refused() -> None:
    values = ConfigRecord({"a": 1})
    damaged = ArrayRecord({"w": Array("float32", (2,), "numpy.ndarray", b"no array")})
    pickled = Array("object", (1,), "numpy.ndarray", _pickled())
    for record in (
        RecordDict(),
        RecordDict({"values": values}),
        RecordDict({"values": values, "tensors": damaged}),
        RecordDict({"values": values, "tensors": ArrayRecord({"w": pickled})}),
    ):
        with pytest.raises(UserError, match="sent what is no letter"):
            from_record(record)


def _pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


class _Grid:
    """Answers each message as the test says; a message gets its id when it is sent, as in Flower."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    def send_and_receive(self, messages: list[Message], *, timeout: float) -> list[Message]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"to {message.metadata.dst_node_id}"
            assert message.metadata.ttl == timeout == 9.0
        return [reply for message in messages if (reply := self._reply(message))]


def test_answers_are_told_apart_by_the_message_that_they_reply_to() -> None:
    def reply(message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        if node == 3:
            return None
        if node == 2:
            return Message(RecordDict(), reply_to=message)
        return Message(to_record(Letter({"node": node})), reply_to=message)

    answers = GridChannel(_Grid(reply), 9.0).ask(DESCRIBE, [4, 1, 2, 3], Letter({}))
    assert answers[1] == Letter({"node": 1})
    assert answers[4] == Letter({"node": 4})
    assert str(answers[2]).startswith("sent what is no letter")
    assert 3 not in answers
    assert GridChannel(_Grid(reply), 9.0).ask(DESCRIBE, [], Letter({})) == {}


def ask(terms: Terms, context: Context, extra: dict[str, Any] | None = None) -> str:
    """What a silo answers to a letter that it cannot answer well."""
    message = Message(to_record(Letter(terms.model_dump() | (extra or {}))), dst_node_id=5, message_type=DESCRIBE)
    message.metadata.__dict__["_message_id"] = "1"
    reply = app(message, context)
    assert reply.has_error()
    return str(reply.error.reason)


def silo(**node_config: Any) -> Context:
    return Context(run_id=1, node_id=5, node_config=node_config, state=RecordDict(), run_config={})


def test_a_silo_says_what_is_wrong_without_naming_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not know where its pictures are" in ask(TERMS, silo(client=0))
    assert "does not know which client it is" in ask(TERMS, silo(pictures="here", client=-1))
    assert "does not know which client it is" in ask(TERMS, silo(pictures="here", client=True))
    assert "is it of another fbkit?" in ask(TERMS, silo(), {"new": 1})
    ditto = TERMS.model_copy(update={"recipe": TERMS.recipe + '[training]\nalgorithm = "ditto"'})
    assert "silos train by fedavg or fedbabu" in ask(ditto, silo(pictures="here", client=0))
    assert "not TOML" in ask(TERMS.model_copy(update={"recipe": "="}), silo(pictures="here", client=0))
    capsys.readouterr()
    assert ask(TERMS, silo(pictures=str(tmp_path / "secret"), client=0)) == "could not do it; the silo's log says why"
    assert "secret: no such folder" in capsys.readouterr().err


def test_the_terms_of_a_run_cannot_change(tmp_path: Path) -> None:
    context = silo(pictures=str(tmp_path / "nowhere"), client=0)
    assert "the silo's log says why" in ask(TERMS, context)
    assert "the silo's log says why" in ask(TERMS.model_copy(update={"mean": [0.5], "std": [0.2]}), context)
    for changed in ({"recipe": "seed = 2\n[data]\nsize = 8"}, {"classes": ["b", "a"]}, {"head_sha256": "1" * 64}):
        assert "was given another recipe" in ask(TERMS.model_copy(update=changed), context)
    context.run_id = 2
    assert "the silo's log says why" in ask(TERMS.model_copy(update=changed), context)
