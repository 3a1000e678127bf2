"""L1 checks fail on what they are there to find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpm_kernel.L1.biography import write_biography
from lpm_kernel.L1.communities import find_communities
from lpm_kernel.L1.records import Biography, ChunkSalience, Community, Shade
from lpm_kernel.L1.salience import score_salience
from lpm_kernel.L1.shades import make_shades
from lpm_kernel.L1.topics import find_topics
from lpm_kernel.records import Document, Topic, VoiceProfile
from tests.samples import make_memory_of
from tests.twin_assets.workbench import USER, Workbench
from twin_assets import checks


def test_a_chunk_in_no_topic_or_in_two_is_found(bench: Workbench) -> None:
    ids = [chunk.chunk_id for chunk in bench.chunks]

    def placed(*groups: list[str]) -> bool:
        topics = [Topic(str(i), "", (), tuple(group), ()) for i, group in enumerate(groups)]
        return bench.passes(checks.every_chunk_has_a_topic, stores=False, topics=topics, chunks=bench.chunks)

    assert placed(ids[:1], ids[1:])
    assert not placed(ids[1:])
    assert not placed(ids, ids[:1])


@pytest.fixture
def shades(bench: Workbench) -> list[Shade]:
    rules = bench.settings.topics.model_copy(update={"min_chunks": 1, "min_similarity": 0.9})
    made = make_shades(bench.items, bench.table, find_topics(bench.items, bench.table, rules), 1.0)
    assert len(made) >= 2
    return made


def test_a_topic_that_no_shade_tells_is_found(bench: Workbench, shades: list[Shade]) -> None:
    """Every outcome of merging shades once handed on none at all; what follows a stage cannot miss what never reached it."""
    rules = bench.settings.topics.model_copy(update={"min_chunks": 1, "min_similarity": 0.9})
    topics = find_topics(bench.items, bench.table, rules)

    def told(of: list[Shade]) -> bool:
        inputs = {"shades": of, "topics": topics, "chunks": bench.chunks, "raw_documents": bench.documents}
        return bench.passes(checks.every_topic_has_a_shade, **inputs)

    assert told(shades)
    assert not told(shades[1:])
    assert not told([*shades, shades[0]])


def test_a_shade_that_the_biography_does_not_tell_is_found(bench: Workbench, shades: list[Shade]) -> None:
    def told(biography: Biography, of: list[Shade]) -> bool:
        return bench.passes(checks.biography_cites_every_shade, stores=False, biography=biography, shades=of)

    whole, nobody = write_biography(USER, shades), write_biography(USER, [])
    assert told(whole, shades)
    assert not told(replace(whole, lines=whole.lines[1:]), shades)
    foreign = replace(whole.lines[0], citations=whole.lines[-1].citations)
    assert not told(replace(whole, lines=(foreign, *whole.lines[1:])), shades), "it cites another shade's chunk"
    assert not told(replace(whole, skipped="no reason"), shades)
    assert told(nobody, [])
    assert not told(replace(nobody, skipped=None), []), "nothing is told and nobody says why"
    assert not told(replace(nobody, lines=whole.lines), []), "a persona out of nowhere"


def test_a_line_that_does_not_stand_at_its_bytes_is_found(bench: Workbench, shades: list[Shade]) -> None:
    def placed(biography: Biography, of: list[Shade], documents: list[Document] = bench.documents) -> bool:
        inputs = {"biography": biography, "shades": of, "chunks": bench.chunks, "raw_documents": documents}
        return bench.passes(checks.every_citation_is_at_its_bytes, **inputs)

    whole = write_biography(USER, shades)
    assert placed(whole, shades)
    assert not placed(whole, shades, [replace(document, created_by="twin") for document in bench.documents])
    invented = replace(whole.lines[0], text="I am a software engineer.")
    assert not placed(replace(whole, lines=(invented,)), shades)
    assert not placed(replace(whole, status=(invented,)), shades)
    assert not placed(whole, [replace(shades[0], lines=(invented,)), *shades[1:]])
    assert not placed(replace(whole, lines=(replace(whole.lines[0], citations=()),)), shades)


def test_a_chunk_without_a_salience_is_found(bench: Workbench) -> None:
    def scored(rows: list[ChunkSalience]) -> bool:
        return bench.passes(checks.every_chunk_has_a_salience, stores=False, salience=rows, chunks=bench.chunks)

    rows = score_salience(bench.documents, bench.items, bench.table, [], bench.settings.salience)
    assert scored(rows)
    assert not scored(rows[1:])
    assert not scored([*rows, rows[0]])
    assert not scored([replace(rows[0], salience=1.5), *rows[1:]])


@pytest.fixture
def communities(bench: Workbench) -> list[Community]:
    rules = bench.settings.communities.model_copy(update={"min_chunks": 1})
    return find_communities(bench.documents, bench.items, bench.table, [], [], rules)[0]


def test_a_chunk_in_no_community_or_in_two_is_found(bench: Workbench, communities: list[Community]) -> None:
    def placed(of: list[Community]) -> bool:
        return bench.passes(checks.every_chunk_has_a_community, stores=False, communities=of, chunks=bench.chunks)

    assert placed(communities)
    assert not placed(communities[1:])
    assert not placed([*communities, communities[0]])


def test_a_line_of_a_community_that_the_user_did_not_write_there_is_found(
    bench: Workbench, communities: list[Community]
) -> None:
    def cited(of: list[Community], documents: list[Document] = bench.documents) -> bool:
        inputs = {"communities": of, "raw_documents": documents, "chunks": bench.chunks}
        return bench.passes(checks.community_summaries_are_cited, **inputs)

    first = next(community for community in communities if community.lines)
    assert cited([first])
    line = first.lines[0]
    invented = replace(line, text="I am a software engineer.")
    beside = replace(line, citation=replace(line.citation, byte_start=line.citation.byte_start + 1))
    assert not cited([replace(first, lines=(invented,))])
    assert not cited([replace(first, lines=(beside,))])
    assert not cited([replace(first, chunk_ids=("another",))]), "a line from outside the community"
    assert not cited([first], [replace(document, created_by="twin") for document in bench.documents])


@pytest.mark.parametrize(
    ("voices", "measured", "sound"),
    [
        ([1.0], True, True),
        ([], False, True),
        ([], True, False),
        ([1.0], False, False),
        ([0.9], True, False),
        ([1.0, 1.0], True, False),
    ],
)
def test_a_voice_that_is_missing_doubled_or_of_little_weight_is_found(
    bench: Workbench, voices: list[float], measured: bool, sound: bool
) -> None:
    profile = VoiceProfile(USER, {}, {"words": 1.0} if measured else None, None if measured else "too little", ())
    held = [make_memory_of(USER, f"Writes {i}", kind="voice", importance=importance) for i, importance in enumerate(voices)]
    inputs = {"memories": held, "voice_profile": profile}
    assert bench.passes(checks.one_voice_without_an_end, stores=False, **inputs) is sound
