"""The silos of a run, as the server knows them: who is who, who answered, and who did not and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.flower.letters import DESCRIBE, Channel, Description, Letter, check_values

Answer = TypeVar("Answer")


@dataclass
class Silo:
    """node: its present address. said: what it told about itself when the run began."""

    node: int
    said: Description


class Silos:
    """The silos that take part from the first round to the last, by client number.

    A silo that is started anew in the middle of a run comes under a new address. It is asked who it is, and takes its
    old place.
    """

    def __init__(self, channel: Channel, reporter: Reporter, least: int) -> None:
        """least: so many answers a question needs at least."""
        self.members: dict[int, Silo] = {}
        self._channel = channel
        self._reporter = reporter
        self._least = least
        self._met: set[int] = set()

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(sorted(self.members))

    def gather(self, letter: Letter, needed: int) -> None:
        """Ask all that are connected who they are.

        Raises:
            UserError: fewer than ``needed`` can take part, or two say the same number.
        """
        described, failures = self._meet(letter)
        for node, said in described.items():
            if other := self.members.get(said.client):
                raise UserError(
                    f"nodes {other.node} and {node} both say that they are client {said.client}; give every SuperNode "
                    "a number of its own, as in --node-config 'client=1 ...'"
                )
            self.members[said.client] = Silo(node, said)
        if len(self.members) < needed:
            why = "; ".join(f"node {node}: {reason}" for node, reason in failures.items())
            raise UserError(f"{len(self.members)} of the {needed} silos that the run needs can take part: {why}")
        for node, reason in failures.items():
            self._reporter.line(f"left out: node {node}: {reason}")

    def ask(
        self,
        kind: str,
        numbers: Sequence[int],
        letter: Letter,
        read: Callable[[int, Letter], Answer],
        stage: str,
        introduction: Letter,
    ) -> dict[int, Answer]:
        """Send a letter to some silos; say who did not answer, and why.

        Args:
            read: checks a silo's answer; a UserError counts as no answer.
            stage: what messages call this.
            introduction: the letter to ask a silo that came back who it is.

        Returns:
            What was read, by client number, ascending.

        Raises:
            UserError: fewer answered than there must be.
        """
        self._welcome_back(introduction)
        connected = set(self._channel.connected())
        nodes = {number: self.members[number].node for number in sorted(numbers)}
        answers = self._channel.ask(kind, [node for node in nodes.values() if node in connected], letter)
        found: dict[int, Answer] = {}
        failures: dict[int, str] = {}
        for number, node in nodes.items():
            answer = answers.get(node, "did not answer in time" if node in connected else "is not connected")
            try:
                if isinstance(answer, str):
                    raise UserError(answer)
                found[number] = read(number, answer)
            except UserError as error:
                failures[number] = str(error)
        if len(found) < self._least:
            why = "; ".join(f"client {number}: {reason}" for number, reason in failures.items())
            raise UserError(
                f"{stage}: {len(found)} of {len(nodes)} silos answered, but min-answers is {self._least}; {why}"
            )
        for number, reason in failures.items():
            self._reporter.line(f"{stage}: goes on without client {number}: {reason}")
        return found

    def _welcome_back(self, introduction: Letter) -> None:
        described, failures = self._meet(introduction)
        connected = set(self._channel.connected())
        for node, said in described.items():
            member = self.members.get(said.client)
            if member is None or member.node in connected:
                self._reporter.line(f"not taken in: node {node}, which says that it is client {said.client}")
            else:
                member.node = node
                self._reporter.line(f"client {said.client} is back, as node {node}")
        for node, reason in failures.items():
            self._reporter.line(f"not taken in: node {node}: {reason}")

    def _meet(self, letter: Letter) -> tuple[dict[int, Description], dict[int, str]]:
        """Ask every node that was not asked before; by node what it says, or why it says nothing."""
        new = sorted(set(self._channel.connected()) - self._met)
        if not new:
            return {}, {}
        self._met |= set(new)
        answers = self._channel.ask(DESCRIBE, new, letter)
        described: dict[int, Description] = {}
        failures: dict[int, str] = {}
        for node in new:
            answer = answers.get(node, "did not answer in time")
            try:
                if isinstance(answer, str):
                    raise UserError(answer)
                described[node] = check_values(Description, answer.values)
            except UserError as error:
                failures[node] = str(error)
        return described, failures
