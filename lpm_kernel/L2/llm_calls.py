"""A question to a language model on another machine as a letter, and its answer as lines: both JSON.

Belongs here: what the two sides must agree on, and the check that they do. Adapters travel through blobs, not here.
Does not belong here: how letters are carried (`modal_llm.py`), and the model (`llama.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.L2.stage_calls import encode_error, error_of
from lpm_kernel.records import Message

FORM = 2
"""Counted up when letters change: the deployed side then says that it is older, and answers nothing wrongly."""


@dataclass(frozen=True, slots=True)
class LlmAsk:
    """One `stream`, one `answer_batch` where there are several conversations, or one `score` with its options."""

    conversations: tuple[tuple[Message, ...], ...]
    tenant: str
    base_sha256: str
    """Of the caller's base: prompts are measured with it, and another would cut them elsewhere."""
    adapter_sha256: str | None
    max_tokens: int
    declining: str | None
    options: tuple[str, ...] = ()


def encode_ask(ask: LlmAsk) -> str:
    talks = [[[message.role, message.content] for message in talk] for talk in ask.conversations]
    letter = {"form": FORM, "talks": talks, "tenant": ask.tenant, "base": ask.base_sha256, "adapter": ask.adapter_sha256}
    return json.dumps(
        {**letter, "max_tokens": ask.max_tokens, "declining": ask.declining, "options": ask.options}, separators=(",", ":")
    )


def decode_ask(text: str) -> LlmAsk:
    """Raises: LlmError `engine_outdated`, `engine_call_invalid`."""
    try:
        letter = json.loads(text)
        if letter["form"] != FORM:
            raise LlmError(
                "engine_outdated",
                f"the caller writes form {letter['form']}, this side form {FORM}: modal deploy -m twin_serving.modal_app",
                retryable=False,
            )
        return LlmAsk(
            tuple(tuple(Message(role, content) for role, content in talk) for talk in letter["talks"]),
            letter["tenant"],
            letter["base"],
            letter["adapter"],
            letter["max_tokens"],
            letter["declining"],
            tuple(letter["options"]),
        )
    except (TypeError, ValueError, KeyError):
        raise LlmError("engine_call_invalid", "what came over is no question to the model", retryable=False) from None


def encode_piece(piece: str) -> str:
    return json.dumps({"piece": piece}, separators=(",", ":"))


def encode_answers(answers: list[str]) -> str:
    return json.dumps({"answers": answers}, separators=(",", ":"))


def encode_scores(scores: list[list[float]]) -> str:
    return json.dumps({"scores": scores}, separators=(",", ":"))


def encode_failure(error: TwinError) -> str:
    return encode_error(error)


def decode_line(line: Any, key: str) -> Any:
    """What stands under `piece`, `answers` or `scores`.

    Raises: the error of the other side; LlmError `engine_answer_invalid`.
    """
    try:
        letter = json.loads(line)
        if letter.keys() == {"error"}:
            raise error_of(letter["error"])
        if letter.keys() == {key}:
            return letter[key]
    except (TypeError, ValueError, AttributeError):
        pass
    raise LlmError("engine_answer_invalid", "what came back is no answer of the model: both sides must run the same code")
