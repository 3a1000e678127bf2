"""A client that waits for a whole answer and leaves before it is there.

Belongs here: noticing that, beside the work it waits for.
Does not belong here: streams, whose transport notices by itself, and what leaving ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")


async def heard_out(connection: Request, work: Coroutine[Any, Any, T], leave: Callable[[], None] | None) -> T | None:
    """What `work` returns, or raises; when the client leaves before, `leave` is called, which is to bring it to its end.
    Without `leave` nobody waits for it any longer then, and None is returned.

    The body of the request is to be read by now: after it nothing comes but that the client has gone, or that the grace of a
    stop is over.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(connection))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            if leave is None:
                return None
            leave()
        return await working
    finally:
        leaving.cancel()
        working.cancel()


async def _left(connection: Request) -> None:
    while (await connection.receive())["type"] != "http.disconnect":
        pass
