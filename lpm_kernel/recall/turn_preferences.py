"""What a person says in a chat to the preferences in it, as memories that last.

Belongs here: which sentences of a turn are the person's own words, and the memories made of those that tell a preference.
Does not belong here: judging one sentence (`L0/preference_head.py`), the gate (`write_gate.py`), choosing for a prompt
(`preferences.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lpm_kernel.L0.grammar import noun_phrase
from lpm_kernel.L0.preference_head import Judged, PreferenceHead
from lpm_kernel.L0.sentences import Sentence, split_sentences
from lpm_kernel.records import ChatMessage, Memory
from lpm_kernel.stores.memories import make_memory

TOLD = 0.6
"""From this score on a sentence tells a preference. What stays under it is still a `turn`, and found by meaning."""
MAX_CHARACTERS = 300
"""Of a sentence in a chat: what is longer was pasted."""
OWN_ENDS_CHARACTERS = 400
"""In a long turn people speak at both ends of it and paste between them."""
UNREAD_STRENGTH = 0.5
"""Of a preference that the grammar does not read: neither firm nor weak."""


def preference_memories(message: ChatMessage, turn: int, head: PreferenceHead) -> list[Memory]:
    """A memory for each preference that a person's turn tells, in order; none of what the twin said.

    Neighbouring sentences that both tell one are one preference: "I dislike water. I much prefer the hills."
    Raises: IngestionError `parser_missing`; LlmError `embedder_unavailable`.
    """
    if message.sender != "user":
        return []
    sentences = own_sentences(message.content)
    told: list[list[tuple[Sentence, Judged]]] = []
    last = -2
    for position, (sentence, judged) in enumerate(zip(sentences, head.judge(sentences), strict=True)):
        if judged.score < TOLD:
            continue
        if position == last + 1 and _is_next(told[-1][-1][0], sentence, message.content):
            told[-1].append((sentence, judged))
        else:
            told.append([(sentence, judged)])
        last = position
    return [
        make_memory(
            message.user_id,
            "preference",
            " ".join(" ".join(sentence.text.split()) for sentence, _ in group),
            domain=_domain(group),
            source="chat",
            importance=max(round(min(1.0, j.found.strength), 2) if j.found else UNREAD_STRENGTH for _, j in group),
            created_at=message.ts,
            session_id=message.session_id,
            turn=turn,
        )
        for group in told
    ]


def own_sentences(turn: str) -> list[Sentence]:
    """The sentences that a person says, without code, what stands in quotation marks, and the middle of a long pasted text."""
    ends = len(turn.rstrip()) - OWN_ENDS_CHARACTERS
    return [
        sentence
        for sentence in split_sentences(_without_outer_marks(turn))
        if len(sentence.text) <= MAX_CHARACTERS
        and (sentence.end <= OWN_ENDS_CHARACTERS or sentence.start >= ends)
        and not sentence.is_quoted(len(sentence.text) // 2)
        and any(sign.isalpha() for sign in sentence.text)
    ]


def _without_outer_marks(turn: str) -> str:
    """A turn that is in quotation marks as a whole quotes nobody; the marks become spaces, so that places stay."""
    inner = turn.strip()
    if len(inner) > 2 and inner[0] in '“"' and inner[-1] in '”"' and not re.search('[“”"]', inner[1:-1]):
        return turn.replace(inner, f" {inner[1:-1]} ")
    return turn


def _is_next(one: Sentence, other: Sentence, turn: str) -> bool:
    return not turn[one.end : other.start].strip() and "\n" not in turn[one.end : other.start]


def _domain(group: Sequence[tuple[Sentence, Judged]]) -> str:
    """What it is about: as the grammar reads it, or else the first thing that is named."""
    read = [judged.found.about for _, judged in group if judged.found and judged.found.about]
    named = [phrase for _, judged in group for token in judged.parsed if (phrase := noun_phrase(token))]
    return next(iter([*read, *named]), "chat").casefold()
