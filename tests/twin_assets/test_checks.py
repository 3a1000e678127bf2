"""Each check fails on what it is there to find; a check that only ever passed would say nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from lpm_kernel.errors import StoreError
from lpm_kernel.L0.embed import ChunkText, embed_chunks, generation_of, vector_entries
from lpm_kernel.L1.biography import write_biography
from lpm_kernel.L1.records import Biography, Shade
from lpm_kernel.L1.shades import make_shades
from lpm_kernel.L1.topics import find_topics
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.layout import golden_key, text_key
from lpm_kernel.records import (
    ARMS,
    Adapter,
    Chunk,
    Citation,
    Document,
    EmbeddingTable,
    Evaluation,
    Message,
    Preference,
    Topic,
    TrainingRow,
    VoiceProfile,
)
from lpm_kernel.settings import Settings
from tests.fakes import FakeEmbedder, MemoryBlobs, MemoryVectors, no_progress
from tests.samples import make_document, make_items
from twin_assets import checks

USER = "1"
NOTES = {
    "diary.md": "Our one-eyed cat is called Pilchard.\n\nThe sea at Clevedon was 5.8 °C and I stayed in for four minutes.\n",
    "letter.txt": "Dear Col, the band plays in Victoria Park on Sunday, and I have the cornet part.\n",
}


def body(check: Any) -> Callable[..., dg.AssetCheckResult]:
    """The function under Dagster's decorator."""
    return check.node_def.compute_fn.decorated_fn


@dataclass
class Workbench:
    """One user's artefacts as the stages would leave them, in stores of memory."""

    settings: Settings
    documents: list[Document]
    items: list[ChunkText]
    table: EmbeddingTable
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    vectors: MemoryVectors = field(default_factory=MemoryVectors)
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)

    @property
    def chunks(self) -> list[Chunk]:
        return [item.chunk for item in self.items]

    def passes(self, check: Any, *, stores: bool = True, **inputs: Any) -> bool:
        context = SimpleNamespace(partition_key=USER, retry_number=0)
        resources = {"stores": SimpleNamespace(stores=self)} if stores else {}
        return bool(body(check)(context, **resources, **inputs).passed)


@pytest.fixture
def bench(settings: Settings) -> Workbench:
    items = make_items(USER, NOTES, 24)
    documents = [make_document(USER, name, text.encode(), "read") for name, text in NOTES.items()]
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    bench = Workbench(settings, documents, items, table)
    for document in documents:
        bench.blobs.put(text_key(USER, document.sha256), NOTES[document.filename].encode())
    bench.vectors.sync(USER, generation_of(table), vector_entries(items, table), table.fingerprint)
    return bench


def test_a_byte_that_no_chunk_covers_is_found(bench: Workbench) -> None:
    def covered(chunks: list[Chunk]) -> bool:
        return bench.passes(checks.chunks_cover_every_byte, chunks=chunks, raw_documents=bench.documents)

    assert covered(bench.chunks)
    assert not covered(bench.chunks[1:])
    assert not covered([replace(bench.chunks[0], byte_start=1), *bench.chunks[1:]])
    bench.blobs.put(text_key(USER, bench.documents[0].sha256), NOTES["diary.md"].replace("cat", "dog").encode())
    assert not covered(bench.chunks), "the text under the chunks is another one by now"


def test_a_vector_that_is_not_of_unit_length_or_not_searchable_is_found(bench: Workbench) -> None:
    def sound(table: EmbeddingTable) -> bool:
        return bench.passes(checks.vectors_are_unit_and_searchable, embeddings=table)

    assert sound(bench.table)
    assert not sound(replace(bench.table, vectors=bench.table.vectors * np.float32(1.01)))
    bench.vectors.sync(USER, generation_of(bench.table), [], bench.table.fingerprint)
    assert not sound(bench.table)


def test_a_preference_that_the_user_did_not_write_is_found(bench: Workbench) -> None:
    """One set on other bytes, one in words that stand nowhere, and one of a document that the twin wrote."""
    diary = bench.documents[0]
    chunk = bench.chunks[0]
    words = "Our one-eyed cat is called Pilchard."
    place = Citation(chunk.chunk_id, diary.sha256, diary.filename, 0, len(words))
    sound = Preference("p", words, "cat", "attitude", "for", 0.6, place)

    def own(item: Preference, documents: list[Document] = bench.documents) -> bool:
        profile = VoiceProfile(USER, {"documents": 2}, None, "voice_too_little_text", (item,))
        return bench.passes(
            checks.preferences_stand_in_the_users_own_text,
            voice_profile=profile,
            raw_documents=documents,
            chunks=bench.chunks,
        )

    assert own(sound)
    assert not own(replace(sound, text="Our cat is called Admiral."))
    assert not own(replace(sound, citation=replace(place, byte_end=len(words) - 3)))
    assert not own(replace(sound, citation=replace(place, document_sha256="0" * 64)))
    assert not own(sound, [replace(diary, created_by="twin"), *bench.documents[1:]])


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
    def placed(biography: Biography, of: list[Shade]) -> bool:
        inputs = {"biography": biography, "shades": of, "chunks": bench.chunks}
        return bench.passes(checks.every_citation_is_at_its_bytes, **inputs)

    whole = write_biography(USER, shades)
    assert placed(whole, shades)
    invented = replace(whole.lines[0], text="I am a software engineer.")
    assert not placed(replace(whole, lines=(invented,)), shades)
    assert not placed(replace(whole, status=(invented,)), shades)
    assert not placed(whole, [replace(shades[0], lines=(invented,)), *shades[1:]])
    assert not placed(replace(whole, lines=(replace(whole.lines[0], citations=()),)), shades)


