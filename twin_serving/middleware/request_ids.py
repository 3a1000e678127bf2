"""The id of a request: taken from its sender or made, told back, and known to every layer below.

Belongs here: choosing the id.
Does not belong here: how log lines look (`logs.py`), and the one that says what became of the request (`metrics.py`).
"""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpm_kernel.request_context import RequestContext, within_request

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
"""Short enough for PostgreSQL's application_name, and nothing that could break a line of the log."""


class RequestIds:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _SANE.fullmatch(sent) else uuid.uuid4().hex

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with within_request(RequestContext(request_id)):
            await self.app(scope, receive, tell)
