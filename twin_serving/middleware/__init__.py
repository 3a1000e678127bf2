"""What every request passes before a route, from the outside in: pure ASGI, so that streams stay streams.

Belongs here: their order. Each layer is a file beside it.
Does not belong here: anything about one route.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from lpm_kernel.settings import Settings
from twin_serving.auth import TokenReader
from twin_serving.buckets import Buckets
from twin_serving.middleware.body_limit import BodyLimit
from twin_serving.middleware.crowd import Crowd, CrowdLimit
from twin_serving.middleware.gate import Gate
from twin_serving.middleware.last_resort import LastResort
from twin_serving.middleware.request_ids import RequestIds
from twin_serving.middleware.security_headers import SecurityHeaders
from twin_serving.openai_wire.conversation import SESSION_HEADER

ALLOWED_HEADERS = (
    *("Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID", SESSION_HEADER, "User-Agent"),
    *("OpenAI-Organization", "OpenAI-Project", "Idempotency-Key"),
    *(f"X-Stainless-{name}" for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version")),
    *(f"X-Stainless-{name}" for name in ("Async", "Retry-Count", "Timeout", "Read-Timeout", "Raw-Response")),
    *(f"X-Stainless-{name}" for name in ("Helper-Method", "Poll-Helper", "Custom-Poll-Interval")),
)
"""Of a page: ours, and those that OpenAI's client sends with every request."""


def install_middleware(app: FastAPI, settings: Settings, buckets: Buckets, reader: TokenReader | None = None) -> None:
    """`reader`: of tokens, for tests that bring keys of their own."""
    serving = settings.serving
    if reader is None and serving.auth == "jwt":
        reader = TokenReader(serving)
    # added last is outermost
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Gate, serving=serving, routes=app.routes, buckets=buckets, reader=reader)
    app.add_middleware(LastResort)
    app.state.crowd = Crowd()
    app.add_middleware(CrowdLimit, crowd=app.state.crowd, limit=serving.max_connections)
    if serving.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=serving.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=["Content-Location", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(SecurityHeaders, serving=serving)
    app.add_middleware(RequestIds)
