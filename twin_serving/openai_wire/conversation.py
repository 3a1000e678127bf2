"""What the messages of a request say: a question, the talk before it, and what the caller asks of the twin.

Belongs here: reading messages, which session they belong to, and how much of a long talk is looked at.
Does not belong here: answering (`turns.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lpm_kernel.records import Message, content_id, is_text
from lpm_kernel.stores.llm import Llm
from twin_serving.openai_wire.errors import RequestRefused
from twin_serving.openai_wire.schemas import WireMessage

MAX_INSTRUCTIONS_CHARACTERS = 1000
MAX_READ_CHARACTERS = 16_000
"""Of one earlier message; a longer one is more than any context holds beside its answer."""

ROLES = ("system", "developer", "user", "assistant")
SESSION_HEADER = "X-Session-Id"


@dataclass(frozen=True, slots=True)
class Talk:
    """`history` is the caller's own record: the model sees it, and nothing of it is stored."""

    question: str
    history: tuple[Message, ...]
    instructions: str


def read_talk(messages: Sequence[WireMessage]) -> Talk:
    """The last message is the question; system messages, wherever they stand, are what the caller asks of the twin.

    Raises: RequestRefused `request_invalid`, `unsupported_parameter`, `instructions_too_long`.
    """
    spoken: list[Message] = []
    asked: list[str] = []
    for number, message in enumerate(messages):
        text = _text_of(message, f"messages[{number}]")
        if message.role in ("system", "developer"):
            asked.append(text)
        else:
            spoken.append(Message("user" if message.role == "user" else "assistant", text))
    if not spoken or spoken[-1].role != "user" or messages[-1].role != "user":
        raise RequestRefused("request_invalid", "messages: the last one has to be the user's question", "messages")
    instructions = "\n".join(asked).strip()
    if len(instructions) > MAX_INSTRUCTIONS_CHARACTERS:
        allowed = f"{len(instructions)} characters of system messages, and {MAX_INSTRUCTIONS_CHARACTERS} are allowed"
        raise RequestRefused("instructions_too_long", f"messages: {allowed}", "messages")
    return Talk(spoken[-1].content, tuple(message for message in spoken[:-1] if message.content.strip()), instructions)


def latest(history: Sequence[Message], llm: Llm, limit: int) -> tuple[Message, ...]:
    """The newest messages, at most `limit`, that may fit into the model's context together.

    Why here, where the prompt is cut to its size anyway: that counts the whole prompt for every message it leaves out.
    """
    kept: list[Message] = []
    tokens = 0
    for message in reversed(history[max(0, len(history) - limit) :]):
        if len(message.content) > MAX_READ_CHARACTERS:
            break
        tokens += llm.prompt_tokens([message])
        if tokens > llm.context_tokens:
            break
        kept.append(message)
    return tuple(reversed(kept))


def session_of(talk: Talk, user_id: str, caller: str | None, end_user: str | None) -> str:
    """The same while a talk grows: it follows from who asks whom, and the first words that were said.

    Two talks that begin with the same question of the same person are one session, unless the caller names sessions.
    """
    first = next((message.content for message in talk.history if message.role == "user"), talk.question)
    return "wire-" + content_id(user_id, caller or "", end_user or "", first)[:40]


def named_session(header: str | None, metadata: Mapping[str, str] | None) -> str | None:
    return header or (metadata or {}).get("session_id") or None


def _text_of(message: WireMessage, place: str) -> str:
    if message.role not in ROLES:
        shown = message.role[:20]
        raise RequestRefused(
            "unsupported_parameter",
            f"{place}.role: {shown!r} is none of {', '.join(ROLES)}: a twin has no tools",
            f"{place}.role",
        )
    extra = {name for name, value in (message.model_extra or {}).items() if value}
    for name in ("tool_calls", "function_call", "audio"):
        if name in extra:
            raise RequestRefused("unsupported_parameter", f"{place}.{name}: a twin cannot do this", f"{place}.{name}")
    if message.content is None:
        if message.role != "assistant":
            raise RequestRefused("request_invalid", f"{place}.content: there is none", f"{place}.content")
        return ""
    if isinstance(message.content, str):
        text = message.content
    else:
        texts: list[str] = []
        for number, part in enumerate(message.content):
            words = part.text if part.type == "text" else part.refusal if part.type == "refusal" else None
            if words is None:
                where, shown = f"{place}.content[{number}]", part.type[:20]
                raise RequestRefused("unsupported_parameter", f"{where}: a part of type {shown!r} is no text", where)
            texts.append(words)
        text = "\n".join(texts)
    if not is_text(text):
        raise RequestRefused("request_invalid", f"{place}.content: it holds a NUL or half of a character", f"{place}.content")
    return text
