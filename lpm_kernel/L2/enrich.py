"""Drafts in better words: a writer rewords their questions and answers, and what it says is held against the lines.

Belongs here: which part of a draft is written anew, and what of it is accepted.
Does not belong here: the requests (`write_prompts.py`), sending them (`llm_items.py`), comparing words (`support.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from lpm_kernel.L2.drafts import Draft
from lpm_kernel.L2.frames import JUDGING_WORDS
from lpm_kernel.L2.persons import first_name
from lpm_kernel.L2.prompt import as_line
from lpm_kernel.L2.records import RowRefusal
from lpm_kernel.L2.write_prompts import Reworded, Rewritten, Told, form_of, write_messages
from lpm_kernel.llm_items import CallCache, Dropped, Item, write_as_set
from lpm_kernel.records import Citation, Evidence, User, VoiceProfile
from lpm_kernel.settings import Settings
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.writer import Writer
from lpm_kernel.support import find_flaw, read_claims

MAX_QUESTION_WORDS = 30
MAX_TOLD_WORDS = 60
"""As many as the tokens of an answer that the gate lets pass."""
GROWTH = 2
"""An answer in other words is at most so many times as long, and may always have SHORT_WORDS."""
SHORT_WORDS = 12

MIN_PART_WORDS = 3
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+")
_QUOTED = re.compile(r"[“\"]([^”\"]+)[”\"]")


def enrich_drafts(
    drafts: Sequence[Draft],
    user: User,
    voice: VoiceProfile | None,
    writer: Writer | None,
    cache: CallCache,
    settings: Settings,
    progress: Progress,
) -> tuple[list[Draft], list[RowRefusal]]:
    """The same drafts, by the same ids and in the same order, with what the writer said in place of what passed no judgement.

    A part that is refused, or was never written, stays as it was, and the refusal says by the draft's id why. The new answer of
    a draft may say only what the lines say that its old answer is taken from. What no draft asked for leaves the cache; without
    a writer that is all of it, and every draft stays as it is.
    Raises: LlmError when the writer cannot be asked at all: a run that was to be written does not quietly go without.
    """
    if writer is None:
        cache.drop_unused()
        return list(drafts), []
    items = [
        Item(draft.row_id, write_messages(draft, user, voice), form_of(draft), settings.writing.max_tokens) for draft in drafts
    ]
    results = write_as_set(items, writer, cache, settings, progress)
    enriched: list[Draft] = []
    refusals: list[RowRefusal] = []
    for draft, item, result in zip(drafts, items, results, strict=True):
        assert result.item_id == draft.row_id
        if isinstance(result, Dropped):
            enriched.append(draft)
            refusals.append(RowRefusal(draft.row_id, draft.kind, f"not written: {result.code} after {result.tries} tries"))
            continue
        assert item.form is not None
        written = item.form.model_validate_json(result.text)
        accepted, reasons = judge_written(draft, written, user)
        enriched.append(accepted)
        refusals += [RowRefusal(draft.row_id, draft.kind, reason) for reason in reasons]
    cache.drop_unused()
    return enriched, refusals


def judge_written(draft: Draft, written: object, user: User) -> tuple[Draft, list[str]]:
    """The draft with each written part that passes, and why others do not."""
    accepted, reasons = draft, []
    if isinstance(written, Reworded | Rewritten):
        question = " ".join(written.question.split())
        if reason := _question_flaw(draft, question, user):
            reasons.append(f"written question {reason}")
        else:
            accepted = replace(accepted, question=question)
    if isinstance(written, Rewritten | Told):
        answer = " ".join(written.answer.split())
        reason = _told_flaw(draft, answer) if isinstance(written, Told) else _answer_flaw(draft, answer)
        if reason:
            reasons.append(f"written answer {reason}")
        elif answer != draft.answer:
            accepted = replace(accepted, answer=answer, cited=_cited(draft))
    return accepted, reasons


def _question_flaw(draft: Draft, question: str, user: User) -> str | None:
    old, new, answer = read_claims(draft.question), read_claims(question), read_claims(draft.answer)
    spoken_to = {"you", "your", "yours"}
    name = read_claims(first_name(user.name or "")).words
    if not question.endswith("?") or len(question.split()) > MAX_QUESTION_WORDS:
        return "is no short question"
    if question.casefold() == draft.question.casefold():
        return "is the one it was made from"
    if not new.numbers <= old.numbers or not new.names <= old.words:
        return "names what the first did not"
    if draft.kind != "refusal" and new.stems & (answer.stems - old.stems):
        return "gives the answer away"
    if old.stems and not new.stems & old.stems:
        return "asks about something else"
    if old.negated != new.negated or old.words.isdisjoint(spoken_to) != new.words.isdisjoint(spoken_to):
        return "asks something else"
    if name <= old.words and not name <= new.words:
        return "is about somebody else"
    return None


def _answer_flaw(draft: Draft, answer: str) -> str | None:
    old, new, question = read_claims(draft.answer), read_claims(answer), read_claims(draft.question)
    if not answer or len(answer.split()) > max(SHORT_WORDS, GROWTH * len(draft.answer.split())):
        return "is empty or too long"
    if flaw := find_flaw(answer, [*_grounds(draft), draft.question]):
        return f"holds a {flaw} that its lines do not"
    if old.negated != new.negated:
        return "turns a yes into a no, or a no into a yes"
    told = (old.numbers | old.names) - question.numbers - question.words
    if told:
        kept = told & (new.numbers | new.words)
        lost = 2 * len(kept) < len(told)
    else:
        facts = old.stems - question.stems
        lost = bool(facts) and not facts & new.stems
    return "loses the fact" if lost else None


def _told_flaw(draft: Draft, answer: str) -> str | None:
    """Of a text that is made from a request and lines: it must use both."""
    if not answer or len(answer.split()) > MAX_TOLD_WORDS:
        return "is empty or too long"
    lines = _grounds(draft)
    allowed = JUDGING_WORDS.split() if draft.kind == "context_critic" else ()
    if flaw := find_flaw(answer, [*lines, draft.question], allowed):
        return f"holds a {flaw} that its lines do not"
    verdict = _SENTENCE_END.split(draft.answer)[0]
    if draft.kind == "context_critic" and not answer.startswith(verdict):
        return "judges otherwise"
    said, asked = read_claims(answer), read_claims(" ".join(_QUOTED.findall(draft.question)) or draft.question)
    from_lines = [read_claims(line) for line in lines]
    noted = frozenset().union(*(line.stems | line.numbers for line in from_lines)) - asked.stems - asked.numbers
    if noted and not noted & (said.stems | said.numbers):
        return "uses no line"
    if asked.stems and not asked.stems & said.stems:
        return "is about something else"
    if said.negated and draft.kind == "context_enhance" and not (asked.negated or any(line.negated for line in from_lines)):
        return "turns a yes into a no, or a no into a yes"
    return None


def _grounds(draft: Draft) -> list[str]:
    """The lines that the old answer is taken from, else all of them, and the old answer.

    Why not all lines at once: others are shown beside it, and what one of them says may be an order to say so.
    """
    return [*(as_line(line.text) for line in _taken_from(draft) or draft.lines), draft.answer]


def _cited(draft: Draft) -> tuple[Citation, ...]:
    """Of an answer in other words: all of the lines it may have used, since its words may stand anywhere in them."""
    return tuple(dict.fromkeys(line.citation for line in _taken_from(draft))) or draft.cited


def _taken_from(draft: Draft) -> list[Evidence]:
    """The lines that hold a sentence or a quotation of the old answer word for word."""
    answer = " ".join(draft.answer.split())
    parts = [part for part in [*_SENTENCE_END.split(answer), *_QUOTED.findall(answer)] if len(part.split()) >= MIN_PART_WORDS]
    return [line for line in draft.lines if any(part in as_line(line.text) for part in (answer, *parts))]
