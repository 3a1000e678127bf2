"""Shades and biography: every aspect is told, in the user's own sentences, each at its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.artefacts import decode_record, decode_records, encode_record, encode_records
from lpm_kernel.L0.embed import ChunkText, embed_chunks
from lpm_kernel.L1.biography import cited_texts, find_misplaced, find_untold_shades, write_biography
from lpm_kernel.L1.records import Biography, Shade
from lpm_kernel.L1.sentences import is_all_of_others
from lpm_kernel.L1.shades import make_shades, topics_without_a_shade
from lpm_kernel.L1.topics import MISC, find_topics
from lpm_kernel.records import EmbeddingTable, Topic, sha256_hex
from lpm_kernel.settings import TopicSettings
from tests.fakes import FakeEmbedder, no_progress
from tests.L0.test_chunk import TEXTS
from tests.samples import make_document, make_items

RULES = TopicSettings(min_similarity=0.5, min_chunks=1, rebuild_share=0.3, shade_similarity=0.6)
NOTES = {
    "diary-2025-02.md": "# Sea\n\n## 9 February 2025\n\nI swam in the cold sea at Clevedon with Bev. "
    "The sea at Clevedon was 5.8 °C and I stayed in for four minutes.\n",
    "diary-2025-03.md": "# Sea\n\n## 2 March 2025\n\nI swam in the sea at Clevedon again, for nine minutes, with Bev.\n",
    "clocks.md": "The French clock was bought in September 2024. I oiled the French clock and its mainspring.\n",
    "lists.txt": "- onions\n- beans\n",
}


def made_from(notes: dict[str, str], rules: TopicSettings = RULES) -> tuple[list[ChunkText], EmbeddingTable, list[Topic]]:
    items = make_items("1", notes, 56)
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    return items, table, find_topics(items, table, rules)


def stored(notes: dict[str, str]) -> dict[str, bytes]:
    return {sha256_hex(text.encode()): text.encode() for text in notes.values()}


def misplaced(items: Sequence[ChunkText], shades: Sequence[Shade], biography: Biography, notes: dict[str, str]) -> list[str]:
    return find_misplaced(cited_texts(shades, biography), [item.chunk for item in items], stored(notes))


def test_every_topic_is_in_one_shade_and_every_shade_in_the_biography() -> None:
    """In an earlier system every outcome of merging shades, even "nothing to merge", handed the biography none at all; it was
    then written about nobody, and trained on."""
    items, table, topics = made_from(NOTES)
    for shade_similarity in (-1.0, 0.2, 0.6, 1.0):
        shades = make_shades(items, table, topics, shade_similarity)
        placed = [topic_id for shade in shades for topic_id in shade.topic_ids]
        assert sorted(placed) == sorted(topic.topic_id for topic in topics if topic.label != MISC)
        biography = write_biography("1", shades)
        assert {line.shade_id for line in biography.lines} == {shade.shade_id for shade in shades}
        assert find_untold_shades(shades, biography) == []
        assert misplaced(items, shades, biography, NOTES) == []
    assert len(make_shades(items, table, topics, -1.0)) == 1


@given(st.dictionaries(st.sampled_from(["a-2025-02.md", "b.txt", "c-2024.md"]), TEXTS.filter(str.strip), min_size=1))
def test_whatever_was_written_each_line_is_at_its_bytes_and_each_shade_is_told(notes: dict[str, str]) -> None:
    """One chunk of ten had a topic, nine had none, and nothing noticed. Here all are followed to the lines they are told in."""
    items = [item for item in make_items("1", notes, 24) if item.text.strip()]
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    topics = find_topics(items, table, RULES)
    assert sorted(c for topic in topics for c in topic.chunk_ids) == sorted(table.chunk_ids)
    shades = make_shades(items, table, topics, 0.6)
    biography = write_biography("1", shades)
    own = sorted(item.chunk.chunk_id for item in items if not is_all_of_others(item.text))
    assert sorted(c for shade in shades for c in shade.chunk_ids) == own
    assert all(shade.lines for shade in shades)
    assert find_untold_shades(shades, biography) == []
    assert misplaced(items, shades, biography, notes) == []


def test_a_topic_that_no_shade_holds_is_found() -> None:
    items, table, topics = made_from(NOTES)
    documents = [make_document("1", name, text.encode(), "read") for name, text in NOTES.items()]
    shades = make_shades(items, table, topics, 0.6, documents)
    assert topics_without_a_shade(topics, shades, items, documents) == []
    assert topics_without_a_shade(topics, shades[1:], items, documents) == sorted(shades[0].topic_ids)
    assert topics_without_a_shade(topics, [*shades, shades[0]], items, documents) == sorted(shades[0].topic_ids)
    twins = [replace(document, created_by="twin") for document in documents]
    assert topics_without_a_shade(topics, [], items, twins) == [], "of the twin's own words there is none"


def test_what_others_wrote_is_no_aspect_of_the_person() -> None:
    """A topic of quoted mails had no sentence of the person's, so the whole quotation was told as theirs."""
    notes = {
        "mail.txt": "> I adore opera.\n> I sing in the choir of the opera.\n",
        "bees.txt": "I keep bees behind the shed.\n",
    }
    items = make_items("1", notes, 56)
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    topics = find_topics(items, table, RULES)
    documents = [make_document("1", name, text.encode(), "read") for name, text in notes.items()]
    shades = make_shades(items, table, topics, 1.0, documents)
    assert [line.text for shade in shades for line in shade.lines] == ["I keep bees behind the shed."]
    assert topics_without_a_shade(topics, shades, items, documents) == []


