"""The public keys of whoever issues tokens: fetched once, kept through rotation and outage.

Belongs here: when keys are fetched, and what is done while they cannot be.
Does not belong here: tokens (`auth.py`).

Why not PyJWT's own client: its cache ends after its lifespan, so an outage of the issuer would be ours, and every request would
then ask anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import AccessError, StoreError

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

ALGORITHM = "RS256"
FETCH_TIMEOUT_S = 3.0
FIRST_RETRY_S = 1.0
"""While there is no key at all, nobody is let in: then asking again is worth more than sparing the issuer."""


class SigningKeys:
    """Safe to share between threads; one of them fetches, at most every `retry_s`, and the others take what is known.

    Known keys are good until a fetch that succeeds says otherwise, so a withdrawn key is gone after `refresh_s` at the latest.
    """

    def __init__(
        self,
        url: str,
        refresh_s: float,
        retry_s: float,
        fetch: Callable[[str], Mapping[str, PyJWK]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._refresh_s, self._retry_s = url, refresh_s, retry_s
        self._fetch = fetch or fetch_keys
        self._clock = clock
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._lock = threading.Lock()

    def at_hand(self, kid: str) -> PyJWK | None:
        """The key if it is known and need not be looked for anew: asks nobody."""
        return self._keys.get(kid) if self._clock() - self._fetched_at < self._refresh_s else None

    def find(self, kid: str) -> PyJWK:
        """May ask the issuer. Raises: AccessError `token_key_unknown`; StoreError `keys_unavailable` when it is away."""
        known = self._keys.get(kid)
        if self._lock.acquire(blocking=known is None):
            try:
                self._fetch_if_due(kid)
            finally:
                self._lock.release()
            known = self._keys.get(kid)
        if known is not None:
            return known
        if self._tried_at > self._fetched_at:
            raise StoreError("keys_unavailable", "the keys that tokens are signed with cannot be fetched")
        raise AccessError("token_key_unknown", "the token is signed with a key that its issuer does not name")

    def _fetch_if_due(self, kid: str) -> None:
        now = self._clock()
        wait_s = self._retry_s if self._keys else min(FIRST_RETRY_S, self._retry_s)
        if self.at_hand(kid) is not None or now - self._tried_at < wait_s:
            return
        self._tried_at = now
        try:
            self._keys = self._fetch(self._url)
        except StoreError as error:
            log.warning("%s; %d known keys go on", error.message, len(self._keys))
            return
        self._fetched_at = now


def fetch_keys(url: str) -> dict[str, PyJWK]:
    """Every RSA key for signatures, by its id; what cannot be used is left out. Raises: StoreError `keys_unavailable`."""
    import httpx

    try:
        answer = httpx.get(url, timeout=FETCH_TIMEOUT_S)
        answer.raise_for_status()
        listed = answer.json()["keys"]
        found = {key["kid"]: read for key in listed if isinstance(key, dict) and (read := _read(key)) is not None}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StoreError("keys_unavailable", f"{url} did not tell its keys: {type(error).__name__}") from error
    if not found:
        raise StoreError("keys_unavailable", f"{url} names no RSA key")
    return found


def _read(key: Mapping[str, Any]) -> PyJWK | None:
    import jwt

    right = key.get("kty") == "RSA" and key.get("use", "sig") == "sig" and key.get("alg", ALGORITHM) == ALGORITHM
    if not right or not isinstance(key.get("kid"), str):
        return None
    try:
        return jwt.PyJWK(dict(key), algorithm=ALGORITHM)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
