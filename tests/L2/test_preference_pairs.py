"""Ratings and edits to pairs: what a person prefers, and what says nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.preference_pairs import PairRefusal, chunk_lines, keep_fitting, make_pairs
from lpm_kernel.L2.prompt import twin_messages
from lpm_kernel.L2.records import GoldenQuestion, GoldenSet, PreferencePair
from lpm_kernel.records import User
from lpm_kernel.stores.feedback import RatedReply
from tests.fakes import FakeEmbedder
from tests.samples import NOON, make_items

NORA = User("nora", "Nora")
CAT = "What is your cat called?"
ITEMS = make_items("nora", {"diary.md": "Our cat is called Pilchard.\n"})
LINES = chunk_lines(ITEMS)
CITED = tuple(line.citation for line in LINES.values())


def reply(number: int, said: str, question: str = CAT, **others: Any) -> RatedReply:
    given = {"citations": CITED, "voice": None, "truth": None, "edited": None} | others
    return RatedReply(f"m{number}", "s", question, said, created_at=NOON + timedelta(minutes=number), **given)


def pairs_of(*rated: RatedReply, golden: GoldenSet | None = None) -> tuple[list[PreferencePair], dict[str, str]]:
    pairs, refusals = make_pairs(NORA, rated, LINES, golden, FakeEmbedder())
    return pairs, {refusal.message_id: refusal.reason for refusal in refusals}


def told(pairs: list[PreferencePair]) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in pairs]


def test_an_edit_is_preferred_to_what_it_was_made_from_in_the_prompt_of_the_talk() -> None:
    (pair,), refusals = pairs_of(reply(1, "Admiral.", edited="Pilchard!"))
    assert (pair.chosen, pair.rejected, pair.signal, pair.message_ids) == ("Pilchard!", "Admiral.", "edit", ("m1",))
    assert pair.prompt == twin_messages(NORA, CAT, list(LINES.values()))
    assert pair.sources == CITED
    assert refusals == {}


def test_a_reply_rated_true_is_preferred_to_one_of_the_same_question_that_was_rated_down() -> None:
    pairs, refusals = pairs_of(
        reply(1, "Pilchard.", truth=1),
        reply(2, "Admiral.", question="what is your CAT called", truth=-1),
        reply(3, "No cat.", voice=-1),
    )
    assert told(pairs) == [("Pilchard.", "Admiral."), ("Pilchard.", "No cat.")]
    assert pairs[0].message_ids == ("m1", "m2")
    assert {pair.signal for pair in pairs} == {"ratings"}
    assert refusals == {}


def test_what_the_twin_said_is_never_chosen_unless_its_person_rated_it_true() -> None:
    down = reply(1, "Admiral.", truth=-1)
    for silent in (
        reply(2, "Pilchard."),
        reply(2, "Pilchard.", voice=1),
        reply(2, "Pilchard.", truth=0, voice=0),
        reply(2, "Pilchard.", truth=1, voice=-1),
        reply(2, "Pilchard.", question="Another question?", truth=1),
    ):
        pairs, refusals = pairs_of(down, silent)
        assert pairs == []
        assert refusals["m1"] == "nothing_to_set_it_against"
        assert refusals["m2"] in ("no_side_taken", "nothing_to_set_it_against")


def test_an_edit_that_changes_nothing_is_a_tie_and_one_that_changes_a_mark_is_none() -> None:
    pairs, refusals = pairs_of(reply(1, "Pilchard  it is.", edited="Pilchard it is."))
    assert (pairs, refusals) == ([], {"m1": "no_side_taken"})
    assert told(pairs_of(reply(1, "Pilchard it is.", edited="Pilchard it is!"))[0]) == [("Pilchard it is!", "Pilchard it is.")]


def test_a_text_that_was_taken_once_and_rejected_once_is_neither() -> None:
    pairs, refusals = pairs_of(reply(1, "Pilchard.", truth=1), reply(2, "Pilchard.", truth=-1), reply(3, "Admiral.", truth=-1))
    assert pairs == []
    assert refusals == {"m1": "both_sides_taken", "m2": "both_sides_taken", "m3": "nothing_to_set_it_against"}


def test_a_reply_that_was_edited_is_not_chosen_for_another_even_if_it_was_rated_true() -> None:
    pairs, _ = pairs_of(reply(1, "Pilchard.", truth=1, edited="Old Pilchard."), reply(2, "Admiral.", truth=-1))
    assert told(pairs) == [("Old Pilchard.", "Pilchard."), ("Old Pilchard.", "Admiral.")]


def test_of_several_true_replies_the_newest_is_set_against_the_others() -> None:
    pairs, _ = pairs_of(reply(5, "Pilchard, newer.", truth=1), reply(2, "Pilchard.", truth=1), reply(9, "Admiral.", truth=-1))
    assert told(pairs) == [("Pilchard, newer.", "Admiral.")]


def test_a_reply_on_a_deleted_document_teaches_nothing_any_more() -> None:
    pairs, refusals = make_pairs(NORA, [reply(1, "Admiral.", edited="Pilchard!")], {}, None, FakeEmbedder())
    assert (pairs, [refusal.reason for refusal in refusals]) == ([], ["source_gone"])


def test_a_pair_that_does_not_fit_is_refused_by_its_replies_and_the_others_stay() -> None:
    """One long edit ended the whole training, of every other pair too."""
    pairs, _ = pairs_of(reply(1, "Admiral.", edited="Pilchard " * 40), reply(2, "A dog.", "What barks?", edited="Nothing."))
    kept, refused = keep_fitting(pairs, lambda messages: len(messages[-1].content.split()), 39)
    assert [pair.message_ids for pair in kept] == [("m2",)]
    assert refused == [PairRefusal("m1", "too_long")]
    assert keep_fitting(pairs, lambda messages: len(messages[-1].content.split()), 40) == (pairs, [])


def test_a_golden_question_is_not_learnt_from_feedback_either() -> None:
    golden = GoldenSet((GoldenQuestion("q", CAT, ("Pilchard",), "diary.md"),), (), "0" * 64)
    assert pairs_of(reply(1, "Admiral.", edited="Pilchard!"), golden=golden) == ([], {"m1": "golden_question"})


ratings = st.sampled_from([None, -1, 0, 1])
replies = st.lists(
    st.tuples(
        st.sampled_from(["A.", "B.", "C."]),
        st.sampled_from([CAT, "Where is the key?"]),
        ratings,
        ratings,
        st.sampled_from([None, "A.", "D."]),
    ),
    max_size=8,
)


@given(replies)
def test_no_text_is_both_chosen_and_rejected_and_every_reply_is_in_a_pair_or_refused(given_replies: list[Any]) -> None:
    rated = [
        reply(number, said, question, voice=voice, truth=truth, edited=edited)
        for number, (said, question, voice, truth, edited) in enumerate(given_replies)
    ]
    pairs, refusals = pairs_of(*rated)
    for question in (CAT, "Where is the key?"):
        of_it = [pair for pair in pairs if pair.prompt[-1].content == question]
        assert {pair.chosen for pair in of_it}.isdisjoint(pair.rejected for pair in of_it)
    paired = {message_id for pair in pairs for message_id in pair.message_ids}
    assert {one.message_id for one in rated} == paired | refusals.keys()
    assert paired.isdisjoint(refusals)
    assert len({pair.pair_id for pair in pairs}) == len(pairs)
    true = {one.reply for one in rated if one.truth == 1} | {one.edited for one in rated}
    assert {pair.chosen for pair in pairs} <= true