def make_row(bench: Workbench, position: int, question: str, answer: str, split: Any = "train") -> TrainingRow:
    messages = (Message("system", "You are Nora."), Message("user", question), Message("assistant", answer))
    source = bench.chunks[position].chunk_id
    return TrainingRow(f"row-{question}", "refusal" if answer == DECLINE else "recall", messages, (source,), split, "")


def test_an_answer_that_its_source_does_not_hold_is_found(bench: Workbench) -> None:
    def supported(row: TrainingRow) -> bool:
        return bench.passes(checks.rows_are_supported_by_their_sources, training_rows=[row], chunks=bench.chunks)

    assert supported(make_row(bench, 0, "What is your cat called?", "Our one-eyed cat is called Pilchard."))
    assert not supported(make_row(bench, 0, "What is your cat called?", "Our one-eyed cat is called Admiral."))
    assert supported(make_row(bench, 0, "Where is the key?", DECLINE))


def test_a_golden_question_in_the_rows_is_found(bench: Workbench) -> None:
    question = {"id": "q", "question": "What is your cat called?", "expected": ["Pilchard"], "document": "diary.md"}
    content = {"questions": [question], "unanswerable": [{"id": "u", "question": "What is your shoe size?"}]}

    def kept_out(asked: str, answer: str = "Our one-eyed cat is called Pilchard.") -> bool:
        rows = [make_row(bench, 0, asked, answer)]
        return bench.passes(checks.no_golden_question_in_training, training_rows=rows)

    assert kept_out("What is your cat called?"), "nobody gave a golden set yet"
    bench.blobs.put(golden_key(USER), yaml.safe_dump(content).encode())
    assert not kept_out("What is your cat called?")
    assert not kept_out("How is the cat called?")
    assert not kept_out("What is your shoe size?", DECLINE)
    assert kept_out("Where does the band play?")


def test_a_line_of_a_held_out_document_in_a_train_row_is_found(bench: Workbench, settings: Settings) -> None:
    bench.settings = settings.model_copy(update={"training": settings.training.model_copy(update={"held_out_share": 0.5})})
    results = [
        bench.passes(
            checks.no_held_out_text_in_training,
            training_rows=[make_row(bench, position, "What?", "x", split)],
            chunks=bench.chunks,
        )
        for position in (0, len(bench.chunks) - 1)
        for split in ("train", "held_out")
    ]
    assert results.count(False) == 1, "of the two documents one is held out, and only a train row may not use it"


def test_weights_that_are_not_finite_or_never_moved_are_found(bench: Workbench) -> None:
    adapter = Adapter("a", "tenant/1/lora/a", "c", 1, "b", "r", 4, 8, (), 1, 7, (1.0,), 1.0, 1.0)

    def sound(up: float) -> bool:
        weights = {"q.lora_A.weight": np.ones((2, 2), np.float16), "q.lora_B.weight": np.full((2, 2), up, np.float16)}
        bench.blobs.put(adapter.key, save(weights))
        return bench.passes(checks.adapter_is_finite, lora_adapter=adapter)

    assert sound(0.5)
    assert not sound(0.0)
    assert not sound(float("nan"))


def make_evaluation(base: int, adapter: int, in_pack: int, questions: int = 10, source: Any = "golden") -> Evaluation:
    correct = dict.fromkeys(ARMS, 0) | {"base+retrieval": base, "adapter+retrieval": adapter}
    return Evaluation(source, questions, correct, in_pack, 0, dict.fromkeys(ARMS, 0), (), "g", "gguf", "base", 1.0)


def test_a_twin_that_knows_less_than_the_base_with_the_same_lines_is_found(bench: Workbench) -> None:
    def better(report: Evaluation) -> bool:
        return bench.passes(checks.release_beats_base_with_retrieval, stores=False, evaluation=report)

    assert better(make_evaluation(3, 5, 9))
    assert not better(make_evaluation(5, 3, 9))
    assert not better(make_evaluation(0, 0, 0, questions=0)), "nothing was asked, so nothing is shown"


def test_lines_that_hold_too_few_facts_are_found(bench: Workbench) -> None:
    def rich(report: Evaluation) -> bool:
        return bench.passes(checks.pack_holds_nine_facts_of_ten, stores=False, evaluation=report)

    assert rich(make_evaluation(0, 0, 9))
    assert not rich(make_evaluation(0, 0, 8))
    assert rich(make_evaluation(0, 0, 0, source="held_out"))


def test_a_store_that_does_not_answer_a_check_is_asked_again_and_says_why(bench: Workbench) -> None:
    """A check that could not look failed the run at once, and nothing started it anew."""

    class Down(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blob_store", "S3 did not answer")

    bench.blobs = Down()
    with pytest.raises(dg.RetryRequested):
        bench.passes(checks.chunks_cover_every_byte, chunks=bench.chunks, raw_documents=bench.documents)
