"""The plan: every part asked at once, a part that fails named and not replaced, one budget, nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from lpm_kernel.errors import LlmError, RetrievalError, SettingsError, StoreError
from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.L1.records import CitedLine, Community
from lpm_kernel.recall.plan import PARTS, Line, ask_all, fill_pack, recall_lines, source_of, weigh
from lpm_kernel.records import Citation, Fact, GraphEntity
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.embedders import Embedders
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder, no_progress
from tests.samples import NOON, make_items, make_memory_of

NOTE = "Our one-eyed cat is called Pilchard."
QUESTION = "What is our one-eyed cat called?"


@pytest.fixture
def remembered(stores: Stores, user_id: str) -> tuple[str, str]:
    """A user with one note, one thing said, and one fact; with the generation of the note."""
    items = make_items(user_id, {"cats.md": NOTE, "sea.md": "The sea was cold today."})
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    stores.memories.add_batch(user_id, [make_memory_of(user_id, "Our cat Pilchard hates the vet", kind="turn")])
    person, note = GraphEntity("User", user_id), GraphEntity("Document", "d")
    fact = Fact(user_id, person, "AUTHORED", note, "The note about our one-eyed cat was written", NOON, NOON)
    stores.graph.write_facts(user_id, [fact])
    return user_id, generation_of(table)


@pytest.fixture
def gone_graph(stores: Stores) -> Stores:
    class Gone:
        def search_facts(self, *_: object, **__: object) -> list[object]:
            raise StoreError("graph_unavailable", "FalkorDB did not answer")

    return replace(stores, graph=Gone())  # type: ignore[arg-type]


def ask(stores: Stores, remembered: tuple[str, str], question: str = QUESTION, **about):
    return recall_lines(stores, *remembered, question, now=NOON + timedelta(hours=1), **about)


def test_every_store_gives_its_lines_with_their_sources(stores: Stores, remembered: tuple[str, str]) -> None:
    found = ask(stores, remembered)
    assert found.degraded == ()
    assert found.answerable
    kinds = {("document" if line.evidence else "memory" if line.memory else "fact"): line for line in reversed(found.lines)}
    assert kinds.keys() == {"document", "memory", "fact"}
    assert kinds["document"].text == NOTE
    assert source_of(kinds["document"]).startswith("cats.md bytes [0, ")
    assert source_of(kinds["memory"]) == "said on 2026-03-01"
    assert source_of(kinds["fact"]) == "a fact since 2026-03-01"
    assert [line.score for line in found.lines] == sorted((line.score for line in found.lines), reverse=True)


def test_a_store_that_fails_is_named_and_the_others_answer(
    gone_graph: Stores, remembered: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    found = ask(gone_graph, remembered)
    assert found.degraded == ("facts",)
    assert any(line.evidence for line in found.lines)
    assert "graph_unavailable" in caplog.text
    assert "Pilchard" not in caplog.text


def test_documents_that_cannot_be_read_are_degraded_while_something_else_is_known_and_an_error_else(
    stores: Stores, remembered: tuple[str, str]
) -> None:
    class Gone:
        def search(self, *_: object, **__: object) -> list[object]:
            raise StoreError("tables_unavailable", "PostgreSQL did not answer")

    gone = replace(stores, vectors=Gone())  # type: ignore[arg-type]
    found = ask(gone, remembered)
    assert found.degraded == ("documents",)
    assert [line.memory is not None or line.fact is not None for line in found.lines] == [True] * len(found.lines)
    stores.memories.delete_all(remembered[0])
    with pytest.raises(StoreError, match="tables_unavailable"):
        ask(gone, remembered, parts=["documents", "memories"])


def test_a_user_without_notes_is_a_named_error(stores: Stores, user_id: str) -> None:
    with pytest.raises(RetrievalError) as caught:
        ask(stores, (user_id, "none"))
    assert caught.value.code == "memory_empty"


def test_what_stands_in_the_prompt_already_is_not_recalled_again(stores: Stores, remembered: tuple[str, str]) -> None:
    found = ask(stores, remembered, already_said=["our cat Pilchard hates the vet!"])
    assert not any(line.memory for line in found.lines)


def test_what_was_said_a_moment_ago_is_known(stores: Stores, remembered: tuple[str, str]) -> None:
    """The one line that answered was left out as already said, and the twin said that it knew nothing about it."""
    said = "My dentist reads the Guardian."
    stores.memories.add_batch(remembered[0], [make_memory_of(remembered[0], said, 5, kind="turn")])
    found = ask(stores, remembered, "Which newspaper does my dentist read?", already_said=[said])
    assert said not in [line.text for line in found.lines]
    assert found.answerable
    assert found.confidence > 0.6


def test_a_preference_answers_too(stores: Stores, remembered: tuple[str, str]) -> None:
    """With "I never eat meat" among the lines the twin said that it had nothing about meat."""
    stores.memories.add_batch(remembered[0], [make_memory_of(remembered[0], "I never eat meat.", kind="preference")])
    assert ask(stores, remembered, "Do you eat meat?").answerable
    assert not ask(stores, remembered, "Do you eat meat?", parts=["documents"]).answerable


def test_a_model_or_setting_that_fails_takes_only_its_own_parts_along(stores: Stores, remembered: tuple[str, str]) -> None:
    class Unreachable(Embedders):
        def of(self, fingerprint: str) -> Embedder:
            raise LlmError("embedder_unavailable", "OpenAI did not answer")

    class Unset:
        def search_facts(self, *_: object, **__: object) -> list[object]:
            raise SettingsError("address_missing", "NEO4J_URI is not set")

    broken = replace(stores, embedders=Unreachable(stores.settings, {}), graph=Unset())  # type: ignore[arg-type]
    found = ask(broken, remembered, fingerprint="another-model/3")
    assert found.degraded == ("documents", "facts")
    assert [line.text for line in found.lines] == ["Our cat Pilchard hates the vet"]


def test_of_equal_memories_the_one_that_matters_more_is_taken(
    stores: Stores, user_id: str, remembered: tuple[str, str]
) -> None:
    settings = stores.settings
    one = settings.model_copy(update={"recall": settings.recall.model_copy(update={"memories": 1, "salience_weight": 0.9})})
    said = [("Our cat Pilchard sleeps on the clock", 0.1), ("Our cat Pilchard sleeps on the kiln", 1.0)]
    for number, (text, importance) in enumerate(said):
        memory = make_memory_of(remembered[0], text, number, kind="turn", importance=importance)
        stores.memories.add_batch(remembered[0], [memory])
    found = ask(replace(stores, settings=one), remembered, "Where does our cat Pilchard sleep?")
    assert [line.text for line in found.lines if line.memory] == ["Our cat Pilchard sleeps on the kiln"]


def test_questions_that_were_asked_before_are_no_answers(stores: Stores, remembered: tuple[str, str]) -> None:
    """Asked a second time, the best line was the first asking."""
    stores.memories.add_batch(remembered[0], [make_memory_of(remembered[0], QUESTION, 5, kind="turn")])
    assert QUESTION not in [line.text for line in ask(stores, remembered).lines]


def test_what_is_said_again_does_not_answer_itself(stores: Stores, remembered: tuple[str, str]) -> None:
    """While no model was free, a greeting that was sent a second time was answered with the first."""
    said = "Good morning to you!"
    stores.memories.add_batch(remembered[0], [make_memory_of(remembered[0], said, 5, kind="turn")])
    again = ask(stores, remembered, "good morning to you", parts=["memories"])
    assert said not in [line.text for line in again.lines]
    assert again.confidence < stores.settings.recall.answer_confidence
    assert said in [line.text for line in ask(stores, remembered, "I wished good morning to you!", parts=["memories"]).lines]


def test_a_question_far_from_everything_is_not_answerable(stores: Stores, remembered: tuple[str, str]) -> None:
    far = ask(stores, remembered, "Which newspaper does your dentist read?", parts=["documents", "memories"])
    assert not far.answerable
    assert far.confidence < ask(stores, remembered).confidence
    assert ask(stores, remembered, "Hello there", parts=["documents"]).answerable


def test_a_question_about_the_person_as_a_whole_is_answered_from_communities(
    stores: Stores, remembered: tuple[str, str]
) -> None:
    """The nearest lines to "tell me about yourself" were whatever sentence began with "I"."""
    place = Citation("c", "d", "cats.md", 0, 10)
    centre = tuple(stores.embedder.embed(["cats and the sea"])[0].tolist())
    line = CitedLine("I have kept cats all my life.", place, None)
    kept = [Community("k", "cats", ("Pilchard",), ("c",), (line,), 0.5, centre)]
    found = ask(stores, remembered, "Tell me about yourself", read_communities=lambda: kept)
    assert "I have kept cats all my life." in [line.text for line in found.lines]
    assert NOTE not in [line.text for line in found.lines]
    narrow = ask(stores, remembered, read_communities=lambda: pytest.fail("asked for without need"))
    assert NOTE in [line.text for line in narrow.lines]


def test_communities_that_cannot_be_read_are_named_and_the_notes_answer(stores: Stores, remembered: tuple[str, str]) -> None:
    def gone() -> None:
        raise StoreError("blobs_unavailable", "S3 did not answer")

    found = ask(stores, remembered, "Tell me about yourself", read_communities=gone)
    assert found.degraded == ("communities",)
    assert any(line.evidence for line in found.lines)


def test_notes_of_another_model_are_searched_with_that_model(stores: Stores, user_id: str) -> None:
    """After a change of the model every chat ended in `memory_empty` until a new release was built."""
    old = FakeEmbedder("old-model/64")
    items = make_items(user_id, {"cats.md": NOTE})
    table, _ = embed_chunks(items, old, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), old.fingerprint)

    class Known(Embedders):
        def of(self, fingerprint: str) -> Embedder:
            return {old.fingerprint: old}[fingerprint]

    knows = replace(stores, embedders=Known(stores.settings, {}))
    found = ask(knows, (user_id, generation_of(table)), fingerprint=old.fingerprint)
    assert [line.text for line in found.lines] == [NOTE]


def test_what_mattered_and_was_said_lately_counts_for_more() -> None:
    memory = make_memory_of("1", "I moved to Porto", importance=1.0)
    line = Line(memory.text, 0.8, 0.5, memory=memory)
    assert weigh(line, NOON, 0.5).score == pytest.approx(0.8)
    assert weigh(line, NOON + timedelta(days=90), 0.5).score == pytest.approx(0.8 * 0.75)
    assert weigh(replace(line, memory=replace(memory, importance=0.0)), NOON, 0.5).score == pytest.approx(0.4)
    assert weigh(line, NOON + timedelta(days=900), 0.0) == line
    note = Line("a", 0.8, 0.5)
    assert weigh(note, NOON, 1.0) is note


def test_preferences_are_on_board_whatever_is_asked(stores: Stores, remembered: tuple[str, str]) -> None:
    stores.memories.add_batch(remembered[0], [make_memory_of(remembered[0], "I never eat meat", kind="preference")])
    found = ask(stores, remembered)
    assert found.lines[-1].text == "I never eat meat"
    assert "I never eat meat" not in [line.text for line in ask(stores, remembered, parts=["documents", "memories"]).lines]


def test_parts_can_be_asked_for_alone(stores: Stores, remembered: tuple[str, str]) -> None:
    assert all(line.evidence for line in ask(stores, remembered, parts=["documents"]).lines)
    assert len(ask(stores, remembered, parts=["documents"]).evidence) >= 1


def test_a_slow_store_is_gone_on_without() -> None:
    release = threading.Event()

    def slow() -> list[Line]:
        release.wait(20)
        return []

    questions: dict[str, Callable[[], list[Line]]] = {"documents": lambda: [Line("a", 1.0, 1.0)], "facts": slow}
    found, failed = ask_all(questions, 0.05)  # type: ignore[arg-type]
    release.set()
    assert [line.text for line in found["documents"]] == ["a"]
    assert failed["facts"].code == "facts_slow"


def test_an_error_that_nobody_foresaw_is_raised() -> None:
    def broken() -> list[Line]:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        ask_all({"facts": broken}, 1.0)


def test_the_pack_takes_the_best_that_fit_and_nothing_twice() -> None:
    lines = [
        Line("the kiln is red", 0.9, 0.5),
        Line("The kiln is red!", 0.8, 0.5),
        Line("word " * 60, 0.7, 0.5),
        Line("bees", 0.1, 0.5),
    ]
    assert [line.text for line in fill_pack(lines, 20)] == ["the kiln is red", "bees"]
    assert len(fill_pack(lines, 1000)) == 3
    assert fill_pack(lines, 0) == []
    assert PARTS == ("documents", "communities", "memories", "preferences", "facts")