def test_a_small_interest_is_told_beside_a_large_one() -> None:
    """Groups smaller than the root of the largest were dropped, and with them three real interests of 24 documents."""
    sea = {f"sea-{i}.md": f"I swam in the cold sea at Clevedon with Bev, swim {i} {i}.\n" for i in range(30)}
    notes = {**sea, "cat.md": "Our cat Pilchard ate the herring.\n", "cat2.md": "Our cat Pilchard ate herring again.\n"}
    items, table, topics = made_from(notes, RULES.model_copy(update={"min_chunks": 2}))
    biography = write_biography("1", make_shades(items, table, topics, 0.6))
    assert any("Pilchard" in line.text for line in biography.lines)


def test_the_timeline_is_dated_sorted_and_says_where_each_date_stands() -> None:
    items, table, topics = made_from(NOTES)
    (sea,) = [shade for shade in make_shades(items, table, topics, 0.6) if "Clevedon" in shade.lines[0].text]
    assert [(event.date, event.dated_by) for event in sea.timeline] == [
        ("2025-02-09", "heading"),
        ("2025-02-09", "heading"),
        ("2025-03-02", "heading"),
    ]
    (clock,) = [shade for shade in make_shades(items, table, topics, 0.6) if "clock" in shade.lines[0].text]
    assert clock.lines[0].text == "I oiled the French clock and its mainspring."
    assert [(event.date, event.dated_by) for event in clock.timeline] == [("2024-09", "sentence")]


def test_a_shade_keeps_its_id_while_its_largest_topic_lives() -> None:
    items, table, topics = made_from(NOTES)
    before = make_shades(items, table, topics, 0.6)
    assert make_shades(items, table, topics, 0.6) == before
    alone = make_shades(items, table, topics[:1], 0.6)
    assert alone[0].shade_id in {shade.shade_id for shade in before}
    assert len({shade.shade_id for shade in before}) == len(before)


def test_the_twins_own_words_are_never_told_as_the_users() -> None:
    items, table, topics = made_from(NOTES)
    clocks = sha256_hex(NOTES["clocks.md"].encode())
    documents = [make_document("1", name, text.encode(), "read") for name, text in NOTES.items()]
    twins = [replace(document, created_by="twin") for document in documents]
    shades = make_shades(items, table, topics, 0.6, [next(d for d in twins if d.sha256 == clocks), *documents[:2]])
    cited = {citation.document_sha256 for _, places in cited_texts(shades, write_biography("1", shades)) for citation in places}
    assert cited
    assert clocks not in cited
    assert make_shades(items, table, topics, 0.6, twins) == []


def test_status_is_what_was_written_last() -> None:
    items, table, topics = made_from(NOTES)
    biography = write_biography("1", make_shades(items, table, topics, 0.6))
    assert biography.as_of == "2025-03-02"
    assert [line.text for line in biography.status] == ["I swam in the sea at Clevedon again, for nine minutes, with Bev."]
    assert biography.status_skipped is None


