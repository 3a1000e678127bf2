"""One turn: checked, stored, recalled from the live release's memory, answered, stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel import chat
from lpm_kernel.chat import MAX_QUESTION_CHARACTERS, answer, begin_turn, open_turn, recall_turn, stream_turn, turn_key
from lpm_kernel.errors import LlmError, UserInputError
from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.recall.memory_queue import write_memories_of
from lpm_kernel.records import User, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.conversations import find_message, last_messages
from lpm_kernel.stores.documents import mark_deleted, put_document
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memory_writes import list_memory_writes
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeLlm, no_progress
from tests.samples import RANKING, make_document, make_items, make_release

OLD, NEW = "My cat is called Pilchard.", "My cat is called Admiral."


def remember(stores: Stores, user_id: str, text: str) -> str:
    """Make a memory of one note; its generation."""
    items = make_items(user_id, {"cats.md": text})
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    return generation_of(table)


def release(stores: Stores, user_id: str, generation: str, number: int, base_sha256: str) -> None:
    adapter = f"adapter {number}".encode()
    made = replace(
        make_release(user_id, number),
        memory_generation=generation,
        embedding_fingerprint=stores.embedder.fingerprint,
        gguf_key=f"tenant/{user_id}/lora/{sha256_hex(adapter)}.gguf",
        gguf_sha256=sha256_hex(adapter),
        base_sha256=base_sha256,
    )
    TenantBlobs(stores.blobs, user_id).put(made.gguf_key, adapter)
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, made)


@pytest.fixture
def llm() -> FakeLlm:
    return FakeLlm()


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], llm: FakeLlm) -> str:
    user_id = new_user()
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Nora"))
    release(stores, user_id, remember(stores, user_id, OLD), 1, llm.base_sha256)
    return user_id


def said(stores: Stores, user_id: str, session_id: str) -> list[tuple[str, str]]:
    with stores.tables.transaction(user_id) as connection:
        return [(message.sender, message.content) for message in last_messages(connection, user_id, session_id, 20)]


def test_a_chat_recalls_from_the_memory_of_its_release_and_not_from_a_newer_one(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    """While a new release was being trained, the old one answered from chunks it had never seen and cited them."""
    newer = remember(stores, twin, NEW)
    llm.answers.extend(["Pilchard.", "Admiral.", "Pilchard."])
    before = answer(stores, llm, twin, "What is your cat called?", tmp_path)
    assert [line.text for line in before.turn.evidence] == [OLD]
    release(stores, twin, newer, 2, llm.base_sha256)
    after = answer(stores, llm, twin, "What is your cat called?", tmp_path)
    assert [line.text for line in after.turn.evidence] == [NEW]
    assert (before.turn.release.release_id, after.turn.release.release_id) == ("release-1", "release-2")
    release(stores, twin, before_generation(stores, twin), 1, llm.base_sha256)
    assert [line.text for line in answer(stores, llm, twin, "Cat?", tmp_path).turn.evidence] == [OLD], (
        "gone back, memory and all"
    )


def before_generation(stores: Stores, user_id: str) -> str:
    from lpm_kernel.stores.releases import list_releases

    with stores.tables.transaction(user_id) as connection:
        return next(r.memory_generation for r in list_releases(connection, user_id) if r.release_id == "release-1")


def messages_of(stores: Stores, user_id: str) -> int:
    from sqlalchemy import func, select

    from lpm_kernel.stores.schema import chat_message

    with stores.tables.transaction(user_id) as connection:
        return connection.execute(select(func.count()).select_from(chat_message)).scalar_one()


def test_the_question_is_stored_before_it_is_answered(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.append(LlmError("model_loading", "too many ask"))
    turn = begin_turn(stores, llm, twin, " What is your cat called? ", "s")
    assert said(stores, twin, "s") == [("user", "What is your cat called?")]
    with pytest.raises(LlmError):
        list(stream_turn(stores, llm, turn, tmp_path))
    assert said(stores, twin, "s") == [("user", "What is your cat called?")]


@pytest.mark.parametrize("nothing", ["", " \n "])
def test_an_answer_without_a_word_is_an_error_and_no_empty_reply(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path, nothing: str
) -> None:
    """An empty text went out as a success, with the id of a message that was never stored."""
    llm.answers.append(nothing)
    with pytest.raises(LlmError) as caught:
        answer(stores, llm, twin, "What is your cat called?", tmp_path, "s")
    assert (caught.value.code, caught.value.retryable) == ("answer_empty", False)
    assert [sender for sender, _ in said(stores, twin, "s")] == ["user"]


def test_two_sessions_do_not_hear_each_other(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.extend(["One.", "Two.", "Three."])
    for session, question in (("a", "One cat?"), ("b", "Two cats?"), ("a", "Three cats?")):
        answer(stores, llm, twin, question, tmp_path, session)
    assert [message.content for message in llm.calls[2].messages[1:]] == ["One cat?", "One.", "Three cats?"]


@pytest.mark.parametrize(
    ("question", "session_id", "code"),
    [
        ("   ", None, "question_empty"),
        ("a\x00b", None, "question_invalid"),
        ("a\ud800b", None, "question_invalid"),
        ("x" * (MAX_QUESTION_CHARACTERS + 1), None, "question_too_long"),
        ("Hello?", "a b", "session_id_invalid"),
        ("Hello?", "../x", "session_id_invalid"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_not_stored(
    stores: Stores, twin: str, llm: FakeLlm, question: str, session_id: str | None, code: str
) -> None:
    with pytest.raises(UserInputError) as caught:
        begin_turn(stores, llm, twin, question, session_id)
    assert caught.value.code == code
    assert messages_of(stores, twin) == 0


def test_a_question_that_does_not_fit_the_model_even_alone_is_refused(stores: Stores, twin: str, llm: FakeLlm) -> None:
    llm.context_tokens = stores.settings.models.answer_tokens + 10
    with pytest.raises(UserInputError) as caught:
        begin_turn(stores, llm, twin, "why " * 50)
    assert caught.value.code == "question_too_long"
    assert messages_of(stores, twin) == 0


def test_a_twin_that_is_not_there_or_not_ready_is_named(stores: Stores, new_user: Callable[[], str], llm: FakeLlm) -> None:
    for user_id, code in (("../x", "user_id_invalid"), ("nobody-here", "twin_not_found"), (new_user(), "no_release")):
        with pytest.raises(UserInputError) as caught:
            begin_turn(stores, llm, user_id, "Hello?")
        assert caught.value.code == code


def test_what_a_person_says_becomes_a_memory_and_what_the_twin_says_never(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.extend(["You sail every Sunday.", "Good to know.", "Yes."])
    said = ["I moved to Porto in May.", "You sail every Sunday.", OLD]
    for question in said:
        answer(stores, llm, twin, question, tmp_path, "s")
    assert stores.memories.current(twin, as_of=datetime.now(UTC)) == [], "an answer does not wait for it"
    assert write_memories_of(stores, twin) == 3
    held = stores.memories.current(twin, as_of=datetime.now(UTC))
    assert [(memory.text, memory.kind, memory.turn) for memory in held] == [("I moved to Porto in May.", "turn", 1)]


def test_a_memory_store_that_fails_keeps_nobody_from_an_answer(
    stores: Stores, twin: str, llm: FakeLlm, free_port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Mem0Memories(stores.tables.engine.url.set(host="127.0.0.1", port=free_port), stores.embedder, RANKING)
    llm.answers.append("Pilchard.")
    turn = begin_turn(replace(stores, memories=gone), llm, twin, "What is your cat called?", "s")
    assert set(turn.degraded) == {"memories", "preferences"}
    assert "tables_unavailable" in caplog.text
    assert not re.search(r"\bcat\b", caplog.text.replace(twin, ""))
    assert "".join(stream_turn(stores, llm, turn, tmp_path)) == "Pilchard."
    gone.close()


def test_preferences_that_a_person_tells_become_memories_of_their_own(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.extend(["Noted.", "Noted."])
    answer(stores, llm, twin, "I never eat meat, it makes me ill.", tmp_path, "s")
    answer(stores, llm, twin, "The tram was late today.", tmp_path, "s")
    write_memories_of(stores, twin)
    held = stores.memories.current(twin, as_of=datetime.now(UTC), kinds=["preference"])
    assert [(memory.text, memory.source, memory.expiration_date) for memory in held] == [
        ("I never eat meat, it makes me ill.", "chat", None)
    ]


def test_what_nobody_knows_is_said_so_and_the_model_is_not_asked(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    reply = answer(stores, llm, twin, "Which newspaper does your dentist read?", tmp_path, "s")
    assert (reply.text, reply.turn.answerable, llm.calls) == (DECLINE, False, [])
    assert reply.turn.lines, "what was found is known"
    assert reply.turn.evidence == (), "and no source of an answer that rests on nothing"
    assert said(stores, twin, "s")[-1] == ("twin", DECLINE)


def test_an_answer_that_declines_rests_on_nothing(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    """It said that nothing is in the notes, and cited them."""
    llm.answers.extend(["Pilchard.", DECLINE])
    told = answer(stores, llm, twin, "What is your cat called?", tmp_path, "s")
    declined = answer(stores, llm, twin, "What is your cat called?", tmp_path, "s")
    assert (told.turn.answerable, declined.turn.answerable) == (True, False)
    assert [bool(reply.turn.evidence) for reply in (told, declined)] == [True, False]
    with stores.tables.transaction(twin) as connection:
        replies = [message for message in last_messages(connection, twin, "s", 20) if message.sender == "twin"]
    assert [bool(reply.citations) for reply in replies] == [True, False]


def test_an_echo_of_the_twin_is_no_preference_of_the_person(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    """Said back by the person, "I love sailing on Sundays" was refused as a turn and kept for ever as a preference."""
    llm.answers.extend(["I love sailing on Sundays.", "Indeed.", "Indeed."])
    for words in ("Tell me something.", "I love sailing on Sundays.", "I love baking bread."):
        answer(stores, llm, twin, words, tmp_path, "s")
    write_memories_of(stores, twin)
    held = stores.memories.current(twin, as_of=datetime.now(UTC), kinds=["preference"])
    assert [memory.text for memory in held] == ["I love baking bread."]


def remembered_later(stores: Stores, user_id: str) -> list[tuple[str, int]]:
    with stores.tables.transaction(user_id) as connection:
        return [(write.message_id, write.turn) for write in list_memory_writes(connection, user_id)]


def test_a_question_of_a_key_is_the_same_turn_of_its_session_whenever_it_comes_again(
    stores: Stores, twin: str, llm: FakeLlm
) -> None:
    """A question that came again behind others was counted as their successor, and put into memory's queue once more."""
    key = turn_key(twin, None, "once")
    first = open_turn(stores, llm, twin, "What does Nora eat?", "s", key=key)
    other = open_turn(stores, llm, twin, "Where does Nora live?", "s")
    again = open_turn(stores, llm, twin, "What does Nora eat?", "s", key=key)
    assert (first.message, first.number) == (again.message, again.number)
    assert remembered_later(stores, twin) == [(first.message.message_id, 1), (other.message.message_id, 2)]


