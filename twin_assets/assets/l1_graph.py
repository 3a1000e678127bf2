"""The graph asset of L1: what is known of a user as facts in time.

Belongs here: `memory_graph`.
Does not belong here: memory in words (`l1_mind.py`).
"""

import dagster as dg

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L1.memory_graph import known_facts, project_facts
from lpm_kernel.records import Document, Fact, Release, sha256_hex
from lpm_kernel.stores.releases import list_releases
from lpm_kernel.stores.users import get_user
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage


@stage(group="l1", io_manager_key="jsonl", code_version="1", kinds={"s3", "python"})
def memory_graph(
    context: dg.AssetExecutionContext, stores: StoresResource, raw_documents: list[Document], twin_release: Release
) -> Made:
    """What the temporal graph must hold of the user, one row a fact: who wrote which document, and which twin they had from
    when; a newer twin ends the one before. Written to the graph, which chats can ask for the facts of the last 90 days."""
    port, user_id = stores.stores, context.partition_key
    with port.tables.transaction(user_id) as connection:
        user, releases = get_user(connection, user_id), list_releases(connection, user_id)
    facts: list[Fact] = known_facts(user, raw_documents, releases)
    count, held = project_facts(port.graph, user_id, facts), port.graph.count(user_id)
    return Made(
        facts,
        metadata={
            "facts_written": count.written,
            "facts_kept": count.kept,
            "facts_forgotten": count.forgotten,
            "facts_in_graph": held.facts,
            "entities_in_graph": held.entities,
            "live_release": twin_release.release_id,
            "sample": dg.MetadataValue.md("\n".join(f"- {fact.text}" for fact in facts[:3])),
        },
        version=sha256_hex(encode_records(facts)),
    )
