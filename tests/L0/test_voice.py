"""Voice: figures that can be counted by hand, absence that is said, and one person nearer to themselves than to another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.L0.voice import MARKS, MIN_WORDS, UNITS, build_voice_profile, measure_voice, voice_distance
from lpm_kernel.settings import settings_path
from tests.samples import make_document

PEOPLE = settings_path({}).absolute().parent / "data" / "users"


def texts_of(person: str) -> list[str]:
    return [read_text(path.read_bytes(), mime_of(path.name)) for path in sorted((PEOPLE / person).iterdir())]


def test_lengths_and_rates_are_those_one_counts_by_hand() -> None:
    text = "# Heading\n\n" + "I like my soup, really.\n\n- You **can't** have everything again 😀!\n\n" * 25
    voice = measure_voice([text])
    assert (voice.documents, voice.sentences, voice.words) == (1, 50, 250)
    expected = {
        "words_a_sentence_mean": 5.0,
        "words_a_sentence_sd": 0.0,
        "person.first_singular": 200.0,
        "person.second": 100.0,
        "mark.comma": 100.0,
        "mark.exclamation": 100.0,
        "emoji": 100.0,
        "contraction": 100.0,
        "function.again": 100.0,
        "format.list_item": 100.0,
        "format.bold": 100.0,
        "format.heading": 4.0,
        "vocabulary_mattr": 0.1,
    }
    assert {name: voice.features[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_one_emoji_is_counted_once_whatever_it_is_made_of() -> None:
    """A thumb with a colour counted twice, a family three times and a flag not at all."""
    voice = measure_voice(["Well done, all of you 👍🏽 👨‍👩‍👧 🇵🇱 ❤️ again.\n\n" * 40])
    assert voice.features["emoji"] == pytest.approx(4 * 40 * 1000 / voice.words, abs=1e-3)


def test_signs_are_counted_as_they_are_typed_and_not_within_numbers() -> None:
    voice = measure_voice(["It cost 1,234.50 at 12:30 then - well... too much -- really.\n\n" * 40])
    counted = {name: round(voice.features[f"mark.{name}"] * voice.words / 1000 / 40, 3) for name in MARKS}
    assert {name: count for name, count in counted.items() if count} == {"full_stop": 1, "dash": 2, "ellipsis": 1}


def test_what_somebody_else_wrote_and_code_are_no_part_of_a_voice() -> None:
    own = "I like my soup, really.\n\n" * 60
    other = "> Whoever consumes bread, however, must be warned!\n\n```\nprint(whoever)\n```\n\n" * 20
    assert measure_voice([own + other]) == measure_voice([own])


def test_every_feature_has_a_unit() -> None:
    voice = measure_voice(["One two three four five six seven eight nine ten. " * 25])
    assert {name.partition(".")[0] for name in voice.features} == set(UNITS)


def test_too_little_text_is_an_error_with_its_count_and_never_a_figure() -> None:
    with pytest.raises(UserInputError, match=rf"voice_too_little_text: {MIN_WORDS - 1} words"):
        measure_voice(["word " * (MIN_WORDS - 1)])
    with pytest.raises(UserInputError, match="voice_too_little_text: 0 words"):
        measure_voice([])


def test_a_profile_of_too_little_text_says_why_it_has_no_features() -> None:
    """A persona made up where a person's text was missing once became everybody's."""
    document = make_document("1", "a.md", b"I love maps.", "read")
    profile = build_voice_profile("1", [document], {document.sha256: b"I love maps."}, [])
    assert profile.features is None
    assert (profile.absent or "").startswith("voice_too_little_text: 3 words")


def test_only_the_users_own_documents_are_measured() -> None:
    own, foreign = b"I like my soup. " * 60, b"They, however, consume bread! " * 60
    mine, reply = make_document("1", "a.md", own, "read"), make_document("1", "b.md", foreign, "read")
    texts = {mine.sha256: own, reply.sha256: foreign}
    profile = build_voice_profile("1", [mine, replace(reply, created_by="twin")], texts, [])
    assert profile.features == measure_voice([own.decode()]).features
    assert profile.measured["documents"] == 1


_RATES = st.dictionaries(st.sampled_from(["function.the", "mark.comma", "emoji"]), st.floats(0, 200), min_size=3, max_size=3)


@given(_RATES, _RATES, st.floats(1, 40), st.floats(1, 40))
def test_a_distance_is_symmetric_not_negative_and_zero_for_equals(a: dict, b: dict, c: float, d: float) -> None:
    a, b = a | {"words_a_sentence_mean": c}, b | {"words_a_sentence_mean": d}
    assert voice_distance(a, b) == voice_distance(b, a) >= 0
    assert voice_distance(a, a) == 0


def test_voices_of_other_features_are_not_compared() -> None:
    with pytest.raises(UserInputError, match="voices_not_comparable"):
        voice_distance({"emoji": 1.0}, {"mark.comma": 1.0})


def test_formatting_is_no_part_of_the_distance() -> None:
    assert voice_distance({"format.bold": 1.0, "emoji": 1.0}, {"format.bold": 90.0, "emoji": 1.0}) == 0


@pytest.mark.parametrize("half", [slice(0, None, 2), slice(1, None, 2)])
@pytest.mark.parametrize(("one", "other"), [("1", "2"), ("2", "1")])
def test_two_halves_of_one_person_are_nearer_than_the_other_person(one: str, other: str, half: slice) -> None:
    own = texts_of(one)
    rest = [text for text in own if text not in own[half]]
    measured = measure_voice(own[half]).features
    within = voice_distance(measured, measure_voice(rest).features)
    for part in (slice(0, None, 2), slice(1, None, 2)):
        assert within < voice_distance(measured, measure_voice(texts_of(other)[part]).features)
