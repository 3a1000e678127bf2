"""The Mem0 platform's own client: opened, its queue waited for, its errors translated.

Belongs here: what the client does that a caller should not have to know.
Does not belong here: memories (`mem0_cloud.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.memories import prepare_mem0

if TYPE_CHECKING:
    from mem0 import MemoryClient

EVENT_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 15.0
"""Of one call; the client's own is five minutes, for which a chat and the lock on a user's memories would be held."""


def open_client(api_key: str, host: str) -> MemoryClient:
    """A client whose key the platform took. Raises: StoreError; inside `platform_errors` also when nobody answers."""
    import httpx

    prepare_mem0()
    from mem0 import MemoryClient

    http = httpx.Client(timeout=ANSWER_TIMEOUT_S)
    try:
        return MemoryClient(api_key=api_key, host=host, client=http)
    except httpx.HTTPError:
        http.close()
        raise
    except ValueError as error:  # so it tells any answer to its first call that is no success, a passing failure too
        http.close()
        answer = getattr(error.__context__, "response", None)
        raise _failure(f"HTTP_{answer.status_code}" if answer is not None else "NO_PROJECT") from error


def await_event(client: MemoryClient, event_id: str, wait_s: float) -> None:
    """Wait until the platform has written: what is added is queued, and a search does not see it yet.

    Raises: StoreError `memory_not_written`.
    """
    deadline = time.monotonic() + EVENT_TIMEOUT_S
    while True:
        response = client.client.get(f"/v1/event/{event_id}/")
        response.raise_for_status()
        status = response.json()["status"]
        if status == "SUCCEEDED":
            return
        if status == "FAILED" or time.monotonic() > deadline:
            raise StoreError("memory_not_written", f"Mem0 says {status} of event {event_id}", retryable=status != "FAILED")
        time.sleep(wait_s)


@contextmanager
def platform_errors() -> Iterator[None]:
    """Turn the client's errors into StoreErrors; what was sent stays out of the message."""
    import httpx

    prepare_mem0()
    from mem0.exceptions import MemoryError as Mem0Error

    try:
        yield
    except httpx.HTTPStatusError as error:
        raise _failure(f"HTTP_{error.response.status_code}") from error
    except httpx.RequestError as error:
        raise _failure("NET_" + type(error).__name__) from error
    except Mem0Error as error:
        raise _failure(str(error.error_code)) from error


def _failure(code: str) -> StoreError:
    later = code.startswith(("NET_", "HTTP_5")) or code in ("HTTP_408", "HTTP_429")
    return StoreError("memories_unavailable" if later else "memories_refused", f"Mem0 answered {code}", retryable=later)
