"""More connections than the settings allow: an answer in the form of every other, with a time to come back.

Belongs here: that refusal. The server's own would be a line of text that no client can read.
Does not belong here: how many requests of one user there may be (`gate.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from twin_serving.errors import error_response

COME_BACK_S = 2


class Crowd:
    """`count`: how many connections there are, set by the server; none, where the app runs without it."""

    def __init__(self) -> None:
        self.count: Callable[[], int] = lambda: 0


class CrowdLimit:
    def __init__(self, app: ASGIApp, crowd: Crowd, limit: int) -> None:
        self.app = app
        self._crowd = crowd
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._crowd.count() <= self._limit:
            await self.app(scope, receive, send)
            return
        said = f"more than {self._limit} connections are open: come back in {COME_BACK_S} s"
        # closed, so that it is one less
        headers = {"Retry-After": str(COME_BACK_S), "Connection": "close"}
        await error_response(scope["path"], "server_full", said, 503, headers)(scope, receive, send)
