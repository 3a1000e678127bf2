"""On whose behalf this code runs: the id of the request, and whose rows it may open.

Belongs here: what a request carries through every layer without being handed on, in a context variable.
Does not belong here: who sets it (the API; commands and pipelines run without one) and how a user is recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from lpm_kernel.errors import AccessError


@dataclass(frozen=True, slots=True)
class RequestContext:
    request_id: str
    may_open: frozenset[str] | None = None
    """Users whose rows this request may open; None: of everyone."""


_CURRENT: ContextVar[RequestContext | None] = ContextVar("request of this code", default=None)


def current_request() -> RequestContext | None:
    """None outside a request. A thread that is started by hand has none either, unless it runs in `copy_context()`."""
    return _CURRENT.get()


def request_id() -> str | None:
    context = _CURRENT.get()
    return context.request_id if context else None


def transaction_of(run_id: str | None) -> str | None:
    """By which name a write goes on record in whatever store: that of the request, or of the run where none is under way."""
    return request_id() or run_id


@contextmanager
def within_request(context: RequestContext) -> Iterator[None]:
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def check_may_open(user_id: str) -> None:
    """The last fence, behind those of the routes: a request opens no rows but those of whom it was let in for.

    Raises: AccessError `not_yours`.
    """
    context = _CURRENT.get()
    if context and context.may_open is not None and user_id not in context.may_open:
        raise AccessError("not_yours", f"this request may not act for {user_id!r}")
