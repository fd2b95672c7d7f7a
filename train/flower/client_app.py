"""A silo's end of a Flower run: ``fbkit.train.flower.client_app:app``."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Error, Message
from flwr.clientapp import ClientApp

from fbkit.console import Reporter
from fbkit.errors import UserError, describe
from fbkit.train.flower.letters import DESCRIBE, EVALUATE, STATISTICS, TRAIN, Letter, Refusal
from fbkit.train.flower.messages import from_record, to_record
from fbkit.train.flower.silo import answer
from fbkit.train.flower.silo_pictures import find_place
from fbkit.train.flower.terms import Terms, read_terms

_REMEMBERED = "fbkit"
_UNKNOWN = 0  # the code of an error that Flower has no number for

app = ClientApp()


def _answering(kind: str) -> Callable[[Message, Context], Message]:
    def answer_message(message: Message, context: Context) -> Message:
        with Reporter() as reporter:
            try:
                return Message(to_record(_answer(kind, message, context, reporter)), reply_to=message)
            except Refusal as refusal:
                told, said = refusal.told, str(refusal)
            except UserError as error:
                told, said = "could not do it; the silo's log says why", str(error)
            except Exception as error:  # noqa: BLE001  Flower would send the error's text, which can name files
                traceback.print_exc()
                told, said = "failed; the silo's log says why", describe(error)
            reporter.line(f"fbkit: {said}")
            return Message(Error(code=_UNKNOWN, reason=told), reply_to=message)

    return answer_message


def _answer(kind: str, message: Message, context: Context, reporter: Reporter) -> Letter:
    letter = from_record(message.content)
    terms = read_terms(letter.values)
    _remember(terms, context)
    return answer(kind, terms, letter.tensors, find_place(context.node_config), reporter)


def _remember(terms: Terms, context: Context) -> None:
    """Raise Refusal where the terms are not those of the run's first letter."""
    key = f"{_REMEMBERED}-{context.run_id}"
    remembered = context.state.config_records.get(key)
    if remembered is None:
        context.state[key] = ConfigRecord({"terms": terms.sha256})
    elif remembered["terms"] != terms.sha256:
        raise Refusal("was given another recipe, other classes or another head than at the beginning of the run")


for _kind, _register in (
    (DESCRIBE, app.query("describe")),
    (TRAIN, app.train()),
    (STATISTICS, app.query("statistics")),
    (EVALUATE, app.evaluate()),
):
    _register(_answering(_kind))
