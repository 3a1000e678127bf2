"""What the documents say of a person, as memories: their preferences, and one of how they write.

Belongs here: making these memories, and making the store hold exactly them beside what came from chats.
Does not belong here: finding preferences (`L0/preferences.py`), the gate's rules (`recall/write_gate.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lpm_kernel.L1.voice_words import describe_voice
from lpm_kernel.recall.write_gate import adds_nothing, words_of, write_memories
from lpm_kernel.records import Citation, Document, Memory, VoiceProfile
from lpm_kernel.settings import GateSettings
from lpm_kernel.stores.memories import Memories, make_memory

KINDS = ("preference", "voice")
VOICE_KEY = "voice"
FOR_EVER = datetime(9999, 12, 31, tzinfo=UTC)
"""What holds then has no end: none of it expires or was superseded, whenever the clocks of others say it began."""
BATCH = 20
"""Memories that are decided on under one lock: a chat of the same user waits for no more."""


@dataclass(frozen=True, slots=True)
class DocumentMemoryCount:
    written: int
    kept: int
    repeated: int
    """Preferences that say what another memory says, from a chat too."""
    superseded: int
    removed: int
    """What no document says any longer."""
    refused: int
    """What the gate took for no memory."""


def preference_memories(profile: VoiceProfile, documents: Sequence[Document]) -> list[Memory]:
    """One a preference, said when its document came in; the more firmly it is said, the more important.

    Why no key: of two preferences in one domain neither ends the other. Equal for equal documents.
    """
    by_sha = {document.sha256: document for document in documents}
    return [
        make_memory(
            profile.user_id,
            "preference",
            item.text,
            domain=item.domain,
            source=by_sha[item.citation.document_sha256].source,
            importance=item.strength,
            created_at=by_sha[item.citation.document_sha256].created_at,
            citation=cited(item.citation),
        )
        for item in profile.preferences
    ]


def cited(place: Citation) -> str:
    return f"{place.document_sha256}:{place.byte_start}-{place.byte_end}"


def sync_document_memories(
    memories: Memories, profile: VoiceProfile, documents: Sequence[Document], gate: GateSettings, at: datetime
) -> tuple[list[Memory], DocumentMemoryCount]:
    """Make memory hold what the documents say and nothing else that a document ever said; what came from chats stays.

    Returns what is held of the documents. A changed voice supersedes the one before, which stays in its history; a preference
    that no document says any longer is removed for good, since deleting a document reaches memory.
    Idempotent; a try that broke off is finished by the next. Raises: what `Memories` raises.
    """
    user_id = profile.user_id
    held = memories.current(user_id, as_of=FOR_EVER, kinds=KINDS)
    ended = ended_by_hand(memories, user_id)
    wanted = {m.memory_id: m for m in preference_memories(profile, documents) if m.citation not in ended}
    own = [memory for memory in held if memory.kind == "preference" and memory.citation]
    voices = [memory for memory in held if memory.key == VOICE_KEY]
    # first what is gone: it would turn away the same words of a document that stays
    gone = [memory.memory_id for memory in own if memory.memory_id not in wanted]
    if profile.features is None:
        gone += [version.memory_id for voice in voices for version in memories.history(user_id, voice.memory_id)]
    removed = memories.delete(user_id, gone) if gone else 0
    known = {memory.memory_id for memory in own}
    fresh = [memory for memory in wanted.values() if memory.memory_id not in known]
    voice = _new_voice(profile, voices[-1] if voices else None, at)
    fresh += [voice] if voice else []
    decided = [
        decision
        for first in range(0, len(fresh), BATCH)
        for decision in write_memories(memories, user_id, fresh[first : first + BATCH], [], gate)
    ]
    after = memories.current(user_id, as_of=FOR_EVER, kinds=KINDS)
    kept = [memory for memory in after if memory.citation or memory.key == VOICE_KEY]
    written = sum(decision.outcome == "written" for decision in decided)
    return kept, DocumentMemoryCount(
        written=written,
        kept=len(kept) - written,
        repeated=sum(decision.outcome == "duplicate" for decision in decided),
        superseded=int(voice is not None and bool(voices)),
        removed=removed,
        refused=sum(decision.outcome not in ("written", "duplicate") for decision in decided),
    )


def _new_voice(profile: VoiceProfile, before: Memory | None, at: datetime) -> Memory | None:
    """The voice as it is now, of the highest importance and without an end; None where it is what it was, or unknown."""
    if profile.features is None:
        return None
    words = describe_voice(profile.features)
    if before is not None and before.text == words:
        return None
    if before is not None:
        at = max(at, before.created_at + timedelta(microseconds=1))  # the newer one holds, whatever the clocks say
    return make_memory(
        profile.user_id, "voice", words, domain="voice", source="upload", importance=1.0, created_at=at, key=VOICE_KEY
    )


def ended_by_hand(memories: Memories, user_id: str) -> frozenset[str]:
    """The places in documents whose preference somebody corrected or had forgotten: no run remembers it again.

    By place and not by id: an id has the user in it, and the user may have come from another installation.
    """
    return frozenset(memory.citation for memory in memories.every(user_id) if memory.citation and memory.superseded_at)


def unsaid(memories: Memories, profile: VoiceProfile, documents: Sequence[Document]) -> list[str]:
    """Ids of the preferences that no memory holds, in these words or in more of them."""
    known = [words_of(held.text) for held in memories.current(profile.user_id, as_of=FOR_EVER, kinds=["preference"])]
    ended = ended_by_hand(memories, profile.user_id)
    return sorted(
        memory.memory_id
        for memory in preference_memories(profile, documents)
        if memory.citation not in ended
        and not any((words := words_of(memory.text)) == other or adds_nothing(words, other) for other in known)
    )


def differences(
    memories: Memories, user_id: str, expected: Sequence[Memory], documents: Sequence[Document]
) -> tuple[list[str], list[str]]:
    """Ids of the memories that are lacking, and of those that cite no document of the user's or are no longer said.

    Why ids: what a check finds is shown to whoever may see runs, and memories are private.
    """
    held = memories.current(user_id, as_of=FOR_EVER, kinds=KINDS)
    wanted = {memory.memory_id for memory in expected}
    there = {document.sha256 for document in documents}
    lacking = sorted(wanted - {memory.memory_id for memory in held})
    surplus = [
        memory.memory_id
        for memory in held
        if (memory.citation and (memory.memory_id not in wanted or memory.citation.partition(":")[0] not in there))
        or (memory.key == VOICE_KEY and memory.memory_id not in wanted)
    ]
    return lacking, sorted(surplus)
