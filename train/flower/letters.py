"""What server and silos say to each other, whatever carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from fbkit.errors import UserError, printable

# The kinds of letters, as Flower routes them.
DESCRIBE: Final = "query.describe"
TRAIN: Final = "train"
STATISTICS: Final = "query.statistics"
EVALUATE: Final = "evaluate"

MOST_CLIENTS: Final = 100_000


@dataclass(frozen=True)
class Letter:
    """values: numbers, texts and lists of one kind of these, by name. tensors: by name, on the CPU."""

    values: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Channel(Protocol):
    """The server's way to the silos. A node is a silo's address, good until the silo is started anew."""

    def connected(self) -> list[int]:
        """The nodes that can be asked now."""

    def ask(self, kind: str, nodes: Sequence[int], letter: Letter) -> dict[int, Letter | str]:
        """Send the letter and wait; by node the answer, or why there is none. Who is not there was not in time."""


class Refusal(UserError):
    """Why a silo does not do what a letter asks.

    told: for the server, so without names of files and folders. at_home: those, for the silo's own log.
    """

    def __init__(self, told: str, at_home: str = "") -> None:
        super().__init__(f"{told} ({at_home})" if at_home else told)
        self.told = printable(" ".join(told.split()))


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Description(_Values):
    """What a silo says of itself before the first round.

    sums, squares: over all training pixels, for each channel the values 0..255 and their squares; empty where the
    recipe gives mean and std.
    """

    client: int = Field(ge=0, lt=MOST_CLIENTS)
    train_pictures: int = Field(ge=1)
    test_pictures: int = Field(ge=1)
    sums: list[int]
    squares: list[int]


class Trained(_Values):
    """What comes back from a round beside the weights: mean loss, and how many pictures were stepped on."""

    loss: float
    pictures: int = Field(ge=1)


class Loss(_Values):
    """Mean loss on a silo's training pictures, with static statistics; not finite where the model has diverged."""

    model_config = ConfigDict(allow_inf_nan=True)

    loss: float


class Judged(_Values):
    """evaluation: as in evaluation.json, of this one client."""

    evaluation: str


Values = TypeVar("Values", bound=_Values)


def check_values(kind: type[Values], values: dict[str, Any]) -> Values:
    """Raise UserError, without the values themselves, where they are not of this kind."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"its {key or 'letter'} cannot be used ({first['msg']})") from error
