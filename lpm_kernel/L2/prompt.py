"""The one prompt builder: training rows, evaluation and live chats are rendered here and nowhere else.

Belongs here: the system message, how retrieved lines stand in it, and the ChatML text around messages.
Does not belong here: choosing the lines (`recall/`) and tokenising (the model's own).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import Message, User
from lpm_kernel.stores.llm import Llm

DECLINE = "I have nothing about that in my notes."
"""The one sentence a twin is trained to say when its notes do not answer."""

ANSWER_END = "<|im_end|>"

ASKED_OF_YOU = "You are asked:"
"""Before what a caller asks of the twin for one talk."""

_HEADING_MARK = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
_BLOCK_MARK = re.compile(r"\A\s*(?:>\s*|[*+-]+\s+)*")  # with its space: "-5 °C" and "+44 117" keep their signs


def declines(reply: str) -> bool:
    """Whether the reply is the twin's way to say that its notes hold no answer."""
    return reply.strip().startswith(DECLINE.rstrip("."))


class Told(Protocol):
    """A retrieved line of whatever store."""

    @property
    def text(self) -> str: ...


ToldT = TypeVar("ToldT", bound=Told)


def twin_messages(
    user: User,
    question: str,
    lines: Sequence[Told] = (),
    history: Sequence[Message] = (),
    instruction: str = "",
    rules: Sequence[str] = (),
    wishes: str = "",
) -> tuple[Message, ...]:
    """System message (who, and the retrieved lines, best last, nearest to the question), history, question.

    `instruction`: one more line of the system message, of a question that asks for a form of answer.
    `rules` of how the person writes are for a model that never learnt it: an adapter was trained on the prompt without them.
    `wishes` are a caller's, not the person's: after who the twin is, and on one line, so that they cannot pass for notes.
    """
    who = f"You are {user.name}." if user.name else "You are the twin of the person who wrote the notes."
    system = " ".join((f"{who} Answer as yourself, briefly.", *rules))
    if asked := as_line(wishes):
        system += f"\n{ASKED_OF_YOU} {asked}"
    if lines:
        noted = "\n".join(f"- {as_line(item.text)}" for item in reversed(lines))
        system += f"\nFrom your notes:\n{noted}"
    messages = (Message("system", system), *history, Message("user", question))
    return instruct(messages, instruction) if instruction else messages


def instruct(messages: Sequence[Message], instruction: str) -> tuple[Message, ...]:
    """The prompt with one more line at the end of its system message."""
    system, *rest = messages
    return (Message("system", f"{system.content}\n{instruction}"), *rest)


def fit_messages(
    user: User,
    question: str,
    recalled: Sequence[ToldT],
    history: Sequence[Message],
    llm: Llm,
    answer_tokens: int,
    instruction: str = "",
    *,
    rules: Sequence[str] = (),
    wishes: str = "",
) -> tuple[tuple[Message, ...], tuple[ToldT, ...]]:
    """The prompt that fits the model's context, and the lines left in it: the oldest history goes first, then the weakest line.
    `rules` and `wishes` as in `twin_messages`; they stay.

    Raises: UserInputError `question_too_long` when not even the bare question fits.
    """
    talk, lines = list(history), list(recalled)
    while True:
        messages = twin_messages(user, question, lines, talk, instruction, rules, wishes)
        if llm.prompt_tokens(messages) + answer_tokens <= llm.context_tokens:
            return messages, tuple(lines)
        if talk:
            talk.pop(0)
        elif lines:
            lines.pop(_weakest(lines))
        else:
            raise UserInputError("question_too_long", f"the question does not fit the model's {llm.context_tokens} tokens")


def _weakest(lines: Sequence[Told]) -> int:
    """The last line, but those that stay on board go after all others."""
    others = [position for position, line in enumerate(lines) if not getattr(line, "on_board", False)]
    return others[-1] if others else len(lines) - 1


def as_line(text: str) -> str:
    """One line of a note: white space collapsed, Markdown's block marks dropped."""
    return " ".join(_BLOCK_MARK.sub("", _HEADING_MARK.sub("", text)).split())


def render_chatml(messages: Sequence[Message], *, open_answer: bool) -> str:
    """ChatML, the format of SmolLM2 and Qwen2.5; with `open_answer` it ends where the assistant begins to speak."""
    text = "".join(f"<|im_start|>{message.role}\n{neutralise(message.content)}<|im_end|>\n" for message in messages)
    return text + "<|im_start|>assistant\n" if open_answer else text


def neutralise(content: str) -> str:
    """Take the bar out of `<|`, so that no content can close its own message or open another.

    Why: rendered prompts are tokenised with special tokens on; a document holding "<|im_end|>" would else end the system turn.
    """
    while "<|" in content:
        content = content.replace("<|", "<")
    return content
