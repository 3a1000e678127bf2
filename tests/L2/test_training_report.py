"""The report counts what is there, shows a few rows of each kind, and cannot be broken by what a person wrote."""

from __future__ import annotations

from lpm_kernel.L2.records import RowRefusal
from lpm_kernel.L2.training_report import SAMPLES, as_markdown, count_all, report_rows
from lpm_kernel.records import Message, Topic
from tests.samples import make_row


def row(number: int, answer: str, kind: str = "self_qa"):
    messages = (Message("system", "You are Nora."), Message("user", f"What {number}?"), Message("assistant", answer))
    return make_row(f"row-{number}", messages, [f"chunk-{number % 2}"], kind=kind)  # type: ignore[arg-type]


ROWS = [*(row(i, "word " * (i + 1)) for i in range(12)), row(12, "a | b\n<script>", "preference")]
REFUSALS = [*(RowRefusal(f"r{i}", "self_qa", "golden") for i in range(2)), RowRefusal("r3", "refusal", "balance")]
TOPICS = [Topic("t", "cats", (), ("chunk-0",), ())]


def test_every_count_is_of_the_rows() -> None:
    report = report_rows(ROWS, REFUSALS, TOPICS)
    assert report.by_kind == {"self_qa": 12, "preference": 1}
    assert report.by_topic == {"cats": 7, "no topic": 6}
    assert report.answer_words == {"0-9": 10, "10-19": 3}
    assert report.refused == {"refusal": {"balance": 1}, "self_qa": {"golden": 2}}
    for counts in (report.by_kind, report.by_form, report.by_person, report.by_split, report.by_topic, report.answer_words):
        assert sum(counts.values()) == report.rows == len(ROWS)
    assert count_all(report)["drafts_refused"] == 3


def test_a_few_rows_of_each_kind_are_shown_and_always_the_same() -> None:
    report = report_rows(ROWS, REFUSALS, TOPICS)
    assert [sample.kind for sample in report.samples] == ["preference"] + ["self_qa"] * SAMPLES
    assert report_rows(ROWS[::-1], REFUSALS, TOPICS).samples == report.samples


def test_the_page_keeps_its_tables_whatever_was_written() -> None:
    page = as_markdown(report_rows(ROWS, REFUSALS, TOPICS))
    (line,) = [line for line in page.split("\n") if "script" in line]
    assert "a \\| b &lt;script>" in line
    assert "| self_qa | golden | 2 |" in page
    assert "No draft was refused." in as_markdown(report_rows(ROWS, [], TOPICS))
    assert report_rows([], [], []).rows == 0
