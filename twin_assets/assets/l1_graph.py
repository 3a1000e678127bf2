"""The graph asset of L1: what is known of a user as facts in time.

Belongs here: `memory_graph`.
Does not belong here: memory in words (`l1_mind.py`).
"""

from collections import Counter

import dagster as dg

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L1.memory_graph import known_facts, project_facts
from lpm_kernel.records import Document, Entity, Fact, Release, sha256_hex
from lpm_kernel.stores.conversations import list_talks
from lpm_kernel.stores.releases import list_releases
from lpm_kernel.stores.users import get_user
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage


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
        user, releases = get_user(connection, user_id), list_releases(connection, user_id)
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
            "live_release": twin_release.release_id,
            "sample": dg.MetadataValue.md("\n".join(f"- {fact.text}" for fact in facts[:3])),
        },
        version=sha256_hex(encode_records(facts)),
    )
