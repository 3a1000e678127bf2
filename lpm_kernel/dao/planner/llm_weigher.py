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

from lpm_kernel.dao.planner.statements import quoted
from lpm_kernel.dao.planner.weighing import Case, Subject, Weighed, opinion_of, shifted
from lpm_kernel.dao.stance import GOING_ON
from lpm_kernel.dao.stance_cues import Question, read_question
from lpm_kernel.dao.stance_model import Read, Verdict, add_up, read_signs, strength_of, verdict_of
from lpm_kernel.L0.sentences import split_sentences
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

    def weigh(self, subject: Subject, cases: Sequence[Case]) -> list[Weighed]:
        if not cases:
            return []
        title, text = quoted(subject.title), subject.text[:MAX_SUBJECT_CHARACTERS]
        question = read_question(title, quoted(text) if text.strip() else "")
        distinct = list(dict.fromkeys(cases))
        wanted = dict.fromkeys(each for case in distinct for each in _questions(case))
        odds, tokens = self._odds(question, list(wanted))
        stating = [text for case in distinct if not _hears(case) for text in case.own]
        verdicts = self._verdicts(question, f"{title}. {text}".strip(), list(dict.fromkeys(stating)), odds)
        found: dict[Case, Weighed] = {}
        for case in distinct:
            read = sum(tokens.pop(each, 0) for each in _questions(case))
            if case.before is not None and _hears(case):
                own, heard = _questions(case)
                opinion = shifted(case.before, question.sign * (odds[heard] - odds[own]))
            else:
                shares = add_up([verdicts[text] for text in case.own])
                opinion = opinion_of(shares["for"], shares["against"], shares["abstain"])
            found[case] = Weighed(opinion, read)
        answers: list[Weighed] = []
        for case in cases:
            answers.append(found[case])
            found[case] = replace(found[case], tokens=0)  # an equal case was read once
        return answers

    def _verdicts(
        self, question: Question, asked: str, texts: Sequence[str], odds: Mapping[Asked, float]
    ) -> dict[str, Mapping[Verdict, float]]:
        """Of each text that of its sentence which says most."""
        if not texts:
            return {}
        sentences = {text: [found.text for found in split_sentences(text)] or [text] for text in texts}
        flat = list(dict.fromkeys([*texts, *(sentence for own in sentences.values() for sentence in own)]))
        vectors = self.embedder.embed([asked, *flat])
        cosines = dict(zip(flat, (vectors[1:] @ vectors[0]).tolist(), strict=True))
        lean = {text: odds[Asked(text)] - odds[Asked()] for text in texts}
        return {
            text: max(
                (
                    verdict_of(read_signs(question, Read(each, text, cosines[each], cosines[text], lean[text])))
                    for each in sentences[text]
                ),
                key=strength_of,
            )
            for text in texts
        }

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
