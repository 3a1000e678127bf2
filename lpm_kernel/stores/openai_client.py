"""OpenAI's own client for every part that asks OpenAI, or a server that speaks its language.

Belongs here: opening it, and telling its errors apart.
Does not belong here: what is asked for (`openai_embedder.py`, `writer.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.breaker import Breaker

if TYPE_CHECKING:
    from openai import OpenAI

    from lpm_kernel.stores.addresses import OpenAiAddress

TIMEOUT_S = 30.0
BREAKER = 5, 5.0
"""Of requests in a row, each after the client's own tries, and how long the server is then left alone: shorter than the pauses
between the tries of a stage, so that the last of them is made."""
CLOSED = (401, 403, 404)
"""The key is wrong or the model is not there: the next request would be answered alike."""


def open_openai(address: OpenAiAddress, timeout_s: float = TIMEOUT_S) -> OpenAI:
    from openai import OpenAI

    return OpenAI(api_key=address.api_key, base_url=address.base_url, timeout=timeout_s)


@contextmanager
def asking_openai(breaker: Breaker | None, part: str, asked_for: str, *, closed: str = "refused") -> Iterator[None]:
    """`openai_errors`, with a breaker that counts what was no answer. Raises: as that, at once while it is open."""
    if breaker is None:
        with openai_errors(part, asked_for, closed=closed):
            yield
        return
    unavailable = f"{part}_unavailable"
    resting = _failure(unavailable, "did not answer a moment ago", asked_for)
    counted = breaker.guarding(lambda: resting, lambda error: error.code == unavailable)
    with counted, openai_errors(part, asked_for, closed=closed):
        yield


@contextmanager
def openai_errors(part: str, asked_for: str, *, closed: str = "refused") -> Iterator[None]:
    """Turn the client's errors, after its own tries, into LlmErrors; what was sent and what was answered stay out of them.

    Codes: `{part}_unavailable` and `{part}_unreadable` (retryable), `{part}_refused`, and `{part}_{closed}` where no other
    request would fare better.
    """
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        status = error.status_code
        # an account without credit is answered like one that asks too fast, and waiting does not fill it
        unpaid = error.code == "insufficient_quota"
        later = status >= 500 or (status in (408, 409, 429) and not unpaid)
        kind = "unavailable" if later else closed if status in CLOSED or unpaid else "refused"
        # not chained: its words are the server's, which may quote what it was sent, the key included
        raise _failure(f"{part}_{kind}", f"answered {status}" + (f" {error.code}" if error.code else ""), asked_for) from None
    except openai.APIConnectionError as error:  # a timeout is one
        raise _failure(f"{part}_unavailable", f"did not answer ({type(error).__name__})", asked_for) from error
    except (openai.APIResponseValidationError, json.JSONDecodeError):
        # not chained: it quotes the answer. A page of a proxy, say, which may be gone with the next try.
        raise LlmError(f"{part}_unreadable", f"OpenAI's answer to a request for {asked_for} is no JSON of its API") from None
    except openai.OpenAIError as error:
        raise _failure(f"{part}_{closed}", f"cannot be asked ({type(error).__name__})", asked_for) from error


def _failure(code: str, what: str, asked_for: str) -> LlmError:
    return LlmError(code, f"OpenAI {what} to a request for {asked_for}", retryable=code.endswith("_unavailable"))
