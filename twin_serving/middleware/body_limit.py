"""How large a request may be, how slowly it may come, and how many with files may come side by side.

Belongs here: refusing before the rest is read, with and without a Content-Length.
Does not belong here: limits on one document, which the intake of the kernel knows.
"""

from __future__ import annotations

import time
from collections import Counter

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpm_kernel.errors import AccessError
from lpm_kernel.settings import Settings
from twin_serving.errors import twin_error_response

UPLOAD, IMPORT = "/upload", "/import"
"""How paths end whose bodies are files: all of it lies on disk before a route sees any."""
SLOWEST_BYTES_PER_S = 16 * 1024
MB = 1_000_000


class BodyLimit:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        limits, self._timeout_s = settings.limits, settings.serving.body_timeout_s
        self._body_bytes = settings.serving.body_mb * MB
        # the fields and borders of the form are no more than an ordinary request
        self._upload_bytes = limits.document_size_mb * limits.documents_per_user * MB + self._body_bytes
        self._archive_bytes = settings.serving.archive_mb * MB + self._body_bytes
        self._at_once = settings.serving.uploads_at_once
        self._coming: Counter[str | None] = Counter()
        """Bodies of files that are on their way or being looked at, by user."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        length = Headers(scope=scope).get("content-length")
        if length is not None and not (length.isascii() and length.isdigit()):
            error = AccessError("request_malformed", "Content-Length is no number")
            await twin_error_response(scope["path"], error)(scope, receive, send)
            return
        if length is not None and (len(length) > 18 or int(length) > limit):
            await _refuse(AccessError("body_too_large", _too_large(limit)), scope, receive, send)
            return
        measured = _Measured(receive, limit, self._timeout_s).receive
        if limit == self._body_bytes:
            await self.app(scope, measured, send)
            return
        principal = scope.get("state", {}).get("principal")
        user_id = principal.user_id if principal else None
        # one user leaves room for others, who may be sending as slowly as it takes
        own = self._at_once if user_id is None else max(1, self._at_once // 2)
        if self._coming.total() >= self._at_once or self._coming[user_id] >= own:
            error = AccessError("uploads_busy", "too many files are being sent: come back in a moment", retryable=True)
            await _refuse(error, scope, receive, send)
            return
        self._coming[user_id] += 1
        try:
            await self.app(scope, measured, send)
        finally:
            self._coming -= Counter([user_id])

    def _limit_of(self, path: str) -> int:
        if path.endswith(IMPORT):
            return self._archive_bytes
        return self._upload_bytes if path.endswith(UPLOAD) else self._body_bytes


async def _refuse(error: AccessError, scope: Scope, receive: Receive, send: Send) -> None:
    response = twin_error_response(scope["path"], error)
    response.headers["connection"] = "close"  # what follows would be taken for the next request
    await response(scope, receive, send)


class _Measured:
    """`receive` of one request. Raises HTTPException, which FastAPI hands on while it reads a body; others it swallows."""

    def __init__(self, receive: Receive, limit: int, timeout_s: float) -> None:
        self._receive, self._limit, self._timeout_s = receive, limit, timeout_s
        self._received = 0
        self._began: float | None = None
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:  # from here on a message only tells that the client has left, which may take as long as it likes
            return await self._receive()
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        left_s = self._timeout_s + self._received / SLOWEST_BYTES_PER_S - (now - self._began)
        try:
            with anyio.fail_after(max(left_s, 0)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body did not arrive in time", {"connection": "close"}) from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._received > self._limit:
                raise HTTPException(413, _too_large(self._limit), {"connection": "close"})
        return message


def _too_large(limit: int) -> str:
    return f"a request of this kind may have {limit // MB} MB"
