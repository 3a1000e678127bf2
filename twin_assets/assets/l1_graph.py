"""The graph assets of L1: what counts, what hangs together, and what is known of a user as facts in time.

Belongs here: `salience`, `communities`, `memory_graph`.
Does not belong here: topics, shades and biography (`l1_mind.py`).
"""

import time
from collections import Counter
from functools import partial

import dagster as dg

from lpm_kernel.artefacts import decode_record, decode_records, encode_record, encode_records, read_previous
from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.communities import CommunityHistory, find_communities
from lpm_kernel.L1.memory_graph import known_facts, project_facts
from lpm_kernel.L1.records import ChunkSalience, Community
from lpm_kernel.L1.salience import score_salience
from lpm_kernel.L1.topics import MISC
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Entity, Fact, Release, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.conversations import list_talks
from lpm_kernel.stores.releases import list_releases
from lpm_kernel.stores.users import get_user
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage
from twin_assets.tables import place, table

HISTORY = "community_history"
"""Ids that were ever given: a file beside the communities, read by nobody else."""


@stage(group="l1", io_manager_key="jsonl", code_version="1", kinds={"s3", "python"})
def salience(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    raw_documents: list[Document],
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    entities: list[Entity],
) -> Made:
    """How much each chunk counts beside the others, one row a chunk, from 0 to 1: how recent it is, over how many documents it
    recurs, how far its source is trusted; each part beside the number. Read by `communities` and `training_rows`."""
    port = stores.stores
    items = chunk_texts(chunks, fetch_texts(chunks, port.blobs))
    scored = score_salience(raw_documents, items, embeddings, entities, port.settings.salience)
    of = {item.chunk.chunk_id: item.chunk for item in items}
    highest = sorted(scored, key=lambda row: (-row.salience, row.chunk_id))
    return Made(
        scored,
        metadata={
            "mean_salience": sum(row.salience for row in scored) / max(1, len(scored)),
            "undated_chunks": sum(row.written is None for row in scored),
            "newest": max((row.written for row in scored if row.written), default="no date"),
            "sample": table(
                ("chunk", "salience", "recency", "recurrence", "trust"),
                [(place(of[row.chunk_id]), row.salience, row.recency, row.recurrence, row.trust) for row in highest[:3]],
            ),
        },
        version=sha256_hex(encode_records(scored)),
    )


@stage(group="l1", io_manager_key="jsonl", code_version="1", kinds={"s3", "networkx"})
def communities(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    raw_documents: list[Document],
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    entities: list[Entity],
    salience: list[ChunkSalience],
) -> Made:
    """What hangs together by what it names and means, one row a community: label, key entities, chunks, the user's own most
    central sentences with their bytes. Every chunk is in exactly one, or in `misc`. Read by `training_rows`, the profile and,
    through the release, by chats with broad questions."""
    port, user_id = stores.stores, context.partition_key
    items = chunk_texts(chunks, fetch_texts(chunks, port.blobs))
    previous = read_previous(port.blobs, user_id, "communities", "jsonl", partial(decode_records, record_type=Community))
    history = read_previous(port.blobs, user_id, HISTORY, "json", partial(decode_record, record_type=CommunityHistory))
    began = time.monotonic()
    found, state, count = find_communities(
        raw_documents, items, embeddings, entities, salience, port.settings.communities, previous or [], history
    )
    seconds = time.monotonic() - began
    TenantBlobs(port.blobs, user_id).put(asset_key(user_id, HISTORY, "json"), encode_record(state))
    named = [community for community in found if community.label != MISC]
    return Made(
        found,
        metadata={
            "communities": len(named),
            "largest_share": max((len(row.chunk_ids) for row in named), default=0) / max(1, len(chunks)),
            "misc_share": (len(chunks) - sum(len(row.chunk_ids) for row in named)) / max(1, len(chunks)),
            "without_a_line": sum(not row.lines for row in named),
            "modularity": count.modularity,
            "entities_in_graph": count.entities,
            "edges_in_graph": count.edges,
            "joined_to_stay_below_the_limit": count.joined,
            "ids_kept": count.ids_kept,
            "documents_per_second": len({chunk.document_sha256 for chunk in chunks}) / max(seconds, 1e-3),
            "sample": table(
                ("community", "key entities", "chunks", "salience", "line"),
                [
                    (row.label, ", ".join(row.key_entities[:3]), len(row.chunk_ids), row.salience, _first_line(row))
                    for row in named[:3]
                ],
            ),
        },
        version=sha256_hex(encode_records(found)),
    )


@stage(group="l1", io_manager_key="jsonl", code_version="2", kinds={"s3", "python"})
def memory_graph(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    raw_documents: list[Document],
    entities: list[Entity],
    twin_release: Release,
) -> Made:
    """What the temporal graph must hold of the user, one row a fact: who wrote which document, which policy topics it mentions,
    which twin they had from when (a newer one ends the one before), and when they talked with it until this run. Written to the
    graph, which chats can ask for the facts of the last 90 days."""
    port, user_id = stores.stores, context.partition_key
    with port.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        releases = [release for release in list_releases(connection, user_id) if release.status != "candidate"]
        talks = list_talks(connection, user_id)
    facts: list[Fact] = known_facts(user, raw_documents, releases, entities, talks)
    count, held = project_facts(port.graph, user_id, facts), port.graph.count(user_id)
    return Made(
        facts,
        metadata={
            "facts_written": count.written,
            "facts_kept": count.kept,
            "facts_forgotten": count.forgotten,
            "facts_in_graph": held.facts,
            "entities_in_graph": held.entities,
            **{f"facts_{relation.lower()}": number for relation, number in Counter(fact.relation for fact in facts).items()},
            "release": twin_release.release_id,
            "sample": dg.MetadataValue.md("\n".join(f"- {fact.text}" for fact in facts[:3])),
        },
        version=sha256_hex(encode_records(facts)),
    )


def _first_line(community: Community) -> str:
    return community.lines[0].text if community.lines else ""
