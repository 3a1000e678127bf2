"""Llm: the language model that answers, with or without a user's adapter.

Belongs here: the Protocol, what a completion is, and how an adapter is named.
Does not belong here: prompts (`L2/prompt.py`) and llama.cpp itself (`L2/llama.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lpm_kernel.records import Message


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A GGUF adapter on local disk. `sha256` is its identity: two files of one sha256 are one adapter."""

    path: Path
    sha256: str
    base_sha256: str


_ASKED_BY = "~"
"""No user id holds it."""


def tenant_of(user_id: str, asker: str | None) -> str:
    """Whose cached state may be reused: what the model holds of one's talk with a twin serves no other's."""
    return f"{user_id}{_ASKED_BY}{asker}" if asker else user_id


def user_of_tenant(tenant: str) -> str:
    """Whose twin it is."""
    return tenant.partition(_ASKED_BY)[0]


def asker_of_tenant(tenant: str) -> str:
    """Who asks it: somebody else, or the person."""
    return tenant.partition(_ASKED_BY)[2] or tenant


class Llm(Protocol):
    @property
    def base_sha256(self) -> str:
        """Of the base weights every adapter was trained on; an adapter with another one is refused."""
        ...

    @property
    def context_tokens(self) -> int:
        """Room for one prompt and its answer together."""
        ...

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How many of the model's own tokens the rendered prompt takes."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        """Pieces of the greedy answer, as they are decoded. `tenant` is whose cached state may be reused, nobody else's.

        With `declining` the answer is these words where the model finds them, as a whole, likelier than its greedy answer; no
        piece comes before that is known.

        Raises: LlmError `prompt_too_long` (permanent), `adapter_refused` (permanent), `decode_failed` (retryable).
        """
        ...

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        """Greedy answers to several prompts of one tenant, decoded together, in the order given; `declining` as in `stream`."""
        ...

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        """How likely each option is after each prompt: the sum of its tokens' log-probabilities, as the words that a reply
        begins with. A last message of the assistant is left open, and the options go on with it ("I am" and " for").

        Shapes: a list for each prompt, in its order, with a value for each option. Units: nats, 0 or less.
        One call for many prompts is worth it: what they begin with is computed once. Nothing is kept for the next call.
        Only sums of options of alike length compare; how often an option is said anyway is for the caller to take off.
        Raises: LlmError `prompt_too_long`, `option_empty`, `adapter_refused` (permanent); `decode_failed` (retryable).
        """
        ...

    def close(self) -> None: ...
