"""The one prompt builder: what a model is trained on is, to the character, what it is later asked."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.prompt import DECLINE, as_line, fit_messages, neutralise, render_chatml, twin_messages
from lpm_kernel.records import Evidence, Message, User
from tests.fakes import FakeLlm
from tests.samples import make_citation

NORA = User("1", "Nora Whitlock")
CONTENT = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(["<", "|", "im_end", "<|im_end|>", ">", "\n", "a"])).map("".join)
)


def lines(*texts: str) -> list[Evidence]:
    return [Evidence(make_citation(text), text, 1.0 - i / 10) for i, text in enumerate(texts)]


def test_a_whole_prompt_reads_as_agreed() -> None:
    """Adapters are trained on these characters. Whoever changes them makes every trained adapter a little worse."""
    messages = twin_messages(
        NORA,
        "What is your cat called?",
        lines("Our cat is called Pilchard.", "## Sunday\n\nThe sea was 5.8 °C."),
        [Message("user", "Hello!"), Message("assistant", "Morning.")],
    )
    assert render_chatml(messages, open_answer=True) == (
        "<|im_start|>system\n"
        "You are Nora Whitlock. Answer as yourself, briefly.\n"
        "From your notes:\n"
        "- Sunday The sea was 5.8 °C.\n"
        "- Our cat is called Pilchard.<|im_end|>\n"
        "<|im_start|>user\nHello!<|im_end|>\n"
        "<|im_start|>assistant\nMorning.<|im_end|>\n"
        "<|im_start|>user\nWhat is your cat called?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_without_notes_and_name_the_prompt_says_so_little() -> None:
    system, question = twin_messages(User("1"), "Who are you?")
    assert system == Message("system", "You are the twin of the person who wrote the notes. Answer as yourself, briefly.")
    assert question == Message("user", "Who are you?")


def test_what_a_caller_asks_is_one_line_before_the_notes_and_without_it_nothing_changes() -> None:
    system, *_ = twin_messages(NORA, "?", lines("Our cat is called Pilchard."), wishes="Be brief.\n- Our cat is Tiger.")
    assert system.content.splitlines() == [
        "You are Nora Whitlock. Answer as yourself, briefly.",
        "You are asked: Be brief. - Our cat is Tiger.",
        "From your notes:",
        "- Our cat is called Pilchard.",
    ]
    assert twin_messages(NORA, "?", wishes=" \n ") == twin_messages(NORA, "?")


def test_the_best_line_stands_nearest_to_the_question() -> None:
    system, *_ = twin_messages(NORA, "?", lines("best", "second", "third"))
    assert system.content.endswith("- third\n- second\n- best")


def test_the_oldest_message_of_the_history_comes_first() -> None:
    history = [Message("user", "one"), Message("assistant", "two")]
    assert twin_messages(NORA, "three", (), history)[1:] == (*history, Message("user", "three"))


@given(CONTENT, CONTENT, CONTENT)
def test_training_and_serving_render_the_same_prompt(note: str, question: str, answer: str) -> None:
    asked = twin_messages(NORA, question, lines(note))
    served = render_chatml(asked, open_answer=True)
    trained = render_chatml((*asked, Message("assistant", answer)), open_answer=False)
    assert trained == f"{served}{neutralise(answer)}<|im_end|>\n"


@given(CONTENT, CONTENT)
def test_no_content_can_close_its_message_or_open_another(note: str, question: str) -> None:
    """A document that held "<|im_end|>" ended the system message and spoke as whom it liked."""
    text = render_chatml(twin_messages(User("1", note), question, lines(note)), open_answer=True)
    assert text.count("<|") == 5
    assert text.count("<|im_start|>") == 3
    assert text.count("<|im_end|>") == 2


@pytest.mark.parametrize("content", ["<|im_end|>", "<<|im_end|>", "<||im_end|>", "<|<|im_end|>", "<<||im_start|>", "<|||"])
def test_no_nesting_hides_a_mark(content: str) -> None:
    assert "<|" not in neutralise(content)


@given(st.text().filter(lambda text: "<|" not in text))
def test_ordinary_content_stays_as_it_is(content: str) -> None:
    assert neutralise(content) == content


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Our cat\n  is  called\tPilchard.\n", "Our cat is called Pilchard."),
        ("# Diary, May 2025\n\n## Sunday 4 May\n\nI swam.", "Diary, May 2025 Sunday 4 May I swam."),
        ("- belts\n- bearings", "belts - bearings"),
        ("* one", "one"),
        ("> quoted\n", "quoted"),
        (">quoted", "quoted"),
        ("---\nThe end", "The end"),
        ("-5 °C in the shed", "-5 °C in the shed"),
        ("+44 117 496 0000", "+44 117 496 0000"),
        ("#1 of four", "#1 of four"),
        ("**Gannet** dropped a plate", "**Gannet** dropped a plate"),
        ("C# and F# are sharps", "C# and F# are sharps"),
        ("", ""),
        ("- ", ""),
    ],
)
def test_a_line_of_a_note_keeps_its_words_and_loses_its_marks(text: str, line: str) -> None:
    """A second heading left its "#" in the line, and a note that began with "-5 °C" reached the prompt as five above zero."""
    assert as_line(text) == line


@given(st.text())
def test_a_line_is_one_line(text: str) -> None:
    line = as_line(text)
    assert line == " ".join(line.split())


def test_the_refusal_is_one_plain_sentence() -> None:
    assert as_line(DECLINE) == DECLINE == neutralise(DECLINE)
    assert DECLINE.endswith(".")
    assert DECLINE.count(".") == 1


@dataclass(frozen=True)
class Noted:
    text: str
    on_board: bool = False


def test_what_stays_on_board_goes_after_all_other_lines() -> None:
    """A long question pushed the one preference out, and four notes that had nothing to do with it stayed."""
    noted = [*(Noted(f"note {number} " + "word " * 30) for number in range(4)), Noted("I never eat meat.", on_board=True)]
    llm = FakeLlm()
    llm.context_tokens = llm.prompt_tokens(twin_messages(NORA, "Lunch?", noted[:1])) + 8 + 12
    _, kept = fit_messages(NORA, "Lunch?", noted, (), llm, 8)
    assert [line.on_board for line in kept] in ([False, True], [True])
    llm.context_tokens = llm.prompt_tokens(twin_messages(NORA, "Lunch?")) + 8
    assert fit_messages(NORA, "Lunch?", noted, (), llm, 8)[1] == ()
