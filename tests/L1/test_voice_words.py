"""A voice in words: every figure it says is a measured one, and the same figures give the same words."""

from __future__ import annotations

import pytest

from lpm_kernel.L0.voice import measure_voice
from lpm_kernel.L1.voice_words import describe_voice

FEATURES = {
    "words_a_sentence_mean": 8.6,
    "contraction": 14.2,
    "emoji": 0.0,
    "person.first_singular": 52.0,
    "person.first_plural": 12.0,
    "person.second": 0.0,
    "person.third": 3.0,
    "mark.exclamation": 1.0,
    "mark.question": 0.0,
    "mark.dash": 12.0,
    "mark.semicolon": 0.0,
    "mark.bracket": 4.0,
}


def test_a_voice_is_told_by_its_figures() -> None:
    assert describe_voice(FEATURES) == (
        "Writes short sentences, 9 words on average. Says I, me and my most (52 in 1,000 words), then we, us and our (12). "
        "Many contractions such as don't; many dashes; some brackets; few exclamation marks; no questions, semicolons, emoji."
    )


@pytest.mark.parametrize(("length", "word"), [(11.9, "short"), (12.0, "medium"), (20.0, "medium"), (20.1, "long")])
def test_a_sentence_is_short_or_long_by_what_plain_language_asks_for(length: float, word: str) -> None:
    assert f"Writes {word} sentences" in describe_voice({**FEATURES, "words_a_sentence_mean": length})


def test_whatever_is_measured_can_be_told() -> None:
    texts = ["We don't sail! Do you? I never would (not once); it is cold. " * 30]
    said = describe_voice(measure_voice(texts).features)
    assert said == describe_voice(measure_voice(texts).features)
    assert "words on average" in said
