"""Drafts of rows: what is asked and answered, of whom, with what shown; and the row a draft becomes.

Belongs here: the draft, how its lines are chosen among those retrieved, and fitting it into a training row.
Does not belong here: which questions there are (`asks.py`, ...), and what is refused (`row_gate.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from lpm_kernel.L2.frames import go_on, wrote
from lpm_kernel.L2.persons import in_third_person
from lpm_kernel.L2.prompt import DECLINE, twin_messages
from lpm_kernel.L2.records import Person, RowForm, RowKind, Split, TrainingRow
from lpm_kernel.L2.sampling import Ask
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS
from lpm_kernel.records import Citation, Evidence, Message, User, content_id

Recall = Callable[[str], Sequence[Evidence]]
"""A question to its retrieved lines, best first: the same search a live chat uses."""

RowTokens = Callable[[Sequence[Message]], int]
"""The tokens of a row, as training counts them."""

SHOWN: frozenset[RowForm] = frozenset({"grounded", "multi_turn"})
"""Forms whose prompt holds lines; a live chat's always does."""


@dataclass(frozen=True, slots=True)
class Draft:
    row_id: str
    kind: RowKind
    form: RowForm
    person: Person
    question: str
    lines: tuple[Evidence, ...]
    """What supports the answer, and what a prompt shows beside it, best first. The prompt of a `plain` row shows none."""
    answer: str
    history: tuple[Message, ...] = ()
    cited: tuple[Citation, ...] = ()
    """The exact bytes of the sentences in the answer; of a refusal none."""
    behind: tuple[Citation, ...] = ()
    """What the question or the history was made of, beside the answer."""
    split: Split = "train"


@dataclass(frozen=True, slots=True)
class Plan:
    """How an ask is to be asked."""

    ask: Ask
    form: RowForm
    split: Split
    refuses: bool = False
    """Asked where no line answers."""
    third: bool = False
    """Asked by somebody else, about the person by name, where the question can be turned."""
    after: Ask | None = None
    """Of a `multi_turn`: what was asked and answered before."""


def draft_row(user: User, name: str, plan: Plan, recall: Recall, allowed: Collection[str], seed: int) -> Draft:
    """The draft, with its lines as a live prompt would hold them: only chunks that are `allowed`."""
    ask = plan.ask
    turned = in_third_person(ask.question, name) if plan.third and name else None
    question = turned or ask.question
    if plan.after:
        question = go_on(question)
    answer = DECLINE if plan.refuses else wrote(name, ask.answer) if turned else ask.answer
    lines = [_whole(ask)]
    if plan.form in SHOWN:
        found = [line for line in recall(question) if line.citation.chunk_id in allowed]
        order = random.Random(f"{seed}:{question}")
        lines = _without(ask, found, order) if plan.refuses else _with(ask, found, order)
    history, behind = _history(plan)
    if plan.refuses:
        behind = (_whole(ask).citation, *behind)
    kind: RowKind = "refusal" if plan.refuses else ask.kind
    person: Person = "third" if turned else "first"
    return Draft(
        row_id=content_id(user.user_id, kind, plan.form, person, plan.split, question, answer)[:32],
        kind=kind,
        form=plan.form,
        person=person,
        question=question,
        lines=tuple(lines),
        answer=answer,
        history=history,
        cited=() if plan.refuses else ask.cited,
        behind=behind,
        split=plan.split,
    )


def fit_row(user: User, draft: Draft, row_tokens: RowTokens) -> TrainingRow | None:
    """The row; with fewer lines where all would be too long, and None where even that does not help."""
    needed = {citation.chunk_id for citation in draft.cited}
    shown = list(draft.lines) if draft.form in SHOWN else []
    while row_tokens(messages := _messages(user, draft, shown)) > MAX_ROW_TOKENS:
        spare = [line for line in shown if line.citation.chunk_id not in needed]
        if not spare:
            return None
        shown.remove(spare[-1])
    checksum = content_id(draft.kind, draft.form, draft.split, *(part for m in messages for part in (m.role, m.content)))
    beside = [*draft.behind, *(line.citation for line in shown if line.citation.chunk_id not in needed)]
    return TrainingRow(
        row_id=draft.row_id,
        kind=draft.kind,
        form=draft.form,
        person=draft.person,
        messages=messages,
        sources=(*draft.cited, *dict.fromkeys(beside)),
        split=draft.split,
        checksum=checksum,
        answer_sources=len(draft.cited),
    )


def _messages(user: User, draft: Draft, shown: Sequence[Evidence]) -> tuple[Message, ...]:
    return (*twin_messages(user, draft.question, shown, draft.history), Message("assistant", draft.answer))


def _history(plan: Plan) -> tuple[tuple[Message, ...], tuple[Citation, ...]]:
    if plan.after is None:
        return (), ()
    return (Message("user", plan.after.question), Message("assistant", plan.after.answer)), plan.after.cited


def _without(ask: Ask, found: Sequence[Evidence], order: random.Random) -> list[Evidence]:
    """The retrieved lines, but neither the answering chunk nor its neighbours; all of them where no note answers."""
    chunk = ask.item.chunk
    near = {(chunk.document_sha256, chunk.byte_start), (chunk.document_sha256, chunk.byte_end)} if ask.answer else set()
    lines = [
        line
        for line in found
        if not ask.answer
        or (
            line.citation.chunk_id != chunk.chunk_id
            and ask.answer not in " ".join(line.text.split())  # the same sentence may stand in two documents
            and (line.citation.document_sha256, line.citation.byte_end) not in near
            and (line.citation.document_sha256, line.citation.byte_start) not in near
        )
    ]
    return lines[: order.randint(2, max(2, len(lines)))]


def _with(ask: Ask, found: Sequence[Evidence], order: random.Random) -> list[Evidence]:
    """Some of the retrieved lines, and among them every chunk that the answer stands in."""
    by_id = {line.citation.chunk_id: line for line in found}
    lines = list(found[: order.randint(2, max(2, len(found)))])
    for own in reversed(_own(ask)):
        chunk_id = own.citation.chunk_id
        if not any(line.citation.chunk_id == chunk_id for line in lines):
            lines.append(by_id.get(chunk_id, own))
    spare = [line for line in lines if line.citation.chunk_id not in {own.citation.chunk_id for own in _own(ask)}]
    while len(lines) > max(len(found), 2) and spare:
        lines.remove(spare.pop())
    return lines


def _own(ask: Ask) -> list[Evidence]:
    """The chunks of the answer, one line each."""
    whole = _whole(ask)
    others = [item for item in ask.beside if item.chunk.chunk_id != whole.citation.chunk_id]
    return [whole, *(_whole(replace(ask, item=item)) for item in others)]


def _whole(ask: Ask) -> Evidence:
    chunk = ask.item.chunk
    citation = Citation(chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_end)
    return Evidence(citation, ask.item.text, 0.0)
