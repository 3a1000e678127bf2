"""Entities: nothing is read twice, a failure is nobody else's, and one thing is one entity in every spelling."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import NerError
from lpm_kernel.L0.entities import extract_entities, misplaced_mentions, overlapping_mentions
from lpm_kernel.L0.linking import link_mentions
from lpm_kernel.records import Entity, Mention
from tests.fakes import FakeNer, no_progress
from tests.samples import make_items

NOTES = {
    "a.md": "# Élodie\n\nÉlodie met Priya 😀.\n\nThen Tomasz came to tea with Ångström.\n",
    "b.txt": "Priya wrote to Victor.\n\nVictor wrote to Ωmega and Zoë.\n",
}


def mentions_of(entities: list[Entity]) -> set[tuple[str, int, int, str, str]]:
    return {(m.chunk_id, m.byte_start, m.byte_end, m.text, e.type) for e in entities for m in e.mentions}


def test_every_mention_is_at_its_bytes_of_the_stored_text() -> None:
    entities, _, _ = extract_entities(make_items("1", NOTES, 16), FakeNer(), [], no_progress)
    texts = {item.chunk.document_sha256: NOTES[item.chunk.filename].encode() for item in make_items("1", NOTES, 16)}
    found = [mention for entity in entities for mention in entity.mentions]
    assert len(found) >= 9
    assert all(texts[m.document_sha256][m.byte_start : m.byte_end].decode() == m.text for m in found)


@given(failing=st.integers(0, 7), words=st.lists(st.sampled_from(["Anna", "Élan", "😀", "x"]), min_size=8, max_size=8))
def test_a_failing_chunk_shifts_drops_and_mislabels_no_other(failing: int, words: list[str]) -> None:
    """A synthesiser of Second-Me zipped questions with the answers that had not failed: each later one got another's answer."""
    notes = {f"{i}.txt": f"{word} knows Person{i} and {word} left." for i, word in enumerate(words)}
    items = make_items("1", notes)
    whole, _, _ = extract_entities(items, FakeNer(), [], no_progress)
    broken, rows, count = extract_entities(items, FakeNer(fails_on=f"Person{failing}"), [], no_progress)
    lost = items[failing].chunk.chunk_id
    assert mentions_of(broken) == {mention for mention in mentions_of(whole) if mention[0] != lost}
    assert [(failure.chunk_id, failure.code) for failure in count.failures] == [(lost, "extraction_failed")]
    assert [row.chunk_id for row in rows] == [item.chunk.chunk_id for item in items if item.chunk.chunk_id != lost]
    healed, _, again = extract_entities(items, FakeNer(), rows, no_progress)
    assert healed == whole, "what failed is read the next time"
    assert again.chunks_extracted == 1


def test_only_changed_documents_are_read_again() -> None:
    _, rows, _ = extract_entities(make_items("1", NOTES), FakeNer(), [], no_progress)
    ner = FakeNer()
    changed = make_items("1", {**NOTES, "b.txt": "Priya wrote to Karl.\n"})
    entities, _, count = extract_entities(changed, ner, rows, no_progress)
    assert ner.texts == [item.text for item in changed if item.chunk.filename == "b.txt"]
    assert (count.documents_extracted, count.documents_reused) == (1, 1)
    assert entities == extract_entities(changed, FakeNer(), [], no_progress)[0], "reuse gives what a fresh reading gives"


def test_another_extractor_reads_everything_again() -> None:
    items = make_items("1", NOTES)
    _, rows, _ = extract_entities(items, FakeNer(), [], no_progress)
    _, _, count = extract_entities(items, FakeNer(fingerprint="fake-ner/2"), rows, no_progress)
    assert (count.chunks_extracted, count.chunks_reused) == (len(items), 0)


def test_when_not_one_chunk_can_be_read_that_is_no_empty_result() -> None:
    with pytest.raises(NerError) as caught:
        extract_entities(make_items("1", {"a.md": "Anna.\n"}), FakeNer(fails_on="Anna"), [], no_progress)
    assert caught.value.code == "nothing_extracted"
    assert extract_entities([], FakeNer(), [], no_progress)[0] == []


def make_mention(text: str, document: str = "d", start: int = 0) -> Mention:
    return Mention(document, f"{document}-chunk", start, start + len(text.encode()), text, "spacy", 0.5)


def linked(*texts: tuple[str, str, str]) -> list[set[str]]:
    """Spellings of each entity, of mentions given as type, text and document."""
    mentions = [(kind, make_mention(text, document, 100 * i)) for i, (kind, text, document) in enumerate(texts)]
    entities = link_mentions("1", mentions)
    random.Random(7).shuffle(mentions)
    assert link_mentions("1", mentions) == entities, "the order of mentions does not matter"
    return [{entity.name, *entity.aliases} for entity in entities]


def people(*texts: str) -> list[set[str]]:
    return linked(*(("PERSON", text, "d") for text in texts))


