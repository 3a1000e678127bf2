"""Webhooks: telling another service of a release, another of a failure, and another of votes that wait.

Belongs here: one signed POST with its tries, and checking the signature of one that is received.
Does not belong here: what is told, and what becomes of a message that could not be delivered.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.settings import RetrySettings, Settings
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.breaker import Breaker, Breakers

BREAKER = 2, 60.0
"""Messages in a row that nobody took, each after all its tries, and seconds for which nobody is then asked. Runs come and go:
what keeps each of them from waiting is the state that they share."""
SIGNATURE = "X-Twin-Signature"


class Webhook:
    """Where messages go. `secret`: what they are signed with, if with anything."""

    def __init__(self, url: str, secret: str | None, timeout_s: float, breaker: Breaker | None = None) -> None:
        self.url, self._secret, self._timeout_s = url, secret, timeout_s
        self._breaker = breaker or Breaker(*BREAKER)

    def post(self, message: Mapping[str, Any], retries: RetrySettings, sleep: Callable[[float], None] = time.sleep) -> int:
        """Deliver it; how many tries it took.

        Raises: StoreError `webhook_refused` (an answer that asking again does not change), `webhook_unavailable` after the
        last try, or at once while nobody is asked, `webhook_invalid` for an address that is none. The address stays out of the
        message: it may hold a token.
        """
        resting = StoreError("webhook_unavailable", "the webhook did not answer a moment ago")
        with self._breaker.guarding(lambda: resting, lambda error: error.code == "webhook_unavailable"):
            return self._posted(message, retries, sleep)

    def _posted(self, message: Mapping[str, Any], retries: RetrySettings, sleep: Callable[[float], None]) -> int:
        import httpx

        body = json.dumps(message, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE] = sign(self._secret, body)
        why = "it was not asked"
        for attempt in range(retries.max_retries + 1):
            try:
                answer = httpx.post(self.url, content=body, headers=headers, timeout=self._timeout_s)
                why = f"it answered {answer.status_code}"
                if answer.is_success:
                    return attempt + 1
                if answer.status_code < 500 and answer.status_code not in (408, 425, 429):
                    raise StoreError("webhook_refused", f"the webhook refused the message: {why}", retryable=False)
            except httpx.UnsupportedProtocol:
                raise StoreError("webhook_invalid", "the webhook's address is no http address", retryable=False) from None
            except httpx.RequestError as error:  # also an answer that cannot be decoded
                why = f"it did not answer: {type(error).__name__}"
            except httpx.InvalidURL:
                raise StoreError("webhook_invalid", "the webhook's address cannot be read", retryable=False) from None
            if attempt < retries.max_retries:
                sleep(retries.delay_s * 2**attempt)
        raise StoreError("webhook_unavailable", f"the webhook was tried {retries.max_retries + 1} times, and {why}")


def sign(secret: str, body: bytes) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def check_signature(settings: Settings, body: bytes, signature: str, environ: Mapping[str, str] | None = None) -> None:
    """Whether a message is signed with the secret of the settings; for who receives one.

    Raises: UserInputError `hook_unsigned` where no secret is set, so that nobody can be told from anybody; `signature_invalid`.
    """
    name = settings.stores.release_webhook_secret
    secret = connection_environment(environ).get(name)
    if not secret:
        raise UserInputError("hook_unsigned", f"messages are taken only when they are signed: set {name} here and there")
    if not hmac.compare_digest(sign(secret, body).encode(), signature.encode()):
        raise UserInputError("signature_invalid", f"{SIGNATURE} does not fit the message")


def open_webhook(
    settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None
) -> Webhook | None:
    """Of releases; None when no address is set: then nobody wants to be told."""
    names = settings.stores
    return _open(settings, environ, breakers, "release_webhook", names.release_webhook_url, names.release_webhook_secret)


def open_alert_webhook(
    settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None
) -> Webhook | None:
    """Of failures; None when no address is set."""
    names = settings.stores
    return _open(settings, environ, breakers, "alert_webhook", names.alert_webhook_url, names.alert_webhook_secret)


def open_notice_webhook(
    settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None
) -> Webhook | None:
    """Of votes that wait for somebody; None when no address is set."""
    names = settings.stores
    return _open(settings, environ, breakers, "notice_webhook", names.notice_webhook_url, names.notice_webhook_secret)


def _open(
    settings: Settings,
    environ: Mapping[str, str] | None,
    breakers: Breakers | None,
    name: str,
    url_variable: str,
    secret_variable: str,
) -> Webhook | None:
    found = connection_environment(environ)
    url = found.get(url_variable)
    if not url:
        return None
    breaker = (breakers or Breakers()).named(name, *BREAKER)
    return Webhook(url, found.get(secret_variable) or None, settings.release.webhook_timeout_s, breaker)
