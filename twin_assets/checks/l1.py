"""L1 claims: about topics, shades, biography, salience, communities and the temporal graph.

Belongs here: one check a claim about memory in words, named as the claim; those that block say so.
Does not belong here: repairing anything.
"""

from collections.abc import Sequence

import dagster as dg

from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.biography import cited_texts, find_foreign, find_misplaced, find_untold_shades
from lpm_kernel.L1.communities import foreign_lines
from lpm_kernel.L1.memory_graph import differences
from lpm_kernel.L1.records import Biography, ChunkSalience, Community, Shade
from lpm_kernel.L1.shades import topics_without_a_shade
from lpm_kernel.L1.topics import not_just_once
from lpm_kernel.records import Chunk, Document, Fact, Topic
from twin_assets.assets import l1_graph, l1_mind
from twin_assets.checks.claim import claim
from twin_assets.resources import StoresResource


@claim(l1_mind.topics, reads=["chunks"])
def every_chunk_has_a_topic(
    context: dg.AssetCheckExecutionContext, topics: list[Topic], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """Each chunk is in exactly one topic."""
    return _each_in_one_place([chunk_id for topic in topics for chunk_id in topic.chunk_ids], chunks)


@claim(l1_mind.shades, reads=["topics", "chunks", "raw_documents"])
def every_topic_has_a_shade(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    shades: list[Shade],
    topics: list[Topic],
    chunks: list[Chunk],
    raw_documents: list[Document],
) -> dg.AssetCheckResult:
    """Each topic in which the user wrote something is in exactly one shade."""
    items = chunk_texts(chunks, fetch_texts(chunks, stores.stores.blobs))
    wrong = topics_without_a_shade(topics, shades, items, raw_documents)
    return dg.AssetCheckResult(
        passed=not wrong, metadata={"topics": len(topics), "shades": len(shades), "in_none_or_in_two": wrong[:10]}
    )


@claim(l1_mind.biography, reads=["shades"])
def biography_cites_every_shade(
    context: dg.AssetCheckExecutionContext, biography: Biography, shades: list[Shade]
) -> dg.AssetCheckResult:
    """Each shade is told by a line that cites one of its chunks; without a shade there is a reason and not one line."""
    untold = find_untold_shades(shades, biography)
    empty = not biography.lines and not biography.status
    explained = (biography.skipped is None) if shades else bool(biography.skipped) and empty
    return dg.AssetCheckResult(
        passed=not untold and explained,
        metadata={"shades": len(shades), "untold": untold, "skipped": biography.skipped or "no"},
    )


@claim(l1_mind.biography, reads=["shades", "chunks", "raw_documents"])
def every_citation_is_at_its_bytes(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    biography: Biography,
    shades: list[Shade],
    chunks: list[Chunk],
    raw_documents: list[Document],
) -> dg.AssetCheckResult:
    """Each line of the shades and of the biography stands, word for word, at the bytes it cites, within the chunk it names, and
    in a document that the user made."""
    texts = list(cited_texts(shades, biography))
    misplaced = find_misplaced(texts, chunks, fetch_texts(chunks, stores.stores.blobs))
    foreign = find_foreign(texts, raw_documents)
    return dg.AssetCheckResult(
        passed=not misplaced and not foreign,
        metadata={"lines": len(texts), "misplaced": misplaced[:10], "foreign": foreign[:10]},
    )


@claim(l1_graph.memory_graph)
def graph_holds_the_known_facts(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, memory_graph: list[Fact]
) -> dg.AssetCheckResult:
    """Of what the tables say, the graph holds every fact and no other."""
    lacking, surplus = differences(stores.stores.graph, context.partition_key, memory_graph)
    return dg.AssetCheckResult(
        passed=not lacking and not surplus,
        metadata={"facts": len(memory_graph), "lacking": lacking[:10], "surplus": surplus[:10]},
    )


@claim(l1_graph.salience, reads=["chunks"])
def every_chunk_has_a_salience(
    context: dg.AssetCheckExecutionContext, salience: list[ChunkSalience], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """Each chunk has exactly one, from 0 to 1."""
    return _each_in_one_place([row.chunk_id for row in salience if 0 <= row.salience <= 1], chunks)


@claim(l1_graph.communities, reads=["chunks"])
def every_chunk_has_a_community(
    context: dg.AssetCheckExecutionContext, communities: list[Community], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """Each chunk is in exactly one community, or in `misc`."""
    return _each_in_one_place([chunk_id for community in communities for chunk_id in community.chunk_ids], chunks)


@claim(l1_graph.communities, reads=["raw_documents", "chunks"])
def community_summaries_are_cited(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    communities: list[Community],
    raw_documents: list[Document],
    chunks: list[Chunk],
) -> dg.AssetCheckResult:
    """Each line of a community stands, word for word, at the bytes it cites, in a chunk of that community, in a document that
    the user made."""
    lines = [(line.text, (line.citation,)) for community in communities for line in community.lines]
    misplaced = find_misplaced(lines, chunks, fetch_texts(chunks, stores.stores.blobs))
    foreign = foreign_lines(communities, raw_documents)
    return dg.AssetCheckResult(
        passed=not misplaced and not foreign,
        metadata={"lines": len(lines), "misplaced": misplaced[:10], "foreign": foreign[:10]},
    )


def _each_in_one_place(placed: Sequence[str], chunks: Sequence[Chunk]) -> dg.AssetCheckResult:
    wrong = not_just_once(placed, [chunk.chunk_id for chunk in chunks])
    return dg.AssetCheckResult(
        passed=not wrong, metadata={"chunks": len(chunks), "placed": len(placed), "in_none_or_in_two": wrong[:10]}
    )
