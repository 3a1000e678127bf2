"""Notes of one invented person, what the earlier stages make of them, and rows of both.

Belongs here: what more than one test file of synthesis reads.
Does not belong here: assertions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L1.records import Biography, BiographyLine, CitedLine, Community
from lpm_kernel.L1.sentences import read_sentences
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.synthesize import Memory, SynthesisCount, synthesize_rows
from lpm_kernel.records import Citation, Entity, Evidence, Mention, User, sha256_hex
from lpm_kernel.settings import TrainingSettings
from tests.fakes import FakeEmbedder, no_progress
from tests.samples import make_document, make_items

NORA = User("1", "Nora Whitlock")
PEOPLE = ["Priya Raman", "Callum Doyle", "Tomasz Zielinski", "Hettie Lark", "Ray Pemberton"]
PLACES = ["Clevedon", "Bristol", "Bath", "Portishead", "London"]
NOTES = {
    f"note-{i}.md": (
        f"# Note {i}\n\n{PEOPLE[i % 5]} keeps the accounts of shed {i} in {PLACES[i % 5]}.\n\n"
        f"I bought {i + 2} clocks in {PLACES[i % 5]} on Friday. My brother Col lives in Nova Scotia near harbour {i}.\n\n"
        f"Gannet dropped {i + 3} plates in row {i} on Monday.\n\n"
        f"I am against P-{i + 10}, because it costs {i + 3} jobs. I prefer a table in shed {i} to a screen.\n\n"
        f"I repaired the clock number {i} with a spoon. I work in shed {i} with {PEOPLE[i % 5]}.\n"
    )
    for i in range(10)
}


@lru_cache(maxsize=1)
def items() -> list[ChunkText]:
    return make_items("1", NOTES, 24)


@lru_cache(maxsize=1)
def memory() -> Memory:
    """Preferences by the real rules; entities, one community and a biography by hand."""
    documents = [make_document("1", name, text.encode(), "read") for name, text in NOTES.items()]
    texts = {sha256_hex(text.encode()): text.encode() for text in NOTES.values()}
    sentences = list(read_sentences(items()))
    harbours = [s for s in sentences if s.text.startswith("My brother Col")]
    works = [s for s in sentences if s.text.startswith("I work in shed")]
    return Memory(
        communities=[
            Community(
                "c1", "col", ("Nova Scotia", "Col"), tuple(s.citation.chunk_id for s in harbours),
                tuple(CitedLine(s.text, s.citation) for s in harbours[:3]), 0.5, (1.0,),
            )
        ],
        entities=[
            *(entity(name, "PERSON", name) for name in PEOPLE),
            entity("Col", "PERSON", "brother Col"),
            *(entity(name, "GPE", name) for name in [*PLACES, "Nova Scotia"]),
        ],
        preferences=extract_preferences(documents, [item.chunk for item in items()], texts),
        biography=Biography(
            "1", tuple(BiographyLine("s", "shed", s.text, (s.citation,)) for s in works), None, (), None, "no date"
        ),
    )  # fmt: skip


def entity(name: str, kind: str, stands_as: str) -> Entity:
    """With a mention in each chunk that holds the words."""
    chunks = [item.chunk for item in items() if stands_as in item.text]
    mentions = [Mention(c.document_sha256, c.chunk_id, c.byte_start, c.byte_start + 1, name, "rules", 0.9) for c in chunks]
    return Entity(name, "1", name, kind, (), tuple(mentions))


def recall_neighbours(question: str) -> list[Evidence]:
    """Every chunk, those that share the most words with the question first."""
    asked = set(question.lower().split())
    ranked = sorted(items(), key=lambda item: (-len(asked & set(item.text.lower().split())), item.chunk.chunk_id))
    return [Evidence(citation_of(item), item.text, 0.5) for item in ranked[:8]]


def citation_of(item: ChunkText) -> Citation:
    chunk = item.chunk
    return Citation(chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_end)


def synthesize(
    training: TrainingSettings,
    *,
    of: Sequence[ChunkText] | None = None,
    known: Memory | None = None,
    user: User = NORA,
    topics: Any = (),
    golden: Any = None,
    count: Any = lambda messages: 0,
    recall: Any = recall_neighbours,
    enrich: Any = None,
    progress: Any = no_progress,
) -> tuple[list[TrainingRow], SynthesisCount]:
    chunks = items() if of is None else of
    known = memory() if known is None and of is None else known
    return synthesize_rows(user, chunks, topics, training, recall, count, FakeEmbedder(), golden, progress, known, enrich)


def notes_of(row: TrainingRow) -> list[str]:
    """The retrieved lines of a row's prompt."""
    _, _, lines = row.messages[0].content.partition("\nFrom your notes:\n")
    return [line.removeprefix("- ") for line in lines.split("\n") if line]
