"""What the training rows are, in figures and samples, for whoever decides whether to learn from them.

Belongs here: counting rows and refusals, and the page a person reads.
Does not belong here: any judgement on a row (`row_gate.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lpm_kernel.L2.records import RowForm, RowKind, RowRefusal, TrainingRow
from lpm_kernel.L2.row_gate import question_of
from lpm_kernel.records import Topic, content_id

SAMPLES = 3
WORDS_A_BIN = 10


@dataclass(frozen=True, slots=True)
class RowSample:
    row_id: str
    kind: RowKind
    form: RowForm
    question: str
    answer: str
    sources: tuple[str, ...]
    """Places of the sentences in the answer: file and bytes."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    rows: int
    by_kind: dict[str, int]
    by_form: dict[str, int]
    by_person: dict[str, int]
    by_split: dict[str, int]
    by_topic: dict[str, int]
    """By label of the topic that the first source is of; `no topic` where it is of none."""
    answer_words: dict[str, int]
    """Rows by how many words their answer has, in bins such as `10-19`."""
    refused: dict[str, dict[str, int]]
    """Drafts and questions that became no row: by kind, then by reason."""
    samples: tuple[RowSample, ...]


def report_rows(rows: Sequence[TrainingRow], refusals: Sequence[RowRefusal], topics: Sequence[Topic]) -> TrainingReport:
    """Counts of everything, and a few rows of each kind, chosen by their ids: the same rows show the same samples."""
    label_of = {chunk_id: topic.label for topic in topics for chunk_id in topic.chunk_ids}
    refused: dict[str, Counter[str]] = {}
    for refusal in refusals:
        refused.setdefault(refusal.kind, Counter())[refusal.reason] += 1
    return TrainingReport(
        rows=len(rows),
        by_kind=_counted(row.kind for row in rows),
        by_form=_counted(row.form for row in rows),
        by_person=_counted(row.person for row in rows),
        by_split=_counted(row.split for row in rows),
        by_topic=_counted(label_of.get(_home(row), "no topic") for row in rows),
        answer_words=_binned(len(row.messages[-1].content.split()) for row in rows),
        refused={kind: dict(sorted(reasons.items())) for kind, reasons in sorted(refused.items())},
        samples=tuple(_sample(row) for row in _few_of_each(rows)),
    )


def as_markdown(report: TrainingReport) -> str:
    """The report as a page: counts side by side, refusals, samples."""
    parts = [f"**{report.rows} rows**"]
    for title, counts in (
        ("kind", report.by_kind),
        ("form", report.by_form),
        ("person", report.by_person),
        ("split", report.by_split),
        ("topic", report.by_topic),
        ("words in the answer", report.answer_words),
    ):
        parts.append(_table((title, "rows"), [(name, str(number)) for name, number in counts.items()]))
    refused = [(kind, reason, str(number)) for kind, reasons in report.refused.items() for reason, number in reasons.items()]
    parts.append(_table(("refused kind", "reason", "drafts"), refused) if refused else "No draft was refused.")
    samples = [(s.kind, s.form, s.question, s.answer, "; ".join(s.sources)) for s in report.samples]
    parts.append(_table(("kind", "form", "question", "answer", "cited"), samples))
    return "\n\n".join(parts)


def _home(row: TrainingRow) -> str:
    return row.sources[0].chunk_id if row.sources else ""


def _counted(values: Iterable[str]) -> dict[str, int]:
    """The most frequent first, names in order among equals."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _binned(lengths: Iterable[int]) -> dict[str, int]:
    bins = Counter(length // WORDS_A_BIN * WORDS_A_BIN for length in lengths)
    return {f"{low}-{low + WORDS_A_BIN - 1}": bins[low] for low in sorted(bins)}


def _few_of_each(rows: Sequence[TrainingRow]) -> list[TrainingRow]:
    of_kind: dict[str, list[TrainingRow]] = {}
    for row in rows:
        of_kind.setdefault(row.kind, []).append(row)
    return [
        row
        for kind in sorted(of_kind)
        for row in sorted(of_kind[kind], key=lambda row: content_id("sample", row.row_id))[:SAMPLES]
    ]


def _sample(row: TrainingRow) -> RowSample:
    cited = row.sources[: row.answer_sources]
    places = tuple(f"{source.filename} [{source.byte_start}, {source.byte_end})" for source in cited)
    return RowSample(row.row_id, row.kind, row.form, question_of(row), row.messages[-1].content, places)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str) -> str:
    """In one cell, whatever a person wrote."""
    return " ".join(value.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def count_all(report: TrainingReport) -> Mapping[str, int]:
    """The figures that plot from run to run."""
    return {
        "rows": report.rows,
        **{f"rows_{kind}": number for kind, number in report.by_kind.items()},
        **{f"form_{form}": number for form, number in report.by_form.items()},
        **{f"person_{person}": number for person, number in report.by_person.items()},
        "drafts_refused": sum(sum(reasons.values()) for reasons in report.refused.values()),
    }