def test_of_two_processes_that_store_the_question_of_one_key_one_does(
    stores: Stores, twin: str, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looked for it before the other had stored it: then another question was answered in the name of the first."""
    key = turn_key(twin, None, "at once")
    first = open_turn(stores, llm, twin, "What does Nora eat?", "s", key=key)
    looked: list[str] = []

    def not_there_yet(connection: Any, user_id: str, message_id: str):
        looked.append(message_id)
        return None if len(looked) % 2 else find_message(connection, user_id, message_id)

    monkeypatch.setattr(chat, "find_message", not_there_yet)
    again = open_turn(stores, llm, twin, "What does Nora eat?", "s", key=key)
    assert (again.message, again.history) == (first.message, first.history)
    with pytest.raises(UserInputError) as caught:
        open_turn(stores, llm, twin, "Where does Nora live?", "s", key=key)
    assert caught.value.code == "key_reused"
    assert remembered_later(stores, twin) == [(first.message.message_id, 1)]
    assert said(stores, twin, "s") == [("user", "What does Nora eat?")]


def test_a_document_that_is_deleted_after_it_was_asked_for_is_not_shown(stores: Stores, twin: str, llm: FakeLlm) -> None:
    """A turn waits for others before it searches, and went by what had been deleted when it was asked."""
    asked = open_turn(stores, llm, twin, "What is your cat called?")
    assert any("Pilchard" in line.text for line in recall_turn(stores, asked).lines)
    with stores.tables.transaction(twin) as connection:
        put_document(connection, make_document(twin, "cats.md", OLD.encode(), "read"))
        mark_deleted(connection, twin, [sha256_hex(OLD.encode())], pending=False)
    assert not any("Pilchard" in line.text for line in recall_turn(stores, asked).lines), "its chunks are there still"
