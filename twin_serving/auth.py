"""Who asks: bearer tokens to principals, and for whom a principal may act.

Belongs here: reading a token, the claim that is the user, which paths need none, and which may be asked about others.
Does not belong here: where that is enforced (`middleware/gate.py`) and where keys come from (`jwks.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import Depends, Request

from lpm_kernel.access_settings import AccessSettings
from lpm_kernel.errors import AccessError
from lpm_kernel.records import USER_ID_PATTERN
from twin_serving.jwks import ALGORITHM, SigningKeys

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/hooks/release"})
"""Answered without a token; what comes to a hook is signed. `/metrics` is too, where the settings say so."""
OPEN_TO_OTHERS = frozenset({"/twin/{user_id}/chat", "/twin/{user_id}/chat/{message_id}/events"})
"""Routes with a user in their path that anybody who is known may use: one may talk with another's twin, and hear that talk."""
MAX_TOKEN_CHARACTERS = 16_000
_DERIVED_ID = re.compile(r"u-[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `user_id` is None where the settings ask for no token, and then everything is allowed."""

    user_id: str | None
    scopes: frozenset[str] = frozenset()
    operator: bool = False
    """May act for everyone."""

    def may_act_for(self, user_id: str) -> bool:
        return self.operator or self.user_id == user_id


ANYBODY = Principal(None, operator=True)


def principal_of(request: Request) -> Principal:
    """Raises: AccessError `token_missing` where no gate has let the request in."""
    principal = request.scope.get("state", {}).get("principal")
    if principal is None:
        raise AccessError("token_missing", "who asks is not known")
    return principal


PrincipalDep = Annotated[Principal, Depends(principal_of)]


def check_may_act_for(principal: Principal, user_id: str) -> None:
    """For a user who is named elsewhere than in the path. Raises: AccessError `not_yours`."""
    if not principal.may_act_for(user_id):
        raise AccessError("not_yours", f"the token belongs to {principal.user_id!r}, who may not act for {user_id[:80]!r}")


def is_public(path: str, serving: AccessSettings) -> bool:
    return path in PUBLIC_PATHS or (path == "/metrics" and serving.metrics_public)


def user_id_of_claim(claim: str) -> str:
    """The user a claim stands for: itself where it is a user id, else `u-` and the first 40 hex digits of its sha256.

    Two claims are never one user: what already looks derived is derived again, or `u-…` could be claimed by writing it.
    """
    if USER_ID_PATTERN.fullmatch(claim) and not _DERIVED_ID.fullmatch(claim):
        return claim
    return "u-" + hashlib.sha256(claim.encode("utf-8", "surrogatepass")).hexdigest()[:40]


class TokenReader:
    """Bearer tokens to principals: RS256 alone, whatever a token says of its own algorithm."""

    def __init__(self, serving: AccessSettings, keys: SigningKeys | None = None) -> None:
        import jwt

        self._jwt = jwt  # loaded now: later, the first request would keep all others waiting for it
        self._serving = serving
        self._keys = keys or SigningKeys(serving.auth_jwks_url, serving.auth_jwks_refresh_s, serving.auth_jwks_retry_s)
        # threads of its own: those of the framework may all be waiting for the model
        self._fetchers = anyio.CapacityLimiter(4)

    async def read(self, authorization: str | None) -> Principal:
        """Raises: AccessError `token_missing`, `token_invalid`, `token_expired`, `token_key_unknown`; StoreError."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise AccessError("token_missing", "send `Authorization: Bearer` and a token")
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise AccessError("token_invalid", f"a token has at most {MAX_TOKEN_CHARACTERS} characters")
        kid = self._key_id(token)
        key = self._keys.at_hand(kid) or await to_thread.run_sync(self._keys.find, kid, limiter=self._fetchers)
        return self._principal(self._claims(token, key.key))

    def _key_id(self, token: str) -> str:
        jwt = self._jwt
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise AccessError("token_invalid", "the token is no JWT") from error
        if head.get("alg") != ALGORITHM:
            raise AccessError("token_invalid", f"the token is not signed by {ALGORITHM}")
        kid = head.get("kid")
        if not isinstance(kid, str) or not kid:
            raise AccessError("token_invalid", "the token does not say which key it is signed with")
        return kid

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        jwt, serving = self._jwt, self._serving
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=serving.auth_audience,
                issuer=serving.auth_issuer,
                leeway=serving.auth_leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise AccessError("token_expired", "the token has expired") from error
        except jwt.InvalidTokenError as error:
            raise AccessError("token_invalid", f"the token is refused: {type(error).__name__}") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:  # claims of a form that nobody foresaw
            raise AccessError("token_invalid", "the token cannot be read") from error

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        serving = self._serving
        claim = claims.get(serving.auth_user_claim)
        if not isinstance(claim, str) or not claim:
            raise AccessError("token_invalid", f"the token has no claim {serving.auth_user_claim!r}")
        told = claims.get(serving.auth_scope_claim)
        words = told.split() if isinstance(told, str) else told if isinstance(told, list) else ()
        scopes = frozenset(word for word in words if isinstance(word, str) and word)
        return Principal(user_id_of_claim(claim), scopes, operator=serving.auth_operator_scope in scopes)
