"""Who comes in: every request is recognised, counted, and held to its own user, before its body is read.

Belongs here: the order of these checks, the same for every route there is or will be.
Does not belong here: how a token is read (`auth.py`) and how requests are counted (`buckets.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote_plus, urlsplit

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from lpm_kernel.access_settings import AccessSettings, is_loopback
from lpm_kernel.errors import AccessError, SettingsError, TwinError
from lpm_kernel.records import is_text
from lpm_kernel.request_context import current_request, within_request
from twin_serving.auth import ANYBODY, OPEN_TO_OTHERS, Principal, TokenReader, check_may_act_for, is_public
from twin_serving.buckets import Buckets, address_key
from twin_serving.errors import twin_error_response

UNCOUNTED = frozenset({"/healthz", "/readyz", "/metrics"})


class Gate:
    """`reader` is None where the settings ask for no token; then only this machine is let in."""

    def __init__(
        self, app: ASGIApp, serving: AccessSettings, routes: Sequence[BaseRoute], buckets: Buckets, reader: TokenReader | None
    ) -> None:
        if reader is None and serving.auth == "jwt":
            raise SettingsError("auth_unset", "serving.auth is jwt, and nothing reads tokens")
        self.app = app
        self._serving, self._buckets, self._reader = serving, buckets, reader
        owned = [context.path for context in iter_route_contexts(routes) if context.path and "{user_id}" in context.path]
        self._owned = [(compile_path(path)[0], path in OPEN_TO_OTHERS) for path in dict.fromkeys(owned)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                principal = await self._let_in(scope)
                may_open = self._may_open(scope, principal)
            except TwinError as error:
                await twin_error_response(scope["path"], error)(scope, receive, send)
            else:
                scope.setdefault("state", {})["principal"] = principal
                context = current_request()
                if context is None:
                    await self.app(scope, receive, send)
                    return
                with within_request(replace(context, may_open=may_open)):
                    await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # there are none, and none could be recognised

    async def _let_in(self, scope: Scope) -> Principal | None:
        """None on a public path. Raises: AccessError; StoreError `keys_unavailable`."""
        path, headers = get_route_path(scope), Headers(scope=scope)
        _check_text(scope)
        principal, refusal = None, None
        if self._reader is None:
            _check_from_here(scope, headers, self._serving)
            principal = ANYBODY
        elif not is_public(path, self._serving):
            try:
                principal = await self._reader.read(headers.get("authorization"))
            except TwinError as error:
                refusal = error
        if path not in UNCOUNTED:
            # a wrong token counts too: by its address, since nobody is known
            known = principal.user_id if principal else None
            key = f"user:{known}" if known else address_key(scope.get("client"))
            wait_s = await self._buckets.take(key)
            if wait_s > 0:
                said = f"too many requests: come back in {math.ceil(wait_s)} s"
                raise AccessError("rate_limited", said, retryable=True, retry_after_s=wait_s)
        if refusal is not None:
            raise refusal
        return principal

    def _may_open(self, scope: Scope, principal: Principal | None) -> frozenset[str] | None:
        """Whose rows the request may open. Raises: AccessError `not_yours` for a path of somebody else."""
        if principal is None:
            return None if self._reader is None else frozenset()
        if principal.operator:
            return None
        path = get_route_path(scope)
        may_open = {principal.user_id or ""}
        for pattern, open_to_others in self._owned:
            if found := pattern.match(path):
                if not open_to_others:
                    check_may_act_for(principal, found["user_id"])
                may_open.add(found["user_id"])
        return frozenset(may_open)


def _check_text(scope: Scope) -> None:
    """No store has a form of NUL: one in a path or query is refused here, once for all routes."""
    query = unquote_plus(scope.get("query_string", b"").decode("latin-1"))
    if not (is_text(scope["path"]) and is_text(query)):
        raise AccessError("request_malformed", "the address holds a NUL character or half of a character")


def _check_from_here(scope: Scope, headers: Headers, serving: AccessSettings) -> None:
    """Without tokens whoever reaches the API may do everything: that must be this machine, and no page of another's.

    Why names are looked at: a page may point its own name at 127.0.0.1 and then asks this API as if it were its own server, and
    a form of any page may be sent here. Such names have a dot.
    Raises: AccessError `not_from_here`.
    """
    server, port = scope.get("server") or ("", None)
    origin = headers.get("origin", "")
    foreign = origin not in ("", *serving.cors_origins) and not _is_here(_host_of(origin))
    # a server without a port is a socket in the file system
    if (port is not None and not _is_here(server)) or not _is_here(_host_of(f"//{headers.get('host', '')}")) or foreign:
        raise AccessError("not_from_here", "serving.auth is none, and then only this machine may ask")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or url.strip("/")
    except ValueError:  # brackets that hold no address
        return url


def _is_here(host: str) -> bool:
    return is_loopback(host) or host.endswith(".localhost") or not ("." in host or ":" in host or host == "null")
