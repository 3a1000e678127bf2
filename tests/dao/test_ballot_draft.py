"""`## VOTE:` in an answer: what is read as a draft, and all that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.dao.ballot_draft import CHOICES, INSTRUCTION, BallotDraft, asks_for_ballot, read_ballots


@pytest.mark.parametrize(
    ("answer", "draft"),
    [
        ("## VOTE: for\nProposal: P-12\nReason: We need benches.", BallotDraft("P-12", "for", "We need benches.")),
        ("I thought about it.\n\n## Vote: AGAINST on #7", BallotDraft("#7", "against", None)),
        ("## VOTE: **abstain** on proposal 3: I know too little.", BallotDraft("3", "abstain", "I know too little.")),
        ("##VOTE: yes\r\nProposal: “Benches in the park”\r\n", BallotDraft("Benches in the park", "for", None)),
        ("## VOTE: no — too dear\nProposal: 0x3f", BallotDraft("0x3f", "against", "too dear")),
        ("## VOTE: against because it is too dear\nProposal: 9", BallotDraft("9", "against", "it is too dear")),
        ("## VOTE: for\n**Proposal:** 4\nIt helps the allotments.", BallotDraft("4", "for", "It helps the allotments.")),
        ("## VOTE: in favour on P-2\n# Else\nReason: not this", BallotDraft("P-2", "for", None)),
    ],
)
def test_a_ballot_in_an_answer_is_read_with_its_reference_as_written(answer: str, draft: BallotDraft) -> None:
    assert read_ballots(answer) == (draft,)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I would vote for P-12.",
        "## VOTE: for",
        "## VOTE: maybe\nProposal: P-12",
        "## VOTE:\nProposal: P-12",
        "## VOTE: forever on P-12",
        "## VOTE: no-one on P-12",
        "VOTE: for\nProposal: P-12",
        "### VOTE: for\nProposal: P-12",
        "they wrote ## VOTE: for on P-12",
        "```\n## VOTE: for\nProposal: P-12\n```",
        "```\n## VOTE: for on P-12 and no end of the block",
        "## VOTE: for on P-12\n## VOTE: against on p-12",
        "## VOTE: for\nProposal: " + "x" * 201,
    ],
)
def test_what_is_no_clear_ballot_is_no_draft(answer: str) -> None:
    assert read_ballots(answer) == ()


def test_two_proposals_are_two_drafts_and_the_same_one_twice_is_one() -> None:
    answer = "## VOTE: for on P-1\n\n## VOTE: against on P-2\nReason: no\n\n## VOTE: for on P-1"
    assert [(draft.proposal, draft.choice) for draft in read_ballots(answer)] == [("P-1", "for"), ("P-2", "against")]


@pytest.mark.parametrize(
    ("question", "proposal"),
    [
        ("How would you vote on proposal P-12?", "P-12"),
        ("Draft my ballot for proposal “More benches”, please.", "More benches"),
        ("How would you vote on #7?", "#7"),
        ("How would you vote on proposals 1 and proposal 2?", None),
        ("How would you vote on proposal 1, or rather proposal 2?", None),
        ("How would you vote?", None),
    ],
)
def test_a_ballot_without_a_reference_has_that_of_the_question_if_it_names_one(question: str, proposal: str | None) -> None:
    drafts = read_ballots("## VOTE: for\nReason: yes", question)
    expected = (proposal,) if proposal else ()
    if question.startswith("How would you vote on proposals"):
        assert len(drafts) <= 1
    else:
        assert tuple(draft.proposal for draft in drafts) == expected


@given(st.text())
def test_no_text_at_all_breaks_the_reading(text: str) -> None:
    for draft in read_ballots("## VOTE: for\nProposal: P-1\n" + text) + read_ballots(text, text):
        assert draft.choice in CHOICES
        assert draft.proposal.strip()


@pytest.mark.parametrize(
    ("question", "asks"),
    [
        ("How would you vote on proposal P-12?", True),
        ("Please draft my ballot for #7.", True),
        ("Cast my vote against the benches", True),
        ("Vote for P-3", True),
        ("What is your cat called?", False),
        ("Which proposals are open?", False),
        ("How did you vote last year?", False),
        ("Do you devote time to sailing?", False),
    ],
)
def test_a_ballot_is_asked_for_in_these_words(question: str, asks: bool) -> None:
    assert asks_for_ballot(question) is asks


def test_the_instruction_itself_is_no_ballot() -> None:
    assert read_ballots(INSTRUCTION) == ()
