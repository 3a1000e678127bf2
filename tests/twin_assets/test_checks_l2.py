"""L2 checks fail on what they are there to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save

from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import Adapter, TrainingRow
from lpm_kernel.layout import golden_key
from lpm_kernel.records import Citation, Message
from lpm_kernel.settings import Settings
from tests.samples import make_row
from tests.twin_assets.workbench import USER, Workbench
from twin_assets import checks


def row_of(bench: Workbench, position: int, question: str, answer: str, split: Any = "train") -> TrainingRow:
    messages = (Message("system", "You are Nora."), Message("user", question), Message("assistant", answer))
    chunk = bench.chunks[position]
    text = next(item.text for item in bench.items if item.chunk == chunk)
    source = Citation(
        chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_start + len(text.strip().encode())
    )
    kind = "refusal" if answer == DECLINE else "self_qa"
    return make_row(f"row-{question}", messages, kind=kind, split=split, sources=[source])


def test_an_answer_that_its_source_does_not_hold_is_found(bench: Workbench) -> None:
    def supported(row: TrainingRow) -> bool:
        return bench.passes(checks.rows_are_supported_by_their_sources, training_rows=[row], chunks=bench.chunks)

    assert supported(row_of(bench, 0, "What is your cat called?", "Our one-eyed cat is called Pilchard."))
    assert not supported(row_of(bench, 0, "What is your cat called?", "Our one-eyed cat is called Admiral."))
    assert supported(row_of(bench, 0, "Where is the key?", DECLINE))


def test_a_golden_question_in_the_rows_is_found(bench: Workbench) -> None:
    question = {"id": "q", "question": "What is your cat called?", "expected": ["Pilchard"], "document": "diary.md"}
    content = {"questions": [question], "unanswerable": [{"id": "u", "question": "What is your shoe size?"}]}

    def kept_out(asked: str, answer: str = "Our one-eyed cat is called Pilchard.") -> bool:
        rows = [row_of(bench, 0, asked, answer)]
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
            training_rows=[row_of(bench, position, "What?", "x", split)],
            chunks=bench.chunks,
        )
        for position in (0, len(bench.chunks) - 1)
        for split in ("train", "held_out")
    ]
    assert results.count(False) == 1, "of the two documents one is held out, and only a train row may not use it"


def test_a_sentence_of_a_held_out_document_in_the_words_of_a_train_row_is_found(bench: Workbench, settings: Settings) -> None:
    """By its citations such a row is clean: the sentence came in through another document's text or an answer worded anew."""
    bench.settings = settings.model_copy(update={"training": settings.training.model_copy(update={"held_out_share": 0.5})})
    check = checks.no_held_out_text_in_training
    texts = [item.text.strip() for item in bench.items]
    places = (0, len(texts) - 1)
    results = [
        bench.passes(check, training_rows=[row_of(bench, cited, "What?", texts[said])], chunks=bench.chunks)
        for cited, said in (places, places[::-1], (places[0], places[0]), (places[1], places[1]))
    ]
    assert results.count(True) == 1


def test_a_kind_without_a_row_is_told(bench: Workbench, settings: Settings) -> None:
    bench.settings = settings
    rows = [row_of(bench, 0, "What?", "x"), row_of(bench, 0, "Who?", DECLINE)]
    kinds: list[Any] = ["preference", "diversity", "context_enhance", "context_critic"]
    assert not bench.passes(checks.every_kind_has_rows, training_rows=rows)
    rows += [replace(rows[0], kind=kind) for kind in kinds]
    assert bench.passes(checks.every_kind_has_rows, training_rows=rows)
    held_out = [replace(row, split="held_out") if row.kind == "diversity" else row for row in rows]
    assert not bench.passes(checks.every_kind_has_rows, training_rows=held_out)


def test_a_kind_with_far_more_than_its_share_is_told(bench: Workbench, settings: Settings) -> None:
    bench.settings = settings
    own = [row_of(bench, 0, f"What {i}?", "x") for i in range(80)]
    refusals = [row_of(bench, 0, f"Who {i}?", DECLINE) for i in range(40)]
    assert bench.passes(checks.row_classes_are_balanced, training_rows=own + refusals[:16])
    assert not bench.passes(checks.row_classes_are_balanced, training_rows=own + refusals)


def test_weights_that_are_not_finite_or_never_moved_are_found(bench: Workbench) -> None:
    adapter = Adapter("a", "tenant/1/lora/a", "c", 1, "b", "r", 4, 8, (), 1, 7, (1.0,), 1.0, 1.0)

    def sound(up: float) -> bool:
        weights = {"q.lora_A.weight": np.ones((2, 2), np.float16), "q.lora_B.weight": np.full((2, 2), up, np.float16)}
        bench.blobs.put(adapter.key, save(weights))
        return bench.passes(checks.adapter_is_finite, lora_adapter=adapter)

    assert sound(0.5)
    assert not sound(0.0)
    assert not sound(float("nan"))


def test_an_adapter_that_is_what_it_began_with_was_not_trained(bench: Workbench) -> None:
    """With the skill adapter to begin with no matrix is zero, and an adapter that never learnt anything passed."""
    weights = {"q.lora_A.weight": np.ones((2, 2), np.float16), "q.lora_B.weight": np.full((2, 2), 0.5, np.float16)}
    moved = weights | {"q.lora_B.weight": np.full((2, 2), 0.25, np.float16)}
    for start in ("shared/skill/s.safetensors", "tenant/1/lora/parent"):
        adapter = Adapter("a", "tenant/1/lora/a", "c", 1, "b", "r", 4, 8, (), 1, 7, (1.0,), 1.0, 1.0, start_key=start)
        bench.blobs.put(start, save(weights))
        for trained, sound in ((weights, False), (moved, True)):
            bench.blobs.put(adapter.key, save(trained))
            assert bench.passes(checks.adapter_is_finite, lora_adapter=adapter) == sound
