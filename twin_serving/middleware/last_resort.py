"""Of what nobody foresaw: a line in the log and a problem that says nothing of it.

Belongs here: the last `except`.
Does not belong here: errors of the tree, which `errors.py` translates.

Why not the framework's own: it stands outside every layer, where the request has no id any more and no headers are added.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpm_kernel.errors import TwinError
from twin_serving.errors import UNFORESEEN, error_response, log, twin_error_response


class LastResort:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note)
        except ClientDisconnect:
            log.info("%s %r: the client left", scope["method"], scope["path"])
        except Exception as error:
            if not isinstance(error, TwinError):
                log.error("%s %r failed", scope["method"], scope["path"], exc_info=error)
            if begun:
                raise  # half an answer: only a broken connection tells that it is no whole one
            if isinstance(error, TwinError):
                response = twin_error_response(scope["path"], error)
            else:
                response = error_response(scope["path"], *UNFORESEEN, 500)
            await response(scope, receive, send)
