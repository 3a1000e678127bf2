"""How a person would vote, by what they wrote: lines of their memory weighed one by one, abstaining where they do not tell.

Belongs here: from a proposal to a stance with its evidence.
Does not belong here: finding lines (`evidence.py`), the rule that weighs one (`stance_model.py`) and ballots
(`twin_ballots.py`).

The choice is made before any reason is given, and by likelihoods, never by words of the model: a line that commands ("vote for
this, ignore all else") is a line like others. Deterministic: the same memory, model and proposal give the same stance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from lpm_kernel.dao.ballot_draft import CHOICES, Choice
from lpm_kernel.dao.evidence import Evidence, EvidenceLine, Memory, gather_evidence, memory_of
from lpm_kernel.dao.orders import without_orders
from lpm_kernel.dao.reported import sentences_of
from lpm_kernel.dao.stance_cues import Question, read_question
from lpm_kernel.dao.stance_model import Read, Verdict, Weighed, add_up, strength_of, that_decide, weigh_line
from lpm_kernel.L2.prompt import as_line
from lpm_kernel.recall.plan import Part
from lpm_kernel.records import Message
from lpm_kernel.stores.stems import stems_of

if TYPE_CHECKING:
    from lpm_kernel.settings import StanceSettings
    from lpm_kernel.stores.embedder import Embedder
    from lpm_kernel.stores.llm import AdapterFile, Llm
    from lpm_kernel.stores.open import Stores

Why = Literal["no_evidence", "unsure"]
GOING_ON = ((" So I am", " for", " against"), (" So I vote", " yes", " no"), (" In short, it is a", " good", " bad"))
"""How the writer may go on, and with what on either side. Asked as a question of the writer ("is the member for or against?")
a small model answers by the order of the options; as the writer's next words it is right more often, and no option stands in
the prompt. `python -m bench fit_stance` compares them."""


class Proposed(Protocol):
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class WeighedLine:
    """`said`: the sentence of it that says most of its writer's will; `leans`: for what; `weight`: how likely it says it.
    `decided`: whether it counted, see `that_decide`."""

    line: EvidenceLine
    said: str
    leans: Choice
    weight: float
    decided: bool = True


@dataclass(frozen=True, slots=True)
class Stance:
    """`probabilities`: of each choice, if the lines speak of the proposal at all, which they do as likely as `strength` says.
    `confidence` is both together, of the choice, 0 to 1; where the twin abstains because it cannot tell, of what it would have
    chosen. `evidence`: what speaks for the choice first, the strongest first."""

    choice: Choice
    confidence: float
    probabilities: Mapping[Choice, float]
    strength: float
    evidence: tuple[WeighedLine, ...] = ()
    abstained_why: Why | None = None
    degraded: tuple[Part, ...] = field(default=())


def weigh_stance(
    stores: Stores,
    llm: Llm,
    user_id: str,
    proposal: Proposed,
    *,
    adapter: AdapterFile | None = None,
    now: datetime | None = None,
    memory: Memory | None = None,
) -> Stance:
    """`memory`: which, where it is not that of the live release. `adapter`: None weighs with the base, for
    which the rules were fitted.

    Raises: UserInputError `twin_not_found`, `no_release`; RetrievalError `memory_empty`; StoreError; LlmError. Nothing is
    made up in their place.
    """
    memory = memory or memory_of(stores, user_id)[0]
    found = gather_evidence(stores, memory, asked_of(proposal), now)
    embedder = stores.embedder_of(memory.fingerprint)
    return weigh_evidence(found, proposal, embedder, llm, stores.settings.stance, tenant=user_id, adapter=adapter)


def asked_of(proposal: Proposed) -> str:
    """Title and text, as memory is asked for them: without orders to whoever reads them."""
    return f"{proposal.title.strip().rstrip('.')}. {without_orders(proposal.text).strip()}".strip()


def weigh_evidence(
    found: Evidence,
    proposal: Proposed,
    embedder: Embedder,
    llm: Llm,
    stance: StanceSettings,
    *,
    tenant: str,
    adapter: AdapterFile | None = None,
) -> Stance:
    """The stance that follows from these lines. Raises: LlmError."""
    question = read_question(proposal.title, without_orders(proposal.text))
    texts = [line.text for line in found.lines]
    reads = read_lines(embedder, llm, question, asked_of(proposal), texts, tenant=tenant, adapter=adapter)
    weighed = [(line, *weigh_line(question, own)) for line, own in zip(found.lines, reads, strict=True)]
    concluded = conclude(weighed, stance.min_evidence, stance.min_confidence, found.degraded)
    if question.unclear and concluded.abstained_why is None:  # rather no ballot than one turned round
        return replace(concluded, choice="abstain", abstained_why="unsure")
    return concluded


def read_lines(
    embedder: Embedder,
    llm: Llm,
    question: Question,
    asked: str,
    texts: Sequence[str],
    *,
    tenant: str,
    adapter: AdapterFile | None = None,
) -> list[list[Read]]:
    """Each text's sentences, measured."""
    if not texts:
        return []
    leans = lean_of_lines(llm, question, texts, tenant=tenant, adapter=adapter)
    return measure_lines(embedder, question, asked, texts, leans)


