"""`Weigher` on the language model that serves: how likely it finds two short words after quoted lines.

Belongs here: the prompts, and putting together what is measured of a whole batch of twins at once.
Does not belong here: the rule that weighs a line (`stance_model.py`) and what becomes of an opinion (`rounds.py`).

By its own lines a twin is weighed as it would be for its ballot (`stance.py`), with the base: all lines of a batch of twins are
then one tree that begins alike, and nothing that a person withholds speaks through an adapter.
What others said stands before the twin's foremost line, so that twins which hear the same share it, and counts by how much it
changes the odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpm_kernel.dao.orders import without_orders
from lpm_kernel.dao.planner.records import Opinion
from lpm_kernel.dao.planner.statements import quoted
from lpm_kernel.dao.planner.weighing import Case, Subject, Weighed, opinion_of, shifted
from lpm_kernel.dao.stance import GOING_ON, measure_lines
from lpm_kernel.dao.stance_cues import Question, read_question
from lpm_kernel.dao.stance_model import Weighed as WeighedLine
from lpm_kernel.dao.stance_model import add_up, strength_of, that_decide, weigh_line
from lpm_kernel.records import Message

if TYPE_CHECKING:
    from lpm_kernel.stores.embedder import Embedder
    from lpm_kernel.stores.llm import Llm

TENANT = "plan"
"""Nothing that is computed for a plan is kept."""
MAX_SUBJECT_CHARACTERS = 400
MAX_HEARD = 4
"""Of others' lines, the last that were put: the model is small."""
SPARE_TOKENS = 24
"""For how it goes on."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the model: what a member wrote, after what others said; neither is there where the odds of none are."""

    own: str = ""
    heard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LlmWeigher:
    """Safe to share between threads, as its model and its embedder are."""

    llm: Llm
    embedder: Embedder
    min_evidence: float
    """As of a ballot: under it no line says anything of its writer's will, and the twin abstains."""

    def weigh(self, subject: Subject, cases: Sequence[Case]) -> list[Weighed]:
        if not cases:
            return []
        title, text = quoted(subject.title), without_orders(subject.text)[:MAX_SUBJECT_CHARACTERS]
        question = read_question(title, quoted(text) if text.strip() else "")
        distinct = list(dict.fromkeys(cases))
        wanted = dict.fromkeys(each for case in distinct for each in _questions(case))
        odds, tokens = self._odds(question, list(wanted))
        stating = [text for case in distinct if not _hears(case) for text in case.own]
        lines = self._lines(question, f"{title}. {text}".strip(), list(dict.fromkeys(stating)), odds)
        found: dict[Case, Weighed] = {}
        for case in distinct:
            read = sum(tokens.pop(each, 0) for each in _questions(case))
            if case.before is not None and _hears(case):
                own, heard = _questions(case)
                opinion = shifted(case.before, question.sign * (odds[heard] - odds[own]))
            else:
                opinion = self._concluded(question, [lines[text] for text in case.own])
            found[case] = Weighed(opinion, read)
        answers: list[Weighed] = []
        for case in cases:
            answers.append(found[case])
            found[case] = replace(found[case], tokens=0)  # an equal case was read once
        return answers

    def _concluded(self, question: Question, lines: Sequence[WeighedLine]) -> Opinion:
        """As `stance.conclude`: what is said outright goes before what only leans; who cannot tell abstains, as likely as that
        is."""
        verdicts = [line.verdict for line in that_decide(lines, self.min_evidence)]
        shares, strength = add_up(verdicts), max(map(strength_of, verdicts), default=0.0)
        if strength >= self.min_evidence and not question.unclear:
            return opinion_of(shares["for"], shares["against"], shares["abstain"])
        told = 0.0 if question.unclear else strength
        return opinion_of(told * shares["for"], told * shares["against"], 1 - told * (shares["for"] + shares["against"]))

    def _lines(
        self, question: Question, asked: str, texts: Sequence[str], odds: Mapping[Asked, float]
    ) -> dict[str, WeighedLine]:
        """Of each text that of its sentence which says most."""
        if not texts:
            return {}
        leans = [odds[Asked(text)] - odds[Asked()] for text in texts]
        reads = measure_lines(self.embedder, question, asked, texts, leans)
        return {text: weigh_line(question, own)[0] for text, own in zip(texts, reads, strict=True)}

    def _odds(self, question: Question, asked: Sequence[Asked]) -> tuple[dict[Asked, float], dict[Asked, int]]:
        """Of for to against, in nats, the mean over the ways to go on; and each question's tokens, read once for all ways."""
        fitting = [self._fitting(question, each) for each in asked]
        ways = [prompt_of(question.wording, each, words) for each, _ in fitting for words, _, _ in GOING_ON]
        options = [option for _, *sides in GOING_ON for option in sides]
        scores, count = self.llm.score(ways, options, tenant=TENANT), len(GOING_ON)
        sides = [likely[2 * (place % count)] - likely[2 * (place % count) + 1] for place, likely in enumerate(scores)]
        odds = {each: sum(sides[count * place : count * (place + 1)]) / count for place, each in enumerate(asked)}
        return odds, {each: tokens for each, (_, tokens) in zip(asked, fitting, strict=True)}

    def _fitting(self, question: Question, asked: Asked) -> tuple[Asked, int]:
        """As much as fits, and its tokens. What does not goes: others' lines first, then words of the twin's from the end."""
        while True:
            tokens = self.llm.prompt_tokens(prompt_of(question.wording, asked, GOING_ON[0][0]))
            if tokens + SPARE_TOKENS <= self.llm.context_tokens or not (asked.heard or asked.own):
                return asked, tokens
            if asked.heard:
                asked = replace(asked, heard=asked.heard[1:])
            else:
                asked = replace(asked, own=asked.own[: len(asked.own) // 2])


def _hears(case: Case) -> bool:
    """Whether it stood already, and is weighed again."""
    return bool(case.heard) and case.before is not None


def _questions(case: Case) -> list[Asked]:
    """What the model has to be asked for a case: each own line by itself, or the foremost before and after what was heard."""
    if _hears(case):
        own = case.own[0] if case.own else ""
        return [Asked(own), Asked(own, case.heard[-MAX_HEARD:])]
    return [Asked(), *(Asked(text) for text in case.own)]


def prompt_of(wording: str, asked: Asked, words: str) -> tuple[Message, ...]:
    """Others' words stand in quotation marks, each line by itself, and none of them can end the quotation. The twin's own are
    its own, and `words` are how it goes on."""
    about = f"Proposal: {wording}"
    if asked.heard:
        about += "\nOthers wrote:\n" + "\n".join(f'- "{line}"' for line in asked.heard)
    said = Message("user", "What do you think of the proposal?")
    return Message("system", about), said, Message("assistant", f"{asked.own}{words}")
