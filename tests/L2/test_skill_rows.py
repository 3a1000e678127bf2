from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.golden import Asked, holds_fact, parse_golden, too_close
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.skill_rows import NOTES, NotesPage, draw_skill_rows, read_notes
from lpm_kernel.stores.embedder import MiniLmEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.records import TrainingRow

PAGE = NotesPage(
    "Ann Dale",
    (
        "On 15 May 2014 I paid Bertil £1,240 for the boat, and the other 5 men laughed.",
        "My sister Anneke keeps her cat at 07:15 sharp on the scales, all 4.9 kilos.",
        "It rained in June.",
    ),
    (("What did you pay Bertil?", "I paid Bertil £1,240."), ("How heavy is the cat of Anneke?", "It is 4.9 kilos.")),
    ("What is Bertil's surname?",),
)


def shown(row: TrainingRow) -> str:
    return row.messages[0].content


def test_every_page_has_lines_and_each_answer_shares_words_with_one() -> None:
    for page in read_notes():
        assert len(page.lines) >= 5
        assert len(page.asked) >= 6
        assert len(page.untold) >= 2
        for _, answer in page.asked:
            words = set(re.findall(r"[\w£]+", answer.lower()))
            assert any(words & set(re.findall(r"[\w£]+", line.lower())) for line in page.lines), answer


def test_a_draw_is_the_same_for_a_seed_and_another_for_another() -> None:
    pages = read_notes()[:6]
    assert draw_skill_rows(pages, 3) == draw_skill_rows(pages, 3)
    assert draw_skill_rows(pages, 3) != draw_skill_rows(pages, 4)
    rows = draw_skill_rows(pages, 3)
    assert len({row.row_id for row in rows}) == len(rows)
    assert {row.split for row in rows} == {"train"}
    assert {row.kind for row in rows} == {"self_qa", "refusal"}


def test_an_answer_always_stands_in_the_lines_shown_whatever_numbers_and_names_were_drawn() -> None:
    """A number changed in the line and not in the answer would teach the twin to invent."""
    answered = changed = 0
    for seed in range(60):
        for row in draw_skill_rows([PAGE], seed):
            if row.kind == "refusal":
                assert row.messages[-1].content == DECLINE
                continue
            figure = re.search(r"£?\d[\d.,]*\d", row.messages[-1].content)
            assert figure
            assert re.search(rf"(?<![\d.,]){re.escape(figure[0])}(?![\d])", shown(row)), (row.messages[-1].content, shown(row))
            answered += 1
            changed += figure[0] not in ("£1,240", "4.9")
            name = re.search(r"paid (\w+) £", row.messages[-1].content)
            if name:
                assert name[1] in shown(row)
    assert answered == 120
    assert 20 < changed < 100


def test_a_number_is_changed_as_a_whole_word_and_stays_of_its_kind() -> None:
    """ "5" stood in "15", and the 15th of May became the 18th while its answer did not."""
    for seed in range(60):
        for row in draw_skill_rows([PAGE], seed):
            if "laughed" in shown(row):
                day, year = re.search(r"On (\d+) May (\d+) I", shown(row)).groups()  # type: ignore[union-attr]
                assert 10 <= int(day) <= 31
                assert 1950 <= int(year) <= 2026
            if "sharp" in shown(row):
                hour, minute = re.search(r"at (\d\d):(\d\d) sharp", shown(row)).groups()  # type: ignore[union-attr]
                assert int(hour) < 24
                assert int(minute) < 60


def test_what_no_line_answers_is_declined_also_where_its_line_was_taken_away() -> None:
    asked_and_declined = set()
    for seed in range(60):
        for row in draw_skill_rows([PAGE], seed):
            if row.kind == "refusal":
                asked_and_declined.add(row.messages[-2].content.split()[0:2][1])
                if "pay" in row.messages[-2].content:
                    assert "boat" not in shown(row)
    assert asked_and_declined == {"is", "did", "heavy"}


@pytest.mark.parametrize("user", ["1", "2"])
def test_no_fact_of_the_people_it_is_measured_on_is_taught(user: str) -> None:
    golden = parse_golden((NOTES.parent.parent / "golden" / f"{user}.yaml").read_bytes())
    asked = [pair for page in read_notes() for pair in page.asked]
    close = too_close([Asked(question, "") for question, _ in asked], golden, MiniLmEmbedder())
    told = [answer for (_, answer), near in zip(asked, close, strict=True) if near]
    assert [answer for answer in told if any(holds_fact(answer, question.expected) for question in golden.questions)] == []


def test_notes_out_of_order_are_refused_with_the_line(tmp_path: Path) -> None:
    for text in ("- a line of nobody", "@ Ann\n= an answer", "@ Ann\n? a question\n- a line", "@ Ann\n* what is this"):
        path = tmp_path / "notes.txt"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TrainingError, match=rf"line {len(text.splitlines())} of notes.txt") as caught:
            read_notes(path)
        assert caught.value.code == "skill_notes_invalid"
