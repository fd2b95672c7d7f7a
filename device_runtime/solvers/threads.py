"""How many threads numpy's products use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_LARGE = 50_000_000  # multiplications in one product


@cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def as_needed(multiplications: int) -> AbstractContextManager[Any]:
    """One thread for small products: threads that wait for each other cost more than they save.

    With 100 pictures of 1280 features two threads took three times as long as one where the machine had other work,
    and no less where it had none.
    """
    return nullcontext() if multiplications > _LARGE else _blas().limit(limits=1)
