"""Preferences of chat turns: recognised in words of no example, only a person's own, and kept as memories that last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpm_kernel.L0.preference_head import PreferenceHead, read_examples
from lpm_kernel.recall.turn_preferences import own_sentences, preference_memories
from lpm_kernel.records import Memory
from lpm_kernel.stores.embedder import MiniLmEmbedder
from tests.fakes import FakeEmbedder
from tests.samples import make_message


@pytest.fixture(scope="module")
def head() -> PreferenceHead:
    return PreferenceHead(MiniLmEmbedder())


def told(head: PreferenceHead, text: str, sender: str = "user") -> list[Memory]:
    return preference_memories(replace(make_message("1", 1, text), sender=sender), 7, head)


@pytest.mark.parametrize(
    "sentence",
    [
        "I prefer trains to planes.",
        "Fluorescent lamps make my eyes hurt.",
        "I'm allergic to shellfish.",
        "Long commutes are a dealbreaker for me.",
        "I have a severe fear of dogs.",
        "My favourite instrument is the cello.",
        "As a vegan, I need recipes without eggs.",
        "I've always hated camping.",
        "“I will only buy furniture made of real wood.”",
    ],
)
def test_a_lasting_preference_is_recognised_however_it_is_said(head: PreferenceHead, sentence: str) -> None:
    (memory,) = told(head, sentence)
    assert memory.text == sentence.strip("“”")


@pytest.mark.parametrize(
    "sentence",
    [
        "Can you recommend a restaurant in Lisbon?",
        "Write a poem about a man who hates the rain.",
        "I want you to translate the next message.",
        "Please correct my grammar.",
        "The function should return an error.",
        "I get a timeout when I open the page.",
        "My sister hates camping.",
        "Continue.",
        "Hello!",
    ],
)
def test_a_request_a_report_and_another_person_tell_none(head: PreferenceHead, sentence: str) -> None:
    assert told(head, sentence) == []


def test_a_preference_becomes_a_memory_that_lasts_with_its_thing_and_its_turn(head: PreferenceHead) -> None:
    (memory,) = told(head, "Thanks! I really hate cold coffee. Where can I get a good kettle?")
    assert (memory.kind, memory.text, memory.domain) == ("preference", "I really hate cold coffee.", "cold coffee")
    assert (memory.source, memory.session_id, memory.turn, memory.expiration_date) == ("chat", "s", 7, None)
    assert memory.importance == 1.0


def test_neighbouring_sentences_that_tell_it_are_one_preference(head: PreferenceHead) -> None:
    found = told(head, "I dislike swimming. I much prefer hiking.\n\nCan you help me? I never eat meat.")
    assert [memory.text for memory in found] == ["I dislike swimming. I much prefer hiking.", "I never eat meat."]


def test_what_the_twin_says_is_nobodys_preference(head: PreferenceHead) -> None:
    """A twin's words that come back as the person's own make it drift away from the person."""
    assert told(head, "I love old maps.", sender="twin") == []


def test_code_quotations_and_pasted_text_are_not_a_persons_own_words() -> None:
    pasted = "She walked on. I hate this town, she thought. " * 60
    turn = f"I like tea.\n```\nI love tabs\n```\nHe said “I hate tea, and soup” again.\n{pasted}\nI like soup.\n"
    own = [sentence.text for sentence in own_sentences(turn)]
    assert own[0] == "I like tea."
    assert own[-1] == "I like soup."
    assert not any("tabs" in words for words in own)
    assert len(own) < 40


def test_a_turn_of_signs_alone_has_no_sentences() -> None:
    assert own_sentences("??\n\n—\n\n\n") == []


def test_the_same_examples_and_embedder_give_the_same_judgement() -> None:
    sentences = own_sentences("I like tea. Write a poem.")
    one, other = (PreferenceHead(FakeEmbedder()).judge(sentences) for _ in range(2))
    assert [judged.score for judged in one] == [judged.score for judged in other]
    assert PreferenceHead(FakeEmbedder()).judge([]) == []


def test_the_examples_are_of_both_kinds_and_none_is_in_both() -> None:
    examples = read_examples()
    texts = [text for text, _ in examples]
    assert len(set(texts)) == len(texts)
    assert 0.4 < np.mean([is_told for _, is_told in examples]) < 0.6
