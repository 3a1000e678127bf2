"""`python -m bench fit_stance`: the weights of `dao/stance_model.py`, fitted on invented people, to be copied there by hand.

Prints how the rule does on each person when it is fitted on the others, and the weights that come of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.people import silent
from bench.stance_people import Case, fitted_on
from lpm_kernel.dao.ballot_draft import CHOICES, Choice
from lpm_kernel.dao.stance import asked_of, read_lines
from lpm_kernel.dao.stance_cues import read_question
from lpm_kernel.dao.stance_model import Rule, Signs, Verdict, add_up, best_of, read_signs, strength_of, that_decide
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores

NEAREST = 7
MIN_EVIDENCE = 0.4
REGULARISATION = 0.1
TEMPERATURES = [step / 20 for step in range(2, 41)]


@dataclass(frozen=True)
class Measured:
    """A case, and of each of its lines the signs of its sentences. `unclear`: nobody can tell which way it is put."""

    case: Case
    signs: list[list[Signs]]
    unclear: bool = False


def measure(case: Case, embedder: Embedder, llm: Llm) -> Measured:
    """By its own lines and the nearest of the others, as a search would find them."""
    vectors = embedder.embed([asked_of(case.put), *(text for text, _ in case.lines)])
    near = sorted(zip((vectors[1:] @ vectors[0]).tolist(), case.lines, strict=True), key=lambda pair: -pair[0])
    nearest = {line for _, line in near[:NEAREST]}
    case = replace(case, lines=tuple(line for line in case.lines if line in nearest or line[1] != "none"))
    question = read_question(case.put.title, case.put.text)
    reads = read_lines(embedder, llm, question, asked_of(case.put), [text for text, _ in case.lines], tenant="bench")
    return Measured(case, [[read_signs(question, read) for read in own] for own in reads], question.unclear)


def sentences_of(measured: Sequence[Measured]) -> list[tuple[Signs, Verdict]]:
    """With what they say. Of a line that takes a side only the sentence that says so outright is taken, or its nearest."""
    found: list[tuple[Signs, Verdict]] = []
    for one in measured:
        if one.unclear:  # no ballot is cast of it, and which side a line takes nobody can tell
            continue
        for (_, verdict), own in zip(one.case.lines, one.signs, strict=True):
            said = own if verdict == "none" else [max(own, key=lambda signs: (signs.speaks["cue"], signs.speaks["near"]))]
            found.extend((signs, verdict) for signs in said)
    return found


def fit(measured: Sequence[Measured]) -> Rule:
    from sklearn.linear_model import LogisticRegression

    sentences = sentences_of(measured)
    names = list(sentences[0][0].speaks)
    values = np.array([[signs.speaks[name] for name in names] for signs, _ in sentences])
    spread = np.maximum(values.std(axis=0), 1e-9)
    speaks = LogisticRegression(C=REGULARISATION, max_iter=5000).fit(
        values / spread, [verdict != "none" for _, verdict in sentences]
    )
    sided = [(signs, verdict) for signs, verdict in sentences if verdict in ("for", "against")]
    odd = np.array([[signs.side, signs.lean] for signs, _ in sided])
    side = LogisticRegression(C=REGULARISATION, max_iter=5000, fit_intercept=False).fit(
        odd, [verdict == "for" for _, verdict in sided]
    )
    weights = dict(zip(names, (speaks.coef_[0] / spread).tolist(), strict=True))
    return Rule(weights, float(speaks.intercept_[0]), *side.coef_[0].tolist())


def chosen(rule: Rule, measured: Measured, temperature: float) -> tuple[float, dict[Choice, float]]:
    lines = [best_of([(signs, "") for signs in own], rule)[0] for own in measured.signs]
    verdicts = [line.verdict for line in that_decide(lines, MIN_EVIDENCE)]
    # of what is unclear the twin says that it cannot tell, see `weigh_evidence`
    strength = 0.0 if measured.unclear else max(map(strength_of, verdicts), default=0.0)
    return strength, add_up(verdicts, temperature)


def choose_temperature(held_out: Sequence[tuple[Measured, Rule]]) -> float:
    """The one whose confidence is right as often as it says, on people that the rule was not fitted on."""

    def surprise(temperature: float) -> float:
        return float(
            np.mean(
                [
                    -math.log(chosen(rule, one, temperature)[1][one.case.put.stance])
                    for one, rule in held_out
                    if one.case.put.stance is not None
                ]
            )
        )

    return min(TEMPERATURES, key=surprise)


def run(stores: Stores) -> None:
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    llm = LlamaCpp(base, slots=2, context_tokens=stores.settings.models.context_tokens)
    try:
        measured = [measure(case, stores.embedder, llm) for case in fitted_on()]
    finally:
        llm.close()
    report(measured)


def report(measured: Sequence[Measured]) -> Rule:
    people = sorted({one.case.person for one in measured})
    held_out: list[tuple[Measured, Rule]] = []
    for person in people:
        rule = fit([one for one in measured if one.case.person != person])
        held_out += [(one, rule) for one in measured if one.case.person == person]
    temperature = choose_temperature(held_out)
    told = [(one, *chosen(rule, one, temperature)) for one, rule in held_out]
    known = [each for each in told if each[0].case.put.stance is not None]
    unknown = [each for each in told if each[0].case.put.stance is None]
    print(
        f"  {len(people)} people, {len(measured)} proposals, each person by the rule of the others; temperature {temperature}"
    )
    for limit in (0.3, 0.4, 0.5, 0.6):
        right = sum(
            strength >= limit and max(CHOICES, key=lambda each: shares[each]) == one.case.put.stance
            for one, strength, shares in known
        )
        silent_ = sum(strength < limit for _, strength, _ in unknown)
        print(f"  min_evidence {limit}: right {right}/{len(known)}, abstains without evidence {silent_}/{len(unknown)}")
    for one, strength, shares in told:
        best = max(CHOICES, key=lambda each: shares[each])
        if (one.case.put.stance is None and strength >= 0.5) or one.case.put.stance not in (None, best):
            print(
                f"    {one.case.person}: {one.case.put.title}: {one.case.put.stance}, "
                f"found {best} {shares[best]:.2f} {strength:.2f}"
            )
    rule = fit(measured)
    print(f"  {rule}")
    return rule
