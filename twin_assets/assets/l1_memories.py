"""The memory asset of L1: what the documents say of a person, in Mem0.

Belongs here: `memories`.
Does not belong here: what is remembered of chats (`recall/write_gate.py`) and the purge of what expired (`schedules.py`).
"""

from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.L1.document_memories import sync_document_memories
from lpm_kernel.records import Document, VoiceProfile, content_id
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage
from twin_assets.tables import table

SAMPLE = 5


@stage(group="l1", io_manager_key="jsonl", code_version="1", kinds={"s3", "postgres"})
def memories(
    context: dg.AssetExecutionContext, stores: StoresResource, raw_documents: list[Document], voice_profile: VoiceProfile
) -> Made:
    """What the user's documents let the twin remember, one row a memory: each preference with the bytes it stands on, and one
    of how they write, of the highest importance and without an end. The same in Mem0, beside what was said in chats."""
    port = stores.stores
    held, count = sync_document_memories(port.memories, voice_profile, raw_documents, port.settings.gate, datetime.now(UTC))
    shown = sorted(held, key=lambda memory: (-memory.importance, memory.memory_id))[:SAMPLE]
    return Made(
        held,
        metadata={
            "memories_written": count.written,
            "memories_kept": count.kept,
            "memories_repeated": count.repeated,
            "memories_superseded": count.superseded,
            "memories_removed": count.removed,
            "memories_refused": count.refused,
            "no_voice_because": voice_profile.absent or "",
            "sample": table(
                ("kind", "domain", "importance", "text"), [(m.kind, m.domain, m.importance, m.text) for m in shown]
            ),
        },
        version=content_id(*(memory.memory_id for memory in held)),
    )
