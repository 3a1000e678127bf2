"""An orderly end: answers under way are given some seconds, and what is cut then is cut as if its listener had left.

Belongs here: the one signal of a stop, and the ASGI layer that hands it to open streams.
Does not belong here: catching signals (`server.py`) and keeping what was said (the chat does that whenever a listener leaves).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Stop:
    """Begun once, by the server, in its event loop."""

    def __init__(self) -> None:
        self.begun = False
        self._over = asyncio.Event()

    def begin(self, grace_s: float) -> None:
        self.begun = True
        asyncio.get_running_loop().call_later(grace_s, self._over.set)

    async def over(self) -> None:
        """Returns when the grace of a stop has passed."""
        await self._over.wait()


class EndStreams:
    """When the grace is over, an exchange that still runs hears that its client has gone.

    Why not leave it to the server, which cancels tasks: a cancelled task leaves its thread in the middle of a token, and the
    words that were said could not be kept. Of a listener who leaves, every stream takes care.
    """

    def __init__(self, app: ASGIApp, stop: Stop) -> None:
        self._app = app
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = False

        async def receive_or_end() -> Message:
            nonlocal received
            if not received:
                message = await receive()
                received = not message.get("more_body", False)
                return message
            return await self._first_of(receive)

        await self._app(scope, receive_or_end, send)

    async def _first_of(self, receive: Receive) -> Message:
        """What the client says next, which after its request is only that it has gone; or that it is time."""
        heard = asyncio.ensure_future(receive())
        over = asyncio.ensure_future(self._stop.over())
        try:
            await asyncio.wait({heard, over}, return_when=asyncio.FIRST_COMPLETED)
            return heard.result() if heard.done() else {"type": "http.disconnect"}
        finally:
            heard.cancel()
            over.cancel()
