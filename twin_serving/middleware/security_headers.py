"""What browsers are told about every answer.

Belongs here: headers that do not depend on the route, but for the page of the documentation.
Does not belong here: CORS, which is Starlette's.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpm_kernel.access_settings import AccessSettings

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
DOCS = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; style-src https://cdn.jsdelivr.net "
    "'unsafe-inline'; img-src 'self' data: https://fastapi.tiangolo.com; connect-src 'self'; frame-ancestors 'none'"
)
"""Of FastAPI's page, which loads Swagger UI and begins with a script of its own."""


class SecurityHeaders:
    def __init__(self, app: ASGIApp, serving: AccessSettings) -> None:
        self.app = app
        self._hsts_s = serving.hsts_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["x-frame-options"] = "DENY"
                headers["referrer-policy"] = "no-referrer"
                headers["content-security-policy"] = DOCS if scope["path"].startswith("/docs") else NOTHING
                headers.setdefault("cache-control", "no-store")  # what answers hold is somebody's memory
                if self._hsts_s:
                    headers["strict-transport-security"] = f"max-age={self._hsts_s}; includeSubDomains"
            await send(message)

        await self.app(scope, receive, add if scope["type"] == "http" else send)
