"""Whether somebody still wants an answer, told to the engine from far above it.

Belongs here: the one question, carried by the context of the turn.
Does not belong here: who listens (`routes/`), and what follows from leaving (`answer_stream.py`).

Why by context: between a route and the engine lie the turn, the agent and the `Llm` port, and none of them is any wiser by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_has_left: ContextVar[Callable[[], bool] | None] = ContextVar("has_left", default=None)


@contextmanager
def listened_to(has_left: Callable[[], bool]) -> Iterator[None]:
    """Answers that are asked for in here end once `has_left` says so: while they wait, or with the piece being written."""
    token = _has_left.set(has_left)
    try:
        yield
    finally:
        _has_left.reset(token)


def listener() -> Callable[[], bool] | None:
    """Of the turn that this is called in."""
    return _has_left.get()
