"""Connections to PostgreSQL that end a statement which is not answered: a stopped server says nothing, and is reachable.

Belongs here: the bound of one statement, on this side.
Does not belong here: the server's own time limits, which a stopped server does not keep, and pools (`tables.py`).

Why: the machine of a stopped server still answers for it on the level of TCP, so that no keepalive notices, and whoever had
asked waited for as long as it was stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

ANSWER_S = 25.0
"""Longer than any lock of ours is waited for."""


def bound_statements(engine: Engine, answer_s: float | None = None) -> None:
    """Make every connection of this engine give up a statement after so long, and itself with it: what it did is not known."""
    from sqlalchemy import event

    bounded = _bounded(ANSWER_S if answer_s is None else answer_s)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return bounded.connect(*arguments, **named)


def _bounded(answer_s: float) -> Any:
    import psycopg
    from psycopg.errors import OperationalError, _WaitTimeout

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            if timeout is not None:
                return super().wait(gen, interval, timeout)
            try:
                return super().wait(gen, interval, answer_s)
            except _WaitTimeout:
                self.close()
                raise OperationalError(f"no answer in {answer_s:.0f} s") from None

    return BoundedConnection
