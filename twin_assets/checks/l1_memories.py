"""L1 claims about `memories`: what the documents say of a person, as the memory store holds it.

Belongs here: one check a claim, named as the claim; those that block say so.
Does not belong here: claims about the stages it is made from.
"""

import dagster as dg

from lpm_kernel.L1.document_memories import differences, unsaid
from lpm_kernel.records import Document, Memory, VoiceProfile
from twin_assets.assets import l1_memories
from twin_assets.checks.claim import claim
from twin_assets.resources import StoresResource


@claim(l1_memories.memories, reads=["raw_documents", "voice_profile"])
def memory_holds_what_documents_say(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    memories: list[Memory],
    raw_documents: list[Document],
    voice_profile: VoiceProfile,
) -> dg.AssetCheckResult:
    """The store holds each of these memories and none of a document that is gone, and a memory tells each preference of the
    voice profile."""
    store = stores.stores.memories
    lacking, surplus = differences(store, context.partition_key, memories, raw_documents)
    lost = unsaid(store, voice_profile, raw_documents)
    return dg.AssetCheckResult(
        passed=not lacking and not surplus and not lost,
        metadata={"memories": len(memories), "lacking": lacking[:10], "surplus": surplus[:10], "lost": lost[:10]},
    )


@claim(l1_memories.memories, reads=["voice_profile"])
def one_voice_without_an_end(
    context: dg.AssetCheckExecutionContext, memories: list[Memory], voice_profile: VoiceProfile
) -> dg.AssetCheckResult:
    """A measured voice is one memory, of the highest importance and without an end; an unmeasured one is none."""
    voices = [memory for memory in memories if memory.kind == "voice"]
    sound = all(memory.importance == 1 and memory.expiration_date is None for memory in voices)
    return dg.AssetCheckResult(
        passed=sound and len(voices) == int(voice_profile.features is not None), metadata={"voices": len(voices)}
    )
