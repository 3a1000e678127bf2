"""What the model is asked for a batch of twins, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from lpm_kernel.dao.evidence import Evidence, EvidenceLine
from lpm_kernel.dao.planner.llm_weigher import MAX_HEARD, LlmWeigher
from lpm_kernel.dao.planner.records import Opinion
from lpm_kernel.dao.planner.weighing import Case, Subject, Weighed
from lpm_kernel.dao.stance import GOING_ON, weigh_evidence
from lpm_kernel.records import Message
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.llm import AdapterFile
from tests.dao.test_stance import Put
from tests.fakes import FakeEmbedder, FakeLlm

SUBJECT = Subject("A new roof", "The yard gets a roof of oak.")
BEFORE = Opinion(0.5, 0.25, 0.25)


class Leaning(FakeLlm):
    """Finds what is for it likelier by as many nats as the function says of the whole prompt."""

    def __init__(self, nats: Callable[[str], float] = lambda prompt: 0.0, context_tokens: int = 1024) -> None:
        super().__init__(context_tokens=context_tokens)
        self.nats = nats

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        super().score(prompts, options, tenant=tenant, adapter=adapter)
        assert adapter is None
        said = ["\n".join(message.content for message in prompt) for prompt in prompts]
        sides = {side[0] for _, *side in GOING_ON}
        return [[self.nats(prompt) if option in sides else 0.0 for option in options] for prompt in said]


def weigh(llm: Leaning, cases: Sequence[Case], subject: Subject = SUBJECT) -> list[Weighed]:
    return LlmWeigher(llm, FakeEmbedder(), 0.4).weigh(subject, cases)


def test_all_lines_of_a_batch_are_one_call_and_equal_ones_are_asked_once() -> None:
    llm = Leaning()
    first = "I am for the new roof of oak in the yard."
    cases = [Case((first, "My cat is red.")), Case((first,)), Case(("I am against a new roof over the yard.",)), Case((first,))]
    one, two, three, again = weigh(llm, cases)
    ((prompts, options),) = llm.scored
    assert options == tuple(option for _, *sides in GOING_ON for option in sides)
    assert len(prompts) == len(set(prompts)) == 4 * len(GOING_ON)  # three lines, and none
    assert all(prompt[0].content.startswith("Proposal: A new roof.") for prompt in prompts)
    read = prompts[:: len(GOING_ON)]
    assert one.tokens + two.tokens + three.tokens == sum(llm.prompt_tokens(prompt) for prompt in read)
    assert (again.opinion, again.tokens) == (two.opinion, 0)


def test_what_others_said_counts_by_how_much_it_changes_the_odds() -> None:
    llm = Leaning(lambda prompt: -1.0 if "dear" in prompt else 0.5)
    (found,) = weigh(llm, [Case(("I want a roof.", "It rains."), ("It is dear.", "It is ugly."), BEFORE)])
    prompts = llm.scored[0][0][:: len(GOING_ON)]
    assert ["Others wrote" in prompt[0].content for prompt in prompts] == [False, True]
    assert prompts[1][0].content.endswith('Others wrote:\n- "It is dear."\n- "It is ugly."')
    assert all(prompt[2].content.startswith("I want a roof. So I") for prompt in prompts)
    assert found.opinion.for_ / found.opinion.against == pytest.approx(2 * 2.718281828**-1.5)
    assert found.opinion.abstain == BEFORE.abstain


def test_where_it_is_proposed_not_to_do_a_thing_the_sides_change_places() -> None:
    case = Case(("I want a roof.",), ("It is dear.",), BEFORE)
    llm = Leaning(lambda prompt: -1.0 if "dear" in prompt else 0.0)
    (found,) = weigh(llm, [case], Subject("No new roof"))
    assert found.opinion.for_ > BEFORE.for_


def test_what_does_not_fit_is_left_out_and_nothing_is_refused() -> None:
    heard = tuple(f"{number} " + "word " * 20 for number in range(6))
    tight = Leaning(context_tokens=80)
    (found,) = weigh(tight, [Case(("long " * 60,), heard, BEFORE)])
    assert found.opinion.abstain == BEFORE.abstain
    assert all(tight.prompt_tokens(prompt) < 80 for prompt in tight.scored[0][0])
    roomy = Leaning(context_tokens=4000)
    weigh(roomy, [Case(("short",), heard, BEFORE)])
    assert roomy.scored[0][0][-1][0].content.count('- "') == MAX_HEARD


def test_nobody_is_asked_nothing() -> None:
    llm = Leaning()
    assert weigh(llm, []) == []
    assert llm.scored == []


def opinion(*own: str, llm: Leaning | None = None, subject: Subject = SUBJECT) -> Opinion:
    return weigh(llm or Leaning(), [Case(own)], subject)[0].opinion


def test_by_its_own_lines_a_twin_stands_as_it_would_vote() -> None:
    """A ballot went by what its person says outright, and a plan by the sum of all lines: the same twin stood differently."""
    outright = "I am for the new roof of oak in the yard."
    leaning = tuple(f"The new roof of oak in the yard, {number}, drips." for number in range(12))
    llm = Leaning(lambda prompt: -4.0 if "drips" in prompt else 0.0)
    for own in ((outright,), (outright, *leaning), (*leaning, outright)):
        found = opinion(*own, llm=llm)
        assert found.for_ > 0.8, own
        evidence = Evidence(tuple(EvidenceLine(text, f"{'a' * 64}:0-9", "n.md", 0.5, True) for text in own))
        ballot = weigh_evidence(
            evidence, Put(SUBJECT.title, SUBJECT.text), FakeEmbedder(), llm, load_settings().stance, tenant="1"
        )
        assert ballot.choice == "for"
        assert ballot.probabilities["for"] == pytest.approx(found.for_, abs=1e-6)


def test_a_twin_that_cannot_tell_abstains_in_a_plan_too() -> None:
    for own in ("My cat is red.", "Petra said: I am for the new roof of oak in the yard."):
        assert opinion(own).abstain > 0.5, own
    unclear = Subject("Keep the yard open", "The gates are not locked at night.")
    assert opinion("I am for the yard that is open.", subject=unclear).abstain > 0.99
