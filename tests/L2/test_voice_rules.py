"""A measured voice as a few short rules, for a model that never learnt it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.artefacts import encode_record
from lpm_kernel.L0.voice import measure_voice
from lpm_kernel.L2.prompt import fit_messages, render_chatml, twin_messages
from lpm_kernel.L2.voice_rules import MOST_RULES, read_voice_rules, voice_rules
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Message, User, VoiceProfile
from lpm_kernel.stores.blobs import TenantBlobs
from tests.fakes import FakeLlm, MemoryBlobs

NORA = User("1", "Nora")
ORDINARY = {
    "words_a_sentence_mean": 15.0,
    "person.first_singular": 40.0,
    "person.first_plural": 5.0,
    "contraction": 8.0,
    "mark.exclamation": 2.0,
    "mark.dash": 3.0,
    "mark.semicolon": 1.0,
    "mark.ellipsis": 0.5,
    "emoji": 0.0,
}


def profile(**features: float) -> VoiceProfile:
    named = {name.replace("__", "."): value for name, value in features.items()}
    return VoiceProfile("1", {"words": 900}, {**ORDINARY, **named}, None, ())


def test_an_ordinary_voice_has_no_rule_and_neither_has_one_that_is_not_measured() -> None:
    assert voice_rules(profile()) == ()
    assert voice_rules(VoiceProfile("1", {}, None, "voice_too_little_text", ())) == ()
    assert voice_rules(None) == ()


@pytest.mark.parametrize(
    ("features", "rule"),
    [
        ({"words_a_sentence_mean": 8.2}, "Write short sentences, about 8 words each."),
        ({"words_a_sentence_mean": 27.0}, "Write long sentences, about 27 words each."),
        ({"contraction": 0.0}, "Write do not and I am, never don't or I'm."),
        ({"contraction": 25.0}, "Use contractions such as don't and I'm."),
        ({"mark__exclamation": 0.0}, "Use no exclamation mark."),
        ({"mark__exclamation": 20.0}, "Use exclamation marks!"),
        ({"mark__dash": 14.0}, "Set asides off with dashes."),
        ({"person__first_singular": 10.0, "person__first_plural": 30.0}, "Say we and our rather than I and my."),
        ({"emoji": 4.0}, "Use an emoji."),
    ],
)
def test_what_is_striking_is_a_rule(features: dict[str, float], rule: str) -> None:
    assert voice_rules(profile(**features)) == (rule,)


def test_the_most_striking_stands_first_and_the_fourth_is_left_out() -> None:
    rules = voice_rules(profile(contraction=60.0, mark__exclamation=30.0, mark__semicolon=9.0, emoji=1.1))
    assert rules == (
        "Use contractions such as don't and I'm.",
        "Use exclamation marks!",
        "Join clauses with semicolons.",
    )


@given(st.dictionaries(st.sampled_from(sorted(ORDINARY)), st.floats(0, 500), max_size=9))
def test_any_features_give_few_short_rules_and_the_same_again(features: dict[str, float]) -> None:
    told = VoiceProfile("1", {}, features, None, ())
    rules = voice_rules(told)
    assert rules == voice_rules(told)
    assert len(rules) == len(set(rules)) <= MOST_RULES
    assert all(len(rule.split()) <= 10 for rule in rules)


def test_real_features_have_every_name_that_a_rule_reads() -> None:
    assert ORDINARY.keys() <= measure_voice(["I never eat meat, and I do not miss it at all. " * 30]).features.keys()


def test_rules_stand_in_the_system_message_and_change_nothing_else() -> None:
    plain = twin_messages(NORA, "Lunch?", (), [Message("user", "Hello")])
    assert twin_messages(NORA, "Lunch?", (), [Message("user", "Hello")], rules=()) == plain
    ruled = twin_messages(NORA, "Lunch?", (), [Message("user", "Hello")], rules=("Use no exclamation mark.",))
    assert ruled[1:] == plain[1:]
    assert ruled[0].content == f"{plain[0].content} Use no exclamation mark."


def test_the_prompt_that_adapters_were_trained_on_is_to_the_character_what_it_was() -> None:
    """A rule that slipped into it made every trained adapter a little worse."""
    messages, _ = fit_messages(NORA, "Lunch?", (), (), FakeLlm(), 8)
    assert render_chatml(messages, open_answer=True) == (
        "<|im_start|>system\nYou are Nora. Answer as yourself, briefly.<|im_end|>\n"
        "<|im_start|>user\nLunch?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_rules_count_for_the_room_and_stay() -> None:
    llm = FakeLlm()
    rules = ("Use no exclamation mark.",)
    llm.context_tokens = llm.prompt_tokens(twin_messages(NORA, "Lunch?", rules=rules)) + 8
    messages, _ = fit_messages(NORA, "Lunch?", (), [Message("user", "Hello " * 20)], llm, 8, rules=rules)
    assert [message.role for message in messages] == ["system", "user"]
    assert messages[0].content.endswith(rules[0])


def test_rules_are_read_from_what_the_pipeline_left() -> None:
    blobs = MemoryBlobs()
    assert read_voice_rules(blobs, "1") == ()
    TenantBlobs(blobs, "1").put(asset_key("1", "voice_profile", "json"), encode_record(profile(emoji=9.0)))
    assert read_voice_rules(blobs, "1") == ("Use an emoji.",)
