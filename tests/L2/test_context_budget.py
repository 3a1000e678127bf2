"""Long talk, long questions, many lines: the budget makes them fit, or says that the question is too long; nothing crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_kernel.chat import MAX_QUESTION_CHARACTERS
from lpm_kernel.errors import UserInputError
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.L2.prompt import DECLINE, fit_messages
from lpm_kernel.records import Message, User

MABEL = User("mabel", "Mabel")
ANSWER_TOKENS = 16


@dataclass(frozen=True)
class Note:
    text: str
    on_board: bool = False


@pytest.fixture(scope="module")
def engine(tiny_qwen: BaseModel) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(tiny_qwen, slots=1, context_tokens=256)
    yield engine
    engine.close()


WORDS = st.one_of(
    st.text(max_size=300),
    st.text("a \n<|>im_end🐈‍⬛é", max_size=300),
    st.integers(1, 400).map(lambda count: "the spare key " * count),
)


@settings(max_examples=25)
@given(
    question=WORDS,
    lines=st.lists(st.builds(Note, WORDS, st.booleans()), max_size=12),
    talk=st.lists(WORDS, max_size=12),
)
def test_whatever_is_said_fits_the_model_or_is_named_as_too_long(
    engine: LlamaCpp, question: str, lines: list[Note], talk: list[str]
) -> None:
    history = [Message("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(talk)]
    try:
        messages, kept = fit_messages(MABEL, question, lines, history, engine, ANSWER_TOKENS)
    except UserInputError as error:
        code = error.code
    else:
        code = None
    if code is not None:
        assert code == "question_too_long"
        bare, _ = fit_messages(MABEL, "", [], [], engine, ANSWER_TOKENS)
        assert engine.prompt_tokens((bare[0], Message("user", question))) + ANSWER_TOKENS > engine.context_tokens
        return
    assert messages[-1].content == question
    in_order = iter(lines)
    assert all(note in in_order for note in kept)
    assert list(messages[1:-1]) == history[len(history) - (len(messages) - 2) :], "the newest talk stays"
    stream = engine.stream(messages, tenant="mabel", max_tokens=ANSWER_TOKENS)
    stream.close()  # type: ignore[attr-defined]


def test_a_prompt_that_fills_the_context_to_the_last_token_is_answered_to_its_end(engine: LlamaCpp) -> None:
    talk = [Message("user" if number % 2 == 0 else "assistant", "the spare key " * 9) for number in range(40)]
    notes = [Note(f"Note {number}: " + "tea " * 20) for number in range(20)]
    for length in range(1, 60, 7):
        messages, _ = fit_messages(MABEL, "key " * length, notes, talk, engine, ANSWER_TOKENS)
        assert engine.prompt_tokens(messages) + ANSWER_TOKENS <= engine.context_tokens
        for declining in (None, DECLINE):
            list(engine.stream(messages, tenant="mabel", max_tokens=ANSWER_TOKENS, declining=declining))
    bare, _ = fit_messages(MABEL, "?", [], [], engine, 0)
    room = engine.context_tokens - engine.prompt_tokens(bare)
    list(engine.stream(bare, tenant="mabel", max_tokens=room))


def test_the_longest_question_that_a_chat_takes_is_refused_when_it_is_too_long_for_the_model(engine: LlamaCpp) -> None:
    with pytest.raises(UserInputError) as caught:
        fit_messages(MABEL, "🐈" * MAX_QUESTION_CHARACTERS, [], [], engine, ANSWER_TOKENS)
    assert caught.value.code == "question_too_long"
