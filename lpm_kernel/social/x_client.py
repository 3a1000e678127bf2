"""X by Tweepy: pages of what one account posted, the newest first.

Belongs here: the requests, and Tweepy's errors as ours.
Does not belong here: what is done with a page (`x.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import IngestionError, SettingsError, TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.social.x_wire import FIELDS
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.breaker import Breaker, Breakers

if TYPE_CHECKING:
    import tweepy
    from requests import Response
    from requests.adapters import HTTPAdapter

HOST = "https://api.twitter.com"
"""As Tweepy has it."""
PAGE = 100
BREAKER = 3, 60.0
"""Requests in a row without an answer, and seconds for which X is then left alone."""
LONGEST_PAUSE_S = 15 * 60.0
"""X counts in windows of a quarter of an hour: the pause where it names none."""
NOT_THERE = "https://api.twitter.com/2/problems/resource-not-found"


@dataclass(frozen=True, slots=True)
class XPage:
    """`more`: what to ask on with; a page may be empty in the middle, since X leaves reposts out after it has counted."""

    posts: tuple[dict[str, Any], ...]
    more: str | None


class XReader:
    """Raises, in every method: IngestionError `x_rate_limited` (retryable, with `retry_after_s`), `x_no_access`, `x_refused`,
    `x_unreachable` (retryable); SettingsError `x_not_signed_in`."""

    def __init__(self, client: tweepy.Client, breaker: Breaker | None = None) -> None:
        """`client`: one that gives answers as they are, for its own records fail on a post without a date."""
        logging.getLogger("tweepy").setLevel(logging.INFO)  # below that it logs posts
        self._client = client
        self._breaker = breaker or Breaker(*BREAKER)

    def page(self, account_id: str, *, since_id: int | None, until_id: int | None, more: str | None) -> XPage:
        """Posts after `since_id` and before `until_id`, without reposts; `more` of the page before goes on from there."""
        asked = {"since_id": since_id, "until_id": until_id, "pagination_token": more}
        with self._asking(account_id):
            answer: Any = self._client.get_users_tweets(
                account_id,
                max_results=PAGE,
                exclude=["retweets"],
                tweet_fields=list(FIELDS),
                **{name: value for name, value in asked.items() if value is not None},
            )
        posts, errors = _listed(answer, "data"), _listed(answer, "errors")
        if errors and not posts:  # of a protected account X gives no error of HTTP, and nothing
            raise IngestionError("x_no_access", f"X shows no posts of account {account_id}: {_titles(errors)}")
        meta = answer.get("meta")
        return XPage(tuple(posts), meta.get("next_token") if isinstance(meta, dict) else None)

    def gone(self, account_id: str, message_ids: Sequence[int]) -> set[int]:
        """Those of the posts, at most PAGE, that X says are not there any more."""
        with self._asking(account_id):
            answer: Any = self._client.get_tweets(list(message_ids))
        missing = {str(error.get("value")) for error in _listed(answer, "errors") if error.get("type") == NOT_THERE}
        return {message_id for message_id in message_ids if str(message_id) in missing}

    @contextmanager
    def _asking(self, account_id: str) -> Iterator[None]:
        """X's errors as ours, and none of them waited for again and again: a pause that it asks for is an answer."""
        with self._breaker.guarding(_resting, _no_answer), x_errors(account_id):
            yield

    def close(self) -> None:
        self._client.session.close()


def _resting() -> IngestionError:
    return IngestionError("x_unreachable", "X did not answer a moment ago and is left alone for a while", retryable=True)


def _no_answer(error: TwinError) -> bool:
    return error.code in ("x_unreachable", "x_refused") and error.retryable


def open_x(settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None) -> XReader:
    """Raises: SettingsError `x_not_configured`."""
    found, names = connection_environment(environ), settings.stores
    token = found.get(names.x_bearer_token)
    if not token:
        raise SettingsError("x_not_configured", f"posts are read from X with a token, so set {names.x_bearer_token}")
    import tweepy

    as_it_is: Any = dict
    client = tweepy.Client(bearer_token=token, wait_on_rate_limit=False, return_type=as_it_is)
    adapter = _adapter(found.get(names.x_base_url), settings.social.request_timeout_s)
    client.session.mount(HOST, adapter)
    return XReader(client, breakers.named("x", *BREAKER) if breakers else None)


def _adapter(base_url: str | None, timeout_s: float) -> HTTPAdapter:
    """Gives each request the time limit that Tweepy does not know, and another address where one is set."""
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def send(
            self,
            request: Any,
            stream: bool = False,
            timeout: Any = None,
            verify: Any = True,
            cert: Any = None,
            proxies: Any = None,
        ) -> Response:
            if base_url:
                request.url = request.url.replace(HOST, base_url.rstrip("/"), 1)
            return super().send(request, stream, timeout_s, verify, cert, proxies)

    return Adapter()


@contextmanager
def x_errors(account_id: str) -> Iterator[None]:
    """Tweepy's errors as ours. X's own words stay out, also of their causes: they may repeat what was asked, or the token."""
    import requests
    import tweepy

    try:
        yield
    except tweepy.TooManyRequests as error:
        left_s = (error.reset_time - time.time() + 1) if error.reset_time else LONGEST_PAUSE_S
        pause_s = min(max(left_s, 1.0), 24 * 3600.0)
        raise IngestionError(
            "x_rate_limited", f"X asks for a pause of {pause_s:.0f} s", retryable=True, retry_after_s=pause_s
        ) from None
    except tweepy.Unauthorized:
        raise SettingsError("x_not_signed_in", "X does not take the token in X_BEARER_TOKEN") from None
    except (tweepy.Forbidden, tweepy.NotFound) as error:
        raise IngestionError(
            "x_no_access", f"X shows no posts of account {account_id} ({error.response.status_code})"
        ) from None
    except tweepy.HTTPException as error:
        status = error.response.status_code
        raise IngestionError("x_refused", f"X answered {status} about account {account_id}", retryable=status >= 500) from None
    except (requests.exceptions.RequestException, OSError) as error:
        raise IngestionError("x_unreachable", f"X did not answer: {type(error).__name__}", retryable=True) from None


def _listed(answer: Any, name: str) -> list[dict[str, Any]]:
    """Raises: IngestionError `post_foreign` where the answer has another form."""
    listed = answer.get(name) if isinstance(answer, dict) else 0
    if not isinstance(listed, list | None) or not all(isinstance(item, dict) for item in listed or ()):
        raise IngestionError("post_foreign", "X answered in another form than this reader knows")
    return listed or []


def _titles(errors: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({str(error.get("title"))[:60] for error in errors}))
