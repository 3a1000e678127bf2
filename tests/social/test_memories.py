"""What somebody prefers on Telegram is remembered by the stages of every document, and forgotten with the message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from lpm_kernel.errors import IngestionError
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L0.voice import build_voice_profile
from lpm_kernel.L1.document_memories import FOR_EVER, sync_document_memories
from lpm_kernel.records import Memory
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.social.said import NOON, Speaker


def remember(ada: Speaker) -> list[Memory]:
    """As `raw_documents`, `chunks`, `voice_profile` and `memories` do."""
    port, user_id = ada.stores, ada.user_id
    documents, _ = read_documents(port.tables, port.blobs, port.settings.limits, user_id, no_progress)
    chunks, _ = chunk_documents(documents, port.blobs, port.settings.chunking, [])
    texts = fetch_texts(chunks, port.blobs)
    profile = build_voice_profile(user_id, documents, texts, extract_preferences(documents, chunks, texts))
    return sync_document_memories(port.memories, profile, documents, port.settings.gate, NOON)[0]


def test_a_preference_that_was_sent_is_a_memory_until_its_message_is_deleted(
    stores: Stores, new_user: Callable[[], str]
) -> None:
    ada = Speaker(stores, new_user())
    ada.says(
        *ada.words([(1, "I prefer rye bread to wheat."), (2, "See you at noon.")]),
        *ada.words([(3, "I never take sugar in my tea.")], sent_at=NOON + timedelta(days=1)),
    )
    ada.make()
    held = {memory.text: memory for memory in remember(ada)}
    assert held.keys() == {"I prefer rye bread to wheat.", "I never take sugar in my tea."}
    rye = held["I prefer rye bread to wheat."]
    assert (rye.source, rye.created_at.date()) == ("telegram", NOON.date())
    ada.says(deleted={ada.user_id: [1]})
    ada.make()
    assert [m.text for m in stores.memories.current(ada.user_id, as_of=FOR_EVER)] == ["I never take sugar in my tea."], (
        "at once"
    )
    assert [memory.text for memory in remember(ada)] == ["I never take sugar in my tea."]


def test_a_person_whose_every_word_is_gone_has_nothing_to_remember(stores: Stores, new_user: Callable[[], str]) -> None:
    ada = Speaker(stores, new_user())
    ada.says(*ada.words([(1, "I prefer rye bread to wheat.")]))
    ada.make()
    assert len(remember(ada)) == 1
    ada.says(deleted={ada.user_id: [1]})
    ada.make()
    assert stores.memories.every(ada.user_id) == []
    with pytest.raises(IngestionError):
        remember(ada)
