"""The gate before memory: what is worth remembering, what is known already, and what it replaces.

Belongs here: rules over texts and records, and the one function that takes candidates through them into a store.
Does not belong here: finding neighbours and locking (`stores/`), and making candidates out of documents.

Why: of what an ungated memory had kept after a month, its operator called 98 % junk; most of it was recalled text, fed back in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from lpm_kernel.records import ChatMessage, Memory
from lpm_kernel.settings import GateSettings
from lpm_kernel.stores.memories import Decision, Memories, MemoryHit, make_memory

# Scripts without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+(?:['’][^\W_]+)*")
_COURTESIES = frozenset(
    _WORD.findall(
        "hi hello hey hiya yo good morning afternoon evening night day bye goodbye see you later thanks thank thx cheers "
        "please ok okay k yes yeah yep no nope sure great nice cool fine perfect awesome wow lol haha hmm so much very a lot "
        "how are there again welcome sorry well right got it"
    )
)
_FILLERS = frozenset(_WORD.findall("a an the really very just quite so also indeed actually oh well there"))
# A sentence with one of these tells something else than the sentence without it.
_TELLING = frozenset(
    _WORD.findall(
        "not no never none nobody nothing without hardly cannot used was were had did would could might may will shall "
        "former formerly previously stopped quit ex if unless except only until but"
    )
)
_QUOTED_SHARE = 0.6
"""Of the words of a candidate, when a whole recalled line stands within it: from here on it is that line again."""
_QUOTED_WORDS = 3
TURN_IMPORTANCE = 0.5
QUESTION_IMPORTANCE = 0.2


def write_memories(
    memories: Memories, user_id: str, candidates: Sequence[Memory], recalled: Sequence[str], gate: GateSettings
) -> list[Decision]:
    """Take candidates through the gate, in order, and write what passes. `recalled` are texts that came out of memory or out of
    the twin in the same conversation. Idempotent. Raises: what `Memories.add_batch` raises."""
    decided = [screen(candidate, recalled, gate) for candidate in candidates]
    waiting = [candidate for candidate, decision in zip(candidates, decided, strict=True) if decision is None]

    def decide(memory: Memory, near: Sequence[MemoryHit], versions: Sequence[Memory]) -> Decision:
        return place_version(memory, versions) if memory.key else settle(memory, near, gate)

    written = iter(memories.add_batch(user_id, waiting, decide) if waiting else [])
    return [decision or next(written) for decision in decided]


def remember_turn(memories: Memories, message: ChatMessage, turn: int, recalled: Sequence[str], gate: GateSettings) -> Decision:
    """Offer what a person said in a chat to memory.

    What the twin said is never remembered: it would come back as if the person had said it.
    Why nothing is purged here: what has expired is not found any more, and a person waits for the answer.
    """
    candidate = make_memory(
        message.user_id,
        "turn",
        message.content,
        domain="chat",
        source="chat",
        importance=QUESTION_IMPORTANCE if message.content.rstrip().endswith(("?", "？")) else TURN_IMPORTANCE,
        created_at=message.ts,
        session_id=message.session_id,
        turn=turn,
        expiration_date=message.ts.date() + timedelta(days=gate.turn_days),
    )
    if message.sender != "user":
        return Decision("twin_words", candidate)
    return write_memories(memories, message.user_id, [candidate], recalled, gate)[0]


def screen(candidate: Memory, recalled: Sequence[str], gate: GateSettings) -> Decision | None:
    """What the words alone decide; None when the candidate goes on."""
    words = words_of(candidate.text)
    if len(words) < gate.min_words or all(word in _COURTESIES for word in words):
        return Decision("junk", candidate)
    if any(_is_quoted(words, words_of(text)) for text in recalled):
        return Decision("recalled", candidate)
    return None


def settle(memory: Memory, near: Sequence[MemoryHit], gate: GateSettings) -> Decision:
    """Drop a candidate that says what a neighbour says.

    Why not cosine alone: "I prefer tea over coffee" and its reverse are at 0.99, a rent of 900 and one of 950 at 0.97.
    Why what a person says is no repetition of a document: the document may be deleted, and it takes its memories along.
    """
    words = words_of(memory.text)
    for hit in near:
        if hit.memory.citation and not memory.citation:
            continue
        known = words_of(hit.memory.text)
        if words == known or (hit.score >= gate.duplicate_cosine and adds_nothing(words, known)):
            return Decision("duplicate", memory, hit.memory.memory_id)
    return Decision("written", memory)


def place_version(memory: Memory, versions: Sequence[Memory]) -> Decision:
    """Put a candidate into its place in time among the versions of one fact: it ends the one before it, and what came later
    ends it. So the newest statement holds, in whatever order they arrive."""
    place = (memory.created_at, memory.memory_id)
    before = [version for version in versions if (version.created_at, version.memory_id) < place]
    after = [version for version in versions if (version.created_at, version.memory_id) > place]
    last = before[-1] if before else None
    held = last is not None and (last.superseded_at is None or last.superseded_at > memory.created_at)
    if last and held and words_of(last.text) == words_of(memory.text):
        return Decision("duplicate", memory, last.memory_id)
    if last and held and last.superseded_by:
        memory = replace(memory, superseded_by=last.superseded_by, superseded_at=last.superseded_at)
    elif after:
        memory = replace(memory, superseded_by=after[0].memory_id, superseded_at=after[0].created_at)
    return Decision("written", memory, last.memory_id if last and held else None)


def words_of(text: str) -> list[str]:
    """Words in their order, without case and punctuation."""
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def adds_nothing(words: Sequence[str], known: Sequence[str]) -> bool:
    """Whether every word stands in what is known, in the same order, and what is known says nothing different by its others."""
    rest = iter([word for word in known if word not in _FILLERS])
    left: list[str] = []
    for word in (word for word in words if word not in _FILLERS):
        for other in rest:
            if other == word:
                break
            left.append(other)
        else:
            return False
    left.extend(rest)
    return not any(word in _TELLING or word.endswith("n't") or any(map(str.isdigit, word)) for word in left)


def _is_quoted(words: list[str], recalled: list[str]) -> bool:
    if _stands_in(words, recalled):
        return True
    long_enough = len(recalled) >= max(_QUOTED_WORDS, _QUOTED_SHARE * len(words))
    return long_enough and _stands_in(recalled, words)


def _stands_in(part: Sequence[str], whole: Sequence[str]) -> bool:
    return f" {' '.join(part)} " in f" {' '.join(whole)} "
