"""What people were told that it is done: the side of the model that the stores are held against.

Belongs here: records of what was sent, and of what the answer said. Threads write here at the same time.
Does not belong here: sending (`person.py`) and comparing (`agree.py`).
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Talk:
    """One question and its answer, in a session of their own."""

    user_id: str
    session_id: str
    question: str
    answer: str


@dataclass
class Book:
    """Of all people together. What was sent and not acknowledged may be there or not, but never twice."""

    documents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """By user and sha256: acknowledged."""
    sent_documents: set[tuple[str, str]] = field(default_factory=set)
    talks: list[Talk] = field(default_factory=list)
    sent_sessions: set[tuple[str, str]] = field(default_factory=set)
    proposals: dict[str, str] = field(default_factory=dict)
    """Title, of which each is proposed once, to the id that was told."""
    sent_titles: set[str] = field(default_factory=set)
    ballots: dict[tuple[str, str], str] = field(default_factory=dict)
    """Voter and proposal to the choice that was acknowledged."""
    wrong: list[str] = field(default_factory=list)
    """What nobody should have been told."""
    told: Counter[str] = field(default_factory=Counter)
    """Kind and status of every answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self) -> str:
        return (
            f"{len(self.documents)} documents, {len(self.talks)} answers, {len(self.proposals)} proposals, "
            f"{len(self.ballots)} ballots acknowledged"
        )