def test_one_person_in_other_spellings_is_one_entity() -> None:
    assert people("Nora", "Nora Whitlock", "Mrs Whitlock", "Whitlock", "Nora Whitlock’s") == [
        {"Nora", "Nora Whitlock", "Mrs Whitlock", "Whitlock", "Nora Whitlock’s"}
    ]
    assert people("Tomasz Zieliński", "Tomasz Zielinski", "Tomasz Zielinsky") == [
        {"Tomasz Zieliński", "Tomasz Zielinski", "Tomasz Zielinsky"}
    ]


def test_an_odd_mention_stands_alone_and_fails_no_other() -> None:
    """An apostrophe that was answered as a name ended the linking of all documents."""
    assert {"Nora Whitlock"} in linked(("GPE", "’s", "d"), ("PERSON", "'", "d"), ("PERSON", "Nora Whitlock", "d"))


def test_initials_middle_names_and_foreign_letters_are_spellings_too() -> None:
    assert len(people("Nora Jane Whitlock", "Nora Whitlock", "N. Whitlock", "N Whitlock", "Nora J. Whitlock", "Nora")) == 1
    assert len(people("Søren Ødegård", "Soren Odegard", "Łukasz", "Lukasz")) == 2
    assert len(people("Nora Whitlock", "Neil Whitlock", "N. Whitlock")) == 3, "an initial of two people is nobody's"


def test_two_people_stay_two() -> None:
    assert len(people("Dan Smithson", "Ian Smithson")) == 2
    assert len(people("Maria Costello", "Mario Costello")) == 2
    assert len(people("Ann Berg", "Ann Berk")) == 2, "a short name has no slip of the pen"
    assert len(people(*["Peter Hanssen"] * 3, *["Peter Hansson"] * 2)) == 2, "what is written again is no slip of the pen"
    assert len(people("Nora Whitlock", "Desmond Whitlock", "Whitlock")) == 3, "a surname of two people is nobody's"


def test_a_short_name_goes_to_the_one_its_document_speaks_of() -> None:
    two = [("PERSON", "Victor Osei", "one"), ("PERSON", "Victor Hugo", "two"), ("PERSON", "Victor", "two")]
    assert {"Victor Hugo", "Victor"} in linked(*two)
    assert len(linked(*two, ("PERSON", "Victor", "three"))) == 3


FIRST = st.sampled_from(["Victor", "Mira"])
LAST = st.sampled_from(["Osei", "Hugo", "Ortega", "Hug", "Oseinov"])
SPOKEN = st.lists(st.tuples(FIRST, st.none() | LAST, st.sampled_from(["one", "two", "three"])), min_size=1, max_size=12)


@given(spoken=SPOKEN)
def test_two_people_who_share_a_first_name_are_never_one(spoken: list[tuple[str, str | None, str]]) -> None:
    """In any documents, with and without their last names."""
    mentions = [("PERSON", " ".join(filter(None, (first, last))), document) for first, last, document in spoken]
    for spellings in linked(*mentions):
        assert len({spelling for spelling in spellings if " " in spelling}) <= 1
        assert len({spelling.split()[0] for spelling in spellings}) == 1


def test_other_things_are_linked_by_their_own_habits() -> None:
    assert linked(("ORG", "Harrow Point", "d"), ("ORG", "the Harrow Point Works", "e")) == [
        {"Harrow Point", "the Harrow Point Works"}
    ]
    assert linked(("PROPOSAL", "P-07", "d"), ("PROPOSAL", "proposal 7", "d")) == [{"P-07", "proposal 7"}]
    assert linked(("MACHINE", "Rook", "d"), ("MACHINE", "Rooks", "d")) == [{"Rook", "Rooks"}]
    assert len(linked(("PERSON", "Heron", "d"), ("MACHINE", "Heron", "d"))) == 2


def test_an_entity_keeps_its_id_when_documents_are_added_and_has_another_for_another_user() -> None:
    few, more = make_items("1", {"a.md": NOTES["a.md"]}), make_items("1", NOTES)
    before = {e.name: e.entity_id for e in extract_entities(few, FakeNer(), [], no_progress)[0]}
    after = {e.name: e.entity_id for e in extract_entities(more, FakeNer(), [], no_progress)[0]}
    assert before.items() <= after.items()
    other = {e.entity_id for e in extract_entities(make_items("2", NOTES), FakeNer(), [], no_progress)[0]}
    assert not other & set(after.values())


def test_a_mention_at_other_bytes_or_shared_bytes_is_found() -> None:
    items = make_items("1", NOTES)
    entities, _, _ = extract_entities(items, FakeNer(), [], no_progress)
    assert misplaced_mentions(entities, items) == overlapping_mentions(entities) == []
    first = entities[0]
    moved = replace(first.mentions[0], byte_start=first.mentions[0].byte_start + 1)
    assert misplaced_mentions([replace(first, mentions=(moved,))], items)
    assert misplaced_mentions([first], make_items("2", NOTES)), "a chunk of another user"
    assert overlapping_mentions([*entities, replace(first, entity_id="again")])
