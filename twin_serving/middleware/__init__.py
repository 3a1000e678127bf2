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
from twin_serving.middleware.gate import Gate
from twin_serving.middleware.last_resort import LastResort
from twin_serving.middleware.request_ids import RequestIds
from twin_serving.middleware.security_headers import SecurityHeaders


def install_middleware(app: FastAPI, settings: Settings, buckets: Buckets, reader: TokenReader | None = None) -> None:
    """`reader`: of tokens, for tests that bring keys of their own."""
    serving = settings.serving
    if reader is None and serving.auth == "jwt":
        reader = TokenReader(serving)
    # added last is outermost
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Gate, serving=serving, routes=app.routes, buckets=buckets, reader=reader)
    app.add_middleware(LastResort)
    if serving.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=serving.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"],
            expose_headers=["Content-Location", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(SecurityHeaders, serving=serving)
    app.add_middleware(RequestIds)
