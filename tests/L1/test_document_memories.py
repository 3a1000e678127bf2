"""What documents say, as memories: exactly them, once, and gone with their document; what came from chats stays."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.L1.document_memories import (
    DocumentMemoryCount,
    differences,
    preference_memories,
    sync_document_memories,
    unsaid,
)
from lpm_kernel.L1.voice_words import describe_voice
from lpm_kernel.recall.write_gate import write_memories
from lpm_kernel.records import Citation, Document, Memory, Preference, VoiceProfile
from lpm_kernel.stores.mem0_cloud import Mem0CloudMemories
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import Memories
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder
from tests.L1.test_voice_words import FEATURES
from tests.mem0_platform import Mem0Platform
from tests.samples import NOON, RANKING, make_document, make_memory_of

LATER, MUCH_LATER = NOON + timedelta(days=1), NOON + timedelta(days=2)


@pytest.fixture(params=["embedded", "stand-in"])
def memories(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Memories]:
    if request.param == "embedded":
        opened: Memories = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING)
        yield opened
        opened.close()
        return
    with Mem0Platform() as platform:
        opened = Mem0CloudMemories("m0-key", FakeEmbedder(), stores.tables, host=platform.host, event_wait_s=0.001)
        yield opened
        opened.close()


def preference_of(document: Document, text: str, start: int = 0, strength: float = 0.8) -> Preference:
    place = Citation("c", document.sha256, document.filename, start, start + len(text.encode()))
    return Preference(f"p{start}", text, "drinks", "attitude", "for", strength, place)


def profile_of(user_id: str, *preferences: Preference, features: dict[str, float] | None = None) -> VoiceProfile:
    return VoiceProfile(user_id, {"words": 900}, features, None if features else "voice_too_little_text: 5 words", preferences)


def sync(
    memories: Memories, stores: Stores, profile: VoiceProfile, documents: list[Document], at: datetime = LATER
) -> tuple[list[Memory], DocumentMemoryCount]:
    return sync_document_memories(memories, profile, documents, stores.settings.gate, at)


def texts(found: Collection[Memory]) -> list[str]:
    return sorted(memory.text for memory in found)


def test_a_preference_keeps_what_is_known_of_it(user_id: str) -> None:
    diary = replace(make_document(user_id), source="telegram")
    [memory] = preference_memories(profile_of(user_id, preference_of(diary, "I prefer tea.", 3, 0.7)), [diary])
    assert (memory.kind, memory.domain, memory.source, memory.importance) == ("preference", "drinks", "telegram", 0.7)
    assert (memory.created_at, memory.expiration_date) == (diary.created_at, None)
    assert memory.citation == f"{diary.sha256}:3-16"


def test_syncing_again_writes_nothing(memories: Memories, stores: Stores, user_id: str) -> None:
    diary = make_document(user_id)
    profile = profile_of(user_id, preference_of(diary, "I prefer tea."), features=FEATURES)
    held, count = sync(memories, stores, profile, [diary])
    assert texts(held) == texts(memories.current(user_id, as_of=LATER)) == ["I prefer tea.", describe_voice(FEATURES)]
    assert (count.written, count.kept, count.removed) == (2, 0, 0)
    again, count = sync(memories, stores, profile, [diary], MUCH_LATER)
    assert again == held
    assert (count.written, count.kept, count.superseded, count.removed) == (0, 2, 0, 0)


def test_what_no_document_says_any_longer_is_gone_and_what_a_chat_said_stays(
    memories: Memories, stores: Stores, user_id: str
) -> None:
    diary, letter = make_document(user_id), make_document(user_id, "letter.txt", b"I never sail.")
    said = make_memory_of(user_id, "I love trams", kind="preference")
    memories.add_batch(user_id, [said])
    sync(memories, stores, profile_of(user_id, preference_of(diary, "I prefer tea."), preference_of(letter, "I never sail.")), [
        diary,
        letter,
    ])  # fmt: skip
    held, count = sync(memories, stores, profile_of(user_id, preference_of(letter, "I never sail.")), [letter])
    assert (count.removed, texts(held)) == (1, ["I never sail."])
    assert texts(memories.current(user_id, as_of=LATER)) == ["I love trams", "I never sail."]
    assert memories.search(user_id, "tea", 5, as_of=LATER, kinds=["preference"])[0].memory.text != "I prefer tea."


def test_the_same_words_of_another_document_take_the_place_of_what_went(
    memories: Memories, stores: Stores, user_id: str
) -> None:
    """Offered before the old one went, they were a repetition, and then nobody said it any more."""
    diary, letter = make_document(user_id), make_document(user_id, "letter.txt", b"tea")
    sync(memories, stores, profile_of(user_id, preference_of(diary, "I prefer tea.")), [diary])
    held, count = sync(memories, stores, profile_of(user_id, preference_of(letter, "I prefer tea.", 5)), [letter])
    assert (count.removed, count.written) == (1, 1)
    assert [memory.citation for memory in held] == [f"{letter.sha256}:5-18"]


def test_what_a_chat_has_said_already_is_not_held_twice(memories: Memories, stores: Stores, user_id: str) -> None:
    diary = make_document(user_id)
    memories.add_batch(user_id, [make_memory_of(user_id, "I prefer tea", kind="preference")])
    held, count = sync(memories, stores, profile_of(user_id, preference_of(diary, "I prefer tea.")), [diary])
    assert (held, count.repeated) == ([], 1)
    assert texts(memories.current(user_id, as_of=LATER)) == ["I prefer tea"]


def test_what_a_person_says_outlives_the_document_that_said_it_first(memories: Memories, stores: Stores, user_id: str) -> None:
    """It was dropped as a repetition, and gone with the document."""
    diary = make_document(user_id)
    sync(memories, stores, profile_of(user_id, preference_of(diary, "I prefer tea.")), [diary])
    said = make_memory_of(user_id, "I prefer tea", 5, kind="preference")
    assert write_memories(memories, user_id, [said], [], stores.settings.gate)[0].outcome == "written"
    sync(memories, stores, profile_of(user_id), [])
    assert memories.current(user_id, as_of=LATER) == [said]


def test_a_changed_voice_replaces_the_one_before_which_stays_in_its_history(
    memories: Memories, stores: Stores, user_id: str
) -> None:
    [first], _ = sync(memories, stores, profile_of(user_id, features=FEATURES), [])
    changed = {**FEATURES, "emoji": 30.0}
    [second], count = sync(memories, stores, profile_of(user_id, features=changed), [], LATER - timedelta(hours=1))
    assert (count.superseded, second.text) == (1, describe_voice(changed)), "although the clock went back"
    assert (second.importance, second.expiration_date) == (1.0, None)
    assert memories.current(user_id, as_of=MUCH_LATER, kinds=["voice"]) == [second]
    assert [memory.text for memory in memories.history(user_id, second.memory_id)] == [first.text, second.text]


def test_a_voice_that_is_measured_no_longer_is_gone_with_its_history(memories: Memories, stores: Stores, user_id: str) -> None:
    sync(memories, stores, profile_of(user_id, features=FEATURES), [])
    [held], _ = sync(memories, stores, profile_of(user_id, features={**FEATURES, "emoji": 30.0}), [])
    kept, count = sync(memories, stores, profile_of(user_id), [], MUCH_LATER)
    assert (kept, count.removed) == ([], 2)
    assert memories.history(user_id, held.memory_id) == []


def test_a_try_that_broke_off_is_finished_by_the_next(stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memories = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING)
    diary = make_document(user_id)
    profile = profile_of(user_id, preference_of(diary, "I prefer tea."), preference_of(diary, "I never sail.", 20))
    monkeypatch.setattr("lpm_kernel.L1.document_memories.BATCH", 1)
    add = memories.add_batch

    def fail_at_the_second(*given: object) -> object:
        if memories.current(user_id, as_of=LATER):
            raise StoreError("tables_unavailable", "told to")
        return add(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(memories, "add_batch", fail_at_the_second)
    with pytest.raises(StoreError):
        sync(memories, stores, profile, [diary])
    monkeypatch.undo()
    held, count = sync(memories, stores, profile, [diary])
    assert (texts(held), count.written, count.kept) == (["I never sail.", "I prefer tea."], 1, 1)
    memories.close()


def test_a_check_tells_what_is_lacking_and_what_should_be_gone(memories: Memories, stores: Stores, user_id: str) -> None:
    diary = make_document(user_id)
    held, _ = sync(memories, stores, profile_of(user_id, preference_of(diary, "I prefer tea."), features=FEATURES), [diary])
    assert differences(memories, user_id, held, [diary]) == ([], [])
    tea = next(memory.memory_id for memory in held if memory.citation)
    assert differences(memories, user_id, held, []) == ([], [tea]), "its document is gone"
    memories.delete(user_id, [tea])
    assert differences(memories, user_id, held, [diary]) == ([tea], [])


def test_a_preference_that_no_memory_tells_is_found(memories: Memories, stores: Stores, user_id: str) -> None:
    """What a store had lost was read back as all there ever was, and the two sides of the check were one."""
    diary = make_document(user_id)
    profile = profile_of(user_id, preference_of(diary, "I prefer tea."), preference_of(diary, "I never drink milk.", 40))
    held, count = sync(memories, stores, profile, [diary])
    assert count.refused == 0
    assert unsaid(memories, profile, [diary]) == []
    [tea] = [memory for memory in held if memory.text == "I prefer tea."]
    memories.delete(user_id, [tea.memory_id])
    assert unsaid(memories, profile, [diary]) == [tea.memory_id]
    memories.add_batch(user_id, [make_memory_of(user_id, "I really prefer tea.", kind="preference")])
    assert unsaid(memories, profile, [diary]) == [], "said in a chat, in more words"


def test_what_its_person_corrected_or_had_forgotten_no_run_remembers_again(
    memories: Memories, stores: Stores, user_id: str
) -> None:
    diary = make_document(user_id)
    said = [
        preference_of(diary, text, start) for text, start in (("I prefer tea.", 0), ("I love maps.", 20), ("I hate rain.", 40))
    ]
    profile = profile_of(user_id, *said)
    held = {memory.text: memory.memory_id for memory in sync(memories, stores, profile, [diary])[0]}
    memories.correct(user_id, held["I prefer tea."], "I prefer coffee.", by="ada", at=LATER)
    memories.forget(user_id, held["I love maps."])
    for _ in range(2):
        expected, count = sync(memories, stores, profile, [diary], MUCH_LATER)
        assert (count.written, count.removed) == (0, 0)
        assert texts(memories.current(user_id, as_of=MUCH_LATER)) == ["I hate rain.", "I prefer coffee."]
        assert unsaid(memories, profile, [diary]) == []
        assert differences(memories, user_id, expected, [diary]) == ([], [])
