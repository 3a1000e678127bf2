"""Who answers: the model of the settings, the twin, its base, the best line; each step down is named, nothing is made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.answering import StepName, tidy
from lpm_kernel.chat import begin_turn, stream_turn
from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.records import ChatMessage, Message
from lpm_kernel.reply import MAY_DECLINE, Reply
from lpm_kernel.stores.ballot_drafts import list_drafts
from lpm_kernel.stores.conversations import find_message
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.test_chat import OLD, llm, twin

__all__ = ["llm", "twin"]  # fixtures
CAT = "What is your cat called?"
STOPPED = LlmError("decode_failed", "the model stopped")


class FakeAnswerer:
    """Says what it is told to, word by word; an exception among the words is raised in its place."""

    def __init__(self, *said: str | Exception) -> None:
        self.said = said
        self.asked: list[tuple[Message, ...]] = []

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        self.asked.append(tuple(messages))
        for piece in self.said:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        pass


def reply_to(stores: Stores, llm: FakeLlm, twin: str, folder: Path, question: str = CAT) -> Reply:
    return stream_turn(stores, llm, begin_turn(stores, llm, twin, question, "s"), folder)


def steps(degraded: Sequence[str]) -> tuple[str, ...]:
    """Without the parts of the memory, which a machine at work elsewhere may be too slow for."""
    return tuple(name for name in degraded if name in get_args(StepName))


def stored(stores: Stores, reply: Reply) -> ChatMessage | None:
    with stores.tables.transaction(reply.turn.user.user_id) as connection:
        return find_message(connection, reply.turn.user.user_id, reply.turn.answer_id)


def test_the_model_of_the_settings_answers_from_the_same_prompt(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    answerer = FakeAnswerer("My cat ", "is Pilchard.")
    reply = reply_to(replace(stores, answerer=answerer), llm, twin, tmp_path)
    assert "".join(reply) == "My cat is Pilchard."
    assert (steps(reply.turn.degraded), llm.calls) == ((), [])
    [system, question] = answerer.asked[0]
    assert OLD in system.content
    assert system.content.endswith(MAY_DECLINE), "it was not trained to decline"
    assert question == Message("user", CAT)
    message = stored(stores, reply)
    assert message is not None
    assert (message.content, steps(message.degraded), message.cut_off) == ("My cat is Pilchard.", (), False)
    assert message.citations


def test_a_model_elsewhere_that_fails_is_answered_for_by_the_twin(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.append("Pilchard.")
    away = FakeAnswerer(LlmError("answerer_unavailable", "told to"))
    reply = reply_to(replace(stores, answerer=away), llm, twin, tmp_path)
    assert ("".join(reply), steps(reply.turn.degraded)) == ("Pilchard.", ("answerer",))
    assert llm.calls[0].adapter is not None
    message = stored(stores, reply)
    assert message is not None
    assert steps(message.degraded) == ("answerer",)


def test_a_question_that_is_refused_is_asked_of_nobody_else(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    refusing = FakeAnswerer(LlmError("answerer_refused", "declined", retryable=False))
    reply = reply_to(replace(stores, answerer=refusing), llm, twin, tmp_path)
    with pytest.raises(LlmError) as caught:
        list(reply)
    assert (caught.value.code, llm.calls, stored(stores, reply)) == ("answerer_refused", [], None)


def test_an_adapter_that_is_refused_is_answered_for_by_the_base(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.append("Pilchard.")
    turn = begin_turn(stores, llm, twin, CAT, "s")
    foreign = replace(turn, release=replace(turn.release, base_sha256="f" * 64))
    reply = stream_turn(stores, llm, foreign, tmp_path)
    assert ("".join(reply), steps(reply.turn.degraded)) == ("Pilchard.", ("adapter",))
    assert [(call.adapter, call.declining) for call in llm.calls] == [(None, None)], "the base never learnt to decline"


def test_where_no_model_answers_the_best_line_stands_as_it_is_with_its_citation_alone(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.extend([STOPPED, STOPPED])
    away = FakeAnswerer(LlmError("answerer_unavailable", "told to"))
    reply = reply_to(replace(stores, answerer=away), llm, twin, tmp_path)
    assert "".join(reply) == OLD
    assert steps(reply.turn.degraded) == ("answerer", "adapter", "base")
    assert [line.text for line in reply.turn.lines] == [OLD]
    message = stored(stores, reply)
    assert message is not None
    assert (message.content, len(message.citations), steps(message.degraded)) == (OLD, 1, ("answerer", "adapter", "base"))


def test_where_no_line_answers_either_nothing_is_said_in_its_place(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.extend([STOPPED, STOPPED])
    reply = reply_to(stores, llm, twin, tmp_path, "Good morning to you!")
    with pytest.raises(LlmError) as caught:
        list(reply)
    assert (caught.value.code, caught.value.retryable) == ("answer_unavailable", True)
    assert stored(stores, reply) is None


def test_who_has_waited_in_vain_for_one_model_waits_for_no_other(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    busy = LlmError("engine_busy", "no turn came in 60 s", retry_after_s=7.0)
    llm.answers.extend([busy, busy])
    reply = reply_to(stores, llm, twin, tmp_path)
    assert "".join(reply) == OLD
    assert (len(llm.calls), steps(reply.turn.degraded)) == (1, ("adapter", "base"))
    with pytest.raises(LlmError) as caught:
        list(reply_to(stores, llm, twin, tmp_path, "Good morning to you!"))
    assert (caught.value.code, caught.value.retry_after_s) == ("engine_busy", 7.0)


@pytest.mark.parametrize("code", ["too_many_requests", "prompt_too_long", "engine_closed", "listener_left"])
def test_an_engine_that_is_closed_or_a_prompt_that_is_too_long_is_no_reason_for_another_model(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path, code: str
) -> None:
    llm.answers.append(LlmError(code, "told to"))
    with pytest.raises(LlmError) as caught:
        list(reply_to(stores, llm, twin, tmp_path))
    assert (caught.value.code, len(llm.calls)) == (code, 1)


def test_a_model_that_fails_in_the_middle_ends_the_answer_and_what_was_said_is_kept_as_cut_off(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    breaking = FakeAnswerer("My cat ", "is ", LlmError("answerer_unavailable", "broke off"))
    reply = reply_to(replace(stores, answerer=breaking), llm, twin, tmp_path)
    with pytest.raises(LlmError):
        list(reply)
    message = stored(stores, reply)
    assert message is not None
    assert (message.content, message.cut_off, llm.calls) == ("My cat is", True, [])


@pytest.mark.parametrize("said", [("My cat ", "is ", " \n"), ("My cat is",)])
def test_an_answer_whose_listener_left_is_kept_as_cut_off_whatever_was_held_back(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path, said: tuple[str, ...]
) -> None:
    """Where the last piece was blank nobody was asked between it and the quiet end of the stream: half an answer was stored as
    the whole of it, and its ballots were read."""
    left = FakeAnswerer(*said, LlmError("listener_left", "whoever asked has left", retryable=False))
    reply = reply_to(replace(stores, answerer=left), llm, twin, tmp_path)
    assert "".join(reply) == "My cat is"
    message = stored(stores, reply)
    assert message is not None
    assert (message.content, message.cut_off, llm.calls) == ("My cat is", True, [])


def test_an_answer_is_stored_once_though_it_is_ended_twice(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.append("one two three")
    reply = reply_to(stores, llm, twin, tmp_path)
    assert next(reply) == "one"
    reply.close()
    reply.close()
    assert list(reply) == []
    message = stored(stores, reply)
    assert message is not None
    assert (message.content, message.cut_off) == ("one", True)


def test_tables_that_fail_at_the_end_make_no_success(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    from tests.fakes import FailingTables

    llm.answers.append("Pilchard.")
    turn = begin_turn(stores, llm, twin, CAT, "s")
    reply = stream_turn(replace(stores, tables=FailingTables(stores.tables)), llm, turn, tmp_path)
    with pytest.raises(StoreError):
        list(reply)
    assert (reply.message, stored(stores, reply)) == (None, None)


BALLOT = "## VOTE: for\nProposal: P-12\nReason: We need benches."


def drafts(stores: Stores, user_id: str) -> list[tuple[str, str, str | None]]:
    with stores.tables.transaction(user_id) as connection:
        return [(k.draft.proposal, k.draft.choice, k.draft.reason) for k in list_drafts(connection, user_id)]


def test_a_ballot_in_an_answer_is_kept_as_a_draft_of_that_answer(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.append(BALLOT)
    reply = reply_to(stores, llm, twin, tmp_path, "I want benches in the park. Vote for me on P-12.")
    list(reply)
    assert drafts(stores, twin) == [("P-12", "for", "We need benches.")]
    assert [kept.message_id for kept in reply.drafts] == [reply.turn.answer_id]


def test_who_asks_for_a_ballot_has_its_form_told_to_the_model(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.append(BALLOT)
    turn = begin_turn(stores, llm, twin, "Please draft my ballot about my cat called Pilchard.", "s")
    assert turn.route == "act"
    assert "## VOTE:" in turn.messages[0].content
    other = begin_turn(stores, llm, twin, CAT, "s")
    assert (other.route, "## VOTE:" in other.messages[0].content) == ("own_memory", False)


def test_half_an_answer_and_a_quoted_line_draft_nothing(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.append(BALLOT + " And more.")
    cut = reply_to(stores, llm, twin, tmp_path, "Tell me of benches, please do.")
    for _ in range(8):
        next(cut)
    cut.close()
    assert drafts(stores, twin) == []


def test_a_twin_that_declines_is_asked_for_by_no_model(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    answerer = FakeAnswerer("never")
    reply = reply_to(replace(stores, answerer=answerer), llm, twin, tmp_path, "Which newspaper does your dentist read?")
    assert ("".join(reply), answerer.asked, reply.turn.answerable) == (DECLINE, [], False)


@given(st.lists(st.text()))
def test_tidy_pieces_are_the_text_without_space_around_it_and_none_is_empty(pieces: list[str]) -> None:
    tidied = list(tidy(iter(pieces)))
    assert "".join(tidied) == "".join(pieces).strip()
    assert all(tidied)