def test_a_plan_for_years_ahead_is_not_what_was_written_last() -> None:
    """ "Written last" was counted from the newest heading: with a plan for 2040 in a file, nothing of this year was recent."""
    plan = "# Sea\n\n## 3 June 2040\n\nI want to swim in the sea at Clevedon with Bev for my birthday.\n"
    notes = {**NOTES, "plan.md": plan}
    items, table, topics = made_from(notes)
    documents = [make_document("1", name, text.encode(), "read") for name, text in notes.items()]
    shades = make_shades(items, table, topics, 0.6, documents)
    biography = write_biography("1", shades)
    assert biography.as_of == "2025-03-02"
    (planned,) = [event for shade in shades for event in shade.timeline if "birthday" in event.text]
    assert (planned.date, planned.written) == ("2040-06-03", None)


def test_a_message_is_dated_by_when_it_was_sent() -> None:
    items, table, topics = made_from({"msg.txt": "I swam in the cold sea at Clevedon with Bev.\n"})
    message = replace(
        make_document("1", "msg.txt", b"I swam in the cold sea at Clevedon with Bev.\n", "read"), source="telegram"
    )
    (shade,) = make_shades(items, table, topics, 0.6, [message])
    assert [(event.date, event.dated_by) for event in shade.timeline] == [("2026-03-01", "sent")]
    assert write_biography("1", [shade]).as_of == "2026-03-01"


@pytest.mark.parametrize("notes", [{"a.md": "- onions\n"}, {"a.md": "I swam in the cold sea at Clevedon.\n"}])
def test_without_shades_or_dates_the_reason_stands_there_and_nobody_is_made_up(notes: dict[str, str]) -> None:
    """Where no biography could be made, a sentence about a software engineer stood in for the person, and was trained on."""
    items, table, topics = made_from(notes)
    undated = write_biography("1", make_shades(items, table, topics, 0.6))
    assert (undated.skipped, undated.status, undated.as_of) == (None, (), None)
    assert undated.status_skipped

    items, table, topics = made_from(notes, RULES.model_copy(update={"min_chunks": 3}))
    assert [topic.label for topic in topics] == [MISC]
    nobody = write_biography("1", make_shades(items, table, topics, 0.6))
    assert (nobody.lines, nobody.status) == ((), ())
    assert nobody.skipped
    assert nobody.status_skipped


def test_shades_and_biography_come_back_from_their_files_as_they_were() -> None:
    items, table, topics = made_from(NOTES)
    shades = make_shades(items, table, topics, 0.6)
    biography = write_biography("1", shades)
    assert decode_records(encode_records(shades), Shade) == shades
    assert decode_record(encode_record(biography), Biography) == biography


def test_a_citation_that_is_off_by_a_byte_or_of_another_chunk_is_found() -> None:
    items, table, topics = made_from(NOTES)
    shades = make_shades(items, table, topics, 0.6)
    line = shades[0].lines[0]
    (place,) = line.citations
    foreign = next(item.chunk.chunk_id for item in items if item.chunk.document_sha256 != place.document_sha256)
    chunks = [item.chunk for item in items]
    for wrong in (
        replace(place, byte_end=place.byte_end - 1),
        replace(place, byte_start=place.byte_start + 1),
        replace(place, chunk_id=foreign),
        replace(place, chunk_id="gone"),
        replace(place, byte_end=10**9),
    ):
        assert len(find_misplaced([(line.text, (place,)), (line.text, (wrong,))], chunks, stored(NOTES))) == 1
    assert find_misplaced([(line.text, ())], chunks, stored(NOTES)) == ["a line without a citation"]


def test_a_demo_person_is_told_whole(request: pytest.FixtureRequest) -> None:
    """The 17 documents of one person, with the embedder of tests: every aspect told, most of it dated, in a few seconds."""
    folder = Path(request.config.rootpath) / "data" / "users" / "1"
    notes = {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.suffix in (".md", ".txt")}
    items, table, topics = made_from(notes, RULES.model_copy(update={"min_chunks": 3}))
    shades = make_shades(items, table, topics, 0.6)
    biography = write_biography("1", shades)
    assert len(shades) >= 2
    assert find_untold_shades(shades, biography) == []
    assert misplaced(items, shades, biography, notes) == []
    assert biography.as_of == "2026-02-01"
    dates = [event.date for shade in shades for event in shade.timeline]
    assert len(dates) >= 20
    assert dates == [date for shade in shades for date in sorted(event.date for event in shade.timeline)]
