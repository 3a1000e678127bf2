"""Picks of a calibration to preference pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lpm_kernel.L2.picked_pairs import pairs_of_picks
from lpm_kernel.L2.preference_pairs import make_pairs
from lpm_kernel.L2.prompt import twin_messages
from lpm_kernel.L2.records import GoldenQuestion, GoldenSet, PreferencePair
from lpm_kernel.stores.calibration import CalibrationPair, Pick
from tests.fakes import FakeEmbedder
from tests.L2.test_preference_pairs import CAT, CITED, LINES, NORA, reply
from tests.samples import NOON


def shown(number: int, pick: Pick | None, twin: str = "Pilchard!", base: str = "A cat.", **others: Any) -> CalibrationPair:
    at = None if pick is None else NOON
    pair = CalibrationPair(f"p{number}", "run", "r", CAT, CITED, twin, base, True, NOON, pick, at)
    return replace(pair, **others)


def pairs_of(*picks: CalibrationPair, **others: Any) -> tuple[list[PreferencePair], dict[str, str]]:
    given = {"golden": None, "known": ()} | others
    pairs, refusals = pairs_of_picks(NORA, picks, LINES, given["golden"], FakeEmbedder(), given["known"])
    return pairs, {refusal.message_id: refusal.reason for refusal in refusals}


def test_the_picked_answer_is_preferred_on_the_prompt_that_both_were_given_to() -> None:
    (first, second), refusals = pairs_of(shown(1, "twin"), shown(2, "base", twin="Meow.", base="Pilchard."))
    assert (first.chosen, first.rejected, first.signal, first.message_ids) == ("Pilchard!", "A cat.", "pick", ("p1",))
    assert (second.chosen, second.rejected) == ("Pilchard.", "Meow.")
    assert first.prompt == twin_messages(NORA, CAT, list(LINES.values()))
    assert first.sources == CITED
    assert refusals == {}


def test_what_nobody_picked_says_nothing_and_neither_does_neither() -> None:
    assert pairs_of(shown(1, None), shown(2, "neither")) == ([], {"p2": "no_side_taken"})


def test_a_pick_of_a_golden_question_or_on_lines_that_are_gone_teaches_nothing() -> None:
    golden = GoldenSet((GoldenQuestion("g", CAT, ("Pilchard",), "diary.md", ""),), (), "x")
    assert pairs_of(shown(1, "twin"), golden=golden) == ([], {"p1": "golden_question"})
    gone = (replace(CITED[0], chunk_id="gone"),)
    assert pairs_of(shown(1, "twin", citations=gone)) == ([], {"p1": "source_gone"})


def test_a_text_that_was_taken_once_and_left_once_is_neither() -> None:
    pairs, refusals = pairs_of(shown(1, "twin"), shown(2, "base"), shown(3, "twin", twin="Yes.", base="No."))
    assert [pair.message_ids for pair in pairs] == [("p3",)]
    assert refusals == {"p1": "both_sides_taken", "p2": "both_sides_taken"}


def test_what_was_rated_or_edited_stands_above_a_pick() -> None:
    rated, _ = make_pairs(NORA, [reply(1, "Pilchard!", edited="A cat.")], LINES, None, FakeEmbedder())
    assert pairs_of(shown(1, "twin"), known=rated) == ([], {"p1": "both_sides_taken"})


def test_the_same_pick_again_is_one_pair() -> None:
    pairs, refusals = pairs_of(shown(1, "twin"), shown(2, "twin"))
    assert (len(pairs), refusals) == (1, {"p2": "said_before"})
