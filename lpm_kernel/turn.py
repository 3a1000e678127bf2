"""What one turn of a chat is made of, step by step: asked, then ready to be answered.

Belongs here: those two records.
Does not belong here: how one becomes the other (`chat.py`), and answering (`reply.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lpm_kernel.answering import StepName
from lpm_kernel.L2.prompt import declines
from lpm_kernel.recall.plan import Line, Part
from lpm_kernel.recall.route import Route
from lpm_kernel.recall.scopes import OWN, Scope
from lpm_kernel.records import ChatMessage, Evidence, Message, Release, User


@dataclass(frozen=True, slots=True)
class Brought:
    """What a caller that keeps the talk itself brings along with a question; the model sees it, and none of it is stored."""

    history: tuple[Message, ...]
    """Instead of what is stored of the session."""
    wishes: str = ""
    """The caller's, for this talk."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is checked and stored, and nothing is known about yet."""

    user: User
    release: Release
    message: ChatMessage
    number: int
    """Of the question in its session, from 1."""
    answer_id: str
    history: tuple[ChatMessage, ...]
    degraded: tuple[Literal["release"], ...] = ()
    """`release`: another one answers than the live one, whose adapter was refused."""
    scope: Scope = OWN
    with_adapter: bool = True
    """False: the adapter learnt from what is withheld from this asker, and the base answers."""
    brought: Brought | None = None

    @property
    def talk(self) -> tuple[Message, ...]:
        """What was said before, as the model sees it."""
        if self.brought is not None:
            return self.brought.history
        return tuple(Message("user" if item.sender == "user" else "assistant", item.content) for item in self.history)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that is ready to be answered; the question is stored already."""

    user: User
    release: Release
    session_id: str
    asked: ChatMessage
    number: int
    """Of the question in its session, from 1."""
    answer_id: str
    messages: tuple[Message, ...]
    lines: tuple[Line, ...]
    """What stands in the prompt of all that was recalled."""
    degraded: tuple[Part | StepName | Literal["release"], ...] = ()
    """What this answer is without: parts of the memory whose store failed, and who was to answer and could not."""
    confidence: float = 1.0
    answerable: bool = True
    """False: the twin says that it does not know, unasked or because the model finds that likelier."""
    route: Route = "own_memory"
    asker: str | None = None
    """Who asks, where it is not the person."""
    with_adapter: bool = True
    """As in `Asked`."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What the answer rests on of the documents: nothing, where the model did not see it."""
        return tuple(line.evidence for line in self.lines if line.evidence is not None) if self.answerable else ()


def settle(turn: Turn, text: str) -> Turn:
    """The turn as its answer leaves it: one that declines rests on nothing."""
    return replace(turn, answerable=False) if declines(text) else turn
