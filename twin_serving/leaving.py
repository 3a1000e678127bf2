"""A client that waits for a whole answer and leaves before it is there.

Belongs here: noticing that, beside the work it waits for, and what becomes of a turn that is waited for so.
Does not belong here: streams, whose transport notices by itself, and what leaving ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from twin_serving.events import GRACE_S, expire
from twin_serving.live_turns import LiveTurn

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


async def hear(connection: Request, live: LiveTurn, *, whole: bool, kept: bool) -> bool:
    """Wait for a turn's end (`whole`), or until it has begun; False where the client has left, and nobody reads an answer.

    `kept`: somebody may come back for it, so that it goes on without them. Raises: what it failed with before it had begun, and
    where its end was waited for at any time.
    """
    with live.heard():
        ready = partial(getattr, live, "has_ended" if whole else "has_begun")
        waiting = live.wait(ready, max(0.0, live.life_left_s()) + GRACE_S)
        ended = await (heard_out(connection, waiting, None if kept else live.close) if whole else waiting)
        if ended is None and connection.app.state.stop.begun:
            live.close()  # the server goes, and the client is there
            ended = await live.wait(ready, GRACE_S)
        if ended is None:
            return False
        if not ended:
            expire(live)
    if live.error is not None and (whole or not live.has_started):
        raise live.error
    return True


async def _left(connection: Request) -> None:
    while (await connection.receive())["type"] != "http.disconnect":
        pass
