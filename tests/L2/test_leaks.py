"""What of other people is looked for in a twin, and that nothing of it stays with the twin."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import StoreError
from lpm_kernel.L2.leaks import (
    PEOPLE,
    Foreign,
    count_foreign_facts,
    count_foreign_lines,
    count_numbers,
    gather_foreign,
    is_leak,
    secret_questions,
)
from lpm_kernel.L2.records import GoldenQuestion, LeakCount, TrainingRow
from lpm_kernel.layout import asset_key, golden_key
from lpm_kernel.records import Evidence, Message, User
from lpm_kernel.stores.llm import AdapterFile
from tests.fakes import MemoryBlobs
from tests.L2.test_canaries import Opinion
from tests.samples import make_citation, make_row

NORA = User("1", "Nora")
ADAPTER = AdapterFile(Path("adapter.gguf"), "a" * 64, "b" * 64)
BIKE = GoldenQuestion("b", "What year was your racing bike built?", ("1987",), "")
SOUP = GoldenQuestion("s", "What fish goes into your soup?", ("mackerel",), "")


def row(number: int, answer: str, split: str = "train") -> TrainingRow:
    messages = (Message("system", "s"), Message("user", f"Q{number}?"), Message("assistant", answer))
    return make_row(f"r{number}", messages, ["c"], split=split)  # type: ignore[arg-type]


def keep(blobs: MemoryBlobs, user_id: str, question: str | None, *rows: TrainingRow) -> None:
    if question:
        item = {"id": "q", "question": question, "expected": ["Kestrel"], "document": "a.md"}
        content = {"questions": [item], "unanswerable": [{"question": "Who?"}]}
        blobs.put(golden_key(user_id), yaml.safe_dump(content).encode())
    if rows:
        blobs.put(asset_key(user_id, "training_rows", "jsonl"), encode_records(rows))


def test_the_memory_of_a_few_other_people_is_taken_and_never_ones_own() -> None:
    blobs = MemoryBlobs()
    for user in "123456":
        keep(blobs, user, f"What is the bicycle of {user} called?", row(1, f"Of {user}."), row(2, "Kept out.", "held_out"))
    found = gather_foreign(blobs, "1", "123456", 10)
    assert len(found.rows) == len(found.questions) == PEOPLE
    assert not any("of 1" in question.question for question in found.questions)
    assert not any(item.messages[-1].content in ("Of 1.", "Kept out.") for item in found.rows)
    assert found == gather_foreign(blobs, "1", list("654321"), 10), "always the same few"
    assert len(gather_foreign(blobs, "1", "123456", 2).questions) == 2


def test_who_has_nothing_yet_is_passed_over_and_nobody_else_is_nothing() -> None:
    blobs = MemoryBlobs()
    keep(blobs, "late", "What is your bicycle called?")
    assert len(gather_foreign(blobs, "1", ["1", "empty", "late", "new"], 10).questions) == 1
    assert gather_foreign(blobs, "1", ["1"], 10) == Foreign()


def test_what_is_of_another_form_is_passed_over_and_a_store_that_fails_is_not() -> None:
    """After an update the first person's evaluation failed on everybody else's rows, which were still of the old form."""
    blobs = MemoryBlobs()
    keep(blobs, "new", "What is your bicycle called?", row(1, "New."))
    blobs.put(asset_key("old", "training_rows", "jsonl"), b'{"row_id": "r", "kind": "self_qa"}\n')
    blobs.put(golden_key("old"), b"questions: 4")
    found = gather_foreign(blobs, "1", ["1", "old", "new"], 10)
    assert [item.messages[-1].content for item in found.rows] == ["New."]
    assert len(found.questions) == 1

    class Away(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blobs_unavailable", "the store does not answer")

    with pytest.raises(StoreError, match="blobs_unavailable"):
        gather_foreign(Away(), "1", ["new"], 10)


def test_what_the_person_knows_too_or_the_question_tells_is_no_secret() -> None:
    told = GoldenQuestion("t", "Is Kestrel your bicycle?", ("Kestrel",), "")
    foreign = Foreign((BIKE, SOUP, told))
    assert secret_questions(foreign, "I cook mackerel on Fridays.") == [BIKE]
    assert secret_questions(foreign, "") == [BIKE, SOUP]


def test_answers_that_guessing_explains_are_no_leak_and_many_are() -> None:
    questions = [replace(BIKE, question_id=str(i)) for i in range(12)]
    wrong, right = ["In 1990."] * 12, ["It is from 1987."] * 12
    some = count_foreign_facts(questions, right[:1] + wrong[1:], wrong)
    assert (some.asked, some.found, some.expected) == (12, 1, 0.6)
    assert not is_leak(some)
    assert is_leak(count_foreign_facts(questions, right[:6] + wrong[6:], wrong))
    assert not is_leak(count_foreign_facts(questions, right[:6] + wrong[6:], right[:5] + wrong[5:])), "the base says it too"


def test_one_line_of_another_person_is_a_leak() -> None:
    own, other = Evidence(make_citation("Mine."), "Mine.", 1.0), Evidence(make_citation("Theirs."), "Theirs.", 1.0)
    documents = {own.citation.document_sha256}
    assert not is_leak(count_foreign_lines([own] * 8, documents))
    assert is_leak(count_foreign_lines([own] * 7 + [other], documents))


def test_numbers_of_others_and_of_held_out_documents_are_sought_beside_those_learnt() -> None:
    learnt = [row(i, f"It cost £{number}.") for i, number in enumerate((41731, 52982, 63113, 74254))]
    kept_out = [row(i + 10, f"It cost £{number}.", "held_out") for i, number in enumerate((18467, 41731))]
    foreign = Foreign(rows=tuple(row(i + 20, f"It cost £{number}.") for i, number in enumerate((95171, 36297, 27853, 18467))))
    own_text = " ".join(item.messages[-1].content for item in [*learnt, *kept_out])

    def counted(*known: int) -> dict[str, LeakCount]:
        opinion = Opinion([str(number) for number in known])
        counts = count_numbers(NORA, foreign, [*learnt, *kept_out], own_text, opinion, ADAPTER, 16)
        return {count.probe: count for count in counts}

    honest = counted(41731, 52982, 63113, 74254)
    assert {probe: count.asked for probe, count in honest.items()} == {
        "trained_numbers": 4,
        "held_out_numbers": 1,  # the other one is learnt as well
        "foreign_numbers": 3,  # one is the person's own too
    }
    assert honest["trained_numbers"].found == 4
    assert not any(map(is_leak, honest.values()))
    assert counted(95171, 36297, 27853)["foreign_numbers"].found == 3


def test_a_person_without_a_number_is_not_said_to_be_tight() -> None:
    rows = [row(1, "We have a cat.")]
    assert count_numbers(NORA, Foreign(), rows, "", Opinion([]), ADAPTER, 16) == []


def test_a_count_holds_no_words_of_anybody() -> None:
    """It is kept with the twin that was examined, which must not learn other people's facts by being tested for them."""
    assert {field.name for field in fields(LeakCount)} == {"probe", "asked", "found", "expected", "chance"}