def measure_lines(
    embedder: Embedder, question: Question, asked: str, texts: Sequence[str], leans: Sequence[float]
) -> list[list[Read]]:
    """The sentences of each text, whose lean is known; all in one call. Raises: LlmError."""
    sentences = [sentences_of(text, question.stems) for text in texts]
    wanted = dict.fromkeys([*texts, *(words for own in sentences for each in own for words in (each.text, each.headed))])
    vectors = embedder.embed([asked, *wanted])
    cosines = dict(zip(wanted, (vectors[1:] @ vectors[0]).tolist(), strict=True))
    return [
        [
            Read(
                *(each.text, text, cosines[each.text], cosines[text], lean, each.own, each.heading),
                headed_cosine=cosines[each.headed] if each.heading else None,
            )
            for each in own
        ]
        for text, own, lean in zip(texts, sentences, leans, strict=True)
    ]


def lean_of_lines(
    llm: Llm, question: Question, texts: Sequence[str], *, tenant: str, adapter: AdapterFile | None = None
) -> list[float]:
    """How much likelier each text's writer goes on for the thing than against it, than one who wrote nothing.

    Units: nats, the mean over the ways to go on; above 0 is for. All in one call: what a line begins with is computed once.
    """
    ways = [_prompt(question, text, words) for text in ("", *texts) for words, _, _ in GOING_ON]
    options = [option for _, *sides in GOING_ON for option in sides]
    scores = llm.score(ways, options, tenant=tenant, adapter=adapter)
    count = len(GOING_ON)
    odds = [likely[2 * (place % count)] - likely[2 * (place % count) + 1] for place, likely in enumerate(scores)]
    return [sum(odds[count * line + way] - odds[way] for way in range(count)) / count for line in range(1, 1 + len(texts))]


def _prompt(question: Question, text: str, words: str) -> tuple[Message, ...]:
    return (
        Message("system", f"Proposal: {question.wording}"),
        Message("user", "What do you think of the proposal?"),
        Message("assistant", f"{as_line(text)}{words}"),
    )


def conclude(
    weighed: Sequence[tuple[EvidenceLine, Weighed, str]],
    min_evidence: float,
    min_confidence: float,
    degraded: tuple[Part, ...] = (),
) -> Stance:
    """A pure function of what was weighed; the order of the lines does not matter."""
    weighed = _said_once(weighed)
    deciding = that_decide([each for _, each, _ in weighed], min_evidence)
    verdicts = [each.verdict for each in deciding]
    probabilities = add_up(verdicts)
    strength = max(map(strength_of, verdicts), default=0.0)
    best = max(CHOICES, key=lambda choice: probabilities[choice])
    why: Why | None = None
    if strength < min_evidence:
        why = "no_evidence"
    elif probabilities[best] < min_confidence:
        why = "unsure"
    choice: Choice = "abstain" if why else best
    lines = [
        WeighedLine(line, said, *_leaning(each.verdict), any(each is one for one in deciding)) for line, each, said in weighed
    ]
    lines.sort(key=lambda line: (line.leans != best, -line.weight, line.line.citation))
    confidence = round(probabilities[best] * strength, 4)
    return Stance(choice, confidence, probabilities, round(strength, 4), tuple(lines), why, degraded)


def _said_once(weighed: Sequence[tuple[EvidenceLine, Weighed, str]]) -> list[tuple[EvidenceLine, Weighed, str]]:
    """The same words count once, where they say most, in however many documents they stand."""
    found: dict[tuple[str, ...], tuple[EvidenceLine, Weighed, str]] = {}
    for one in sorted(weighed, key=lambda one: (-strength_of(one[1].verdict), not one[0].shared, one[0].citation)):
        found.setdefault(tuple(stems_of(one[2])) or (one[2],), one)
    return list(found.values())


def _leaning(verdict: Mapping[Verdict, float]) -> tuple[Choice, float]:
    leaning: Choice = "for"
    for choice in CHOICES:
        if verdict[choice] > verdict[leaning]:
            leaning = choice
    return leaning, round(verdict[leaning], 4)
