"""Which sequence holds what, proved on a context that computes nothing but refuses every wrong move."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.context_pool import ContextPool, Place
from lpm_kernel.L2.llama_batch import decode_together
from lpm_kernel.L2.llama_stream import decode_one, whole_characters

VOCABULARY = 12
END = 0


class StrictContext:
    """Holds tokens, and says as the next token a number that depends on all of them. Counts what it had to compute."""

    def __init__(self, sequences: int) -> None:
        self.sequences = sequences
        self.held: list[list[int]] = [[] for _ in range(sequences)]
        self.computed = 0
        self.forgotten = 0

    def forget(self) -> None:
        self.held = [[] for _ in range(self.sequences)]
        self.forgotten += 1

    def cut(self, sequence: int, length: int) -> None:
        assert length <= len(self.held[sequence])
        del self.held[sequence][length:]

    def copy(self, source: int, target: int) -> None:
        assert source != target
        self.held[target] = list(self.held[source])

    def extend(self, sequence: int, start: int, ids: list[int]) -> int:
        assert len(self.held[sequence]) == start
        assert len(ids) > 0
        self.computed += len(ids)
        self.held[sequence] += ids
        return self.next_token(sequence)

    def step(self, tokens: list[int], positions: list[int]) -> list[int]:
        assert 1 <= len(tokens) <= self.sequences
        for sequence, (token, position) in enumerate(zip(tokens, positions, strict=True)):
            assert len(self.held[sequence]) == position
            self.held[sequence].append(token)
        self.computed += len(tokens)
        return [self.next_token(sequence) for sequence in range(len(tokens))]

    def next_token(self, sequence: int) -> int:
        return hashlib.sha256(bytes(self.held[sequence])).digest()[0] % VOCABULARY


def ends(token: int) -> bool:
    return token == END


def alone(prompt: list[int], max_tokens: int) -> list[int]:
    context, answer = StrictContext(1), []
    token = context.extend(0, 0, prompt)
    while not ends(token) and len(answer) < max_tokens:
        answer.append(token)
        token = context.extend(0, len(prompt) + len(answer) - 1, [token])
    return answer


def one(place: Place, context: Any, owner: tuple[str, str | None], prompt: list[int], max_tokens: int = 6) -> list[int]:
    return list(decode_one(place, context, owner, prompt, max_tokens, ends))


prompts = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=12), max_size=20)


@given(prompts, st.integers(1, 5), st.integers(1, 9))
def test_prompts_decoded_together_get_the_answers_they_get_alone(
    asked: list[list[int]], sequences: int, max_tokens: int
) -> None:
    context: Any = StrictContext(sequences)
    assert decode_together(context, asked, max_tokens, ends) == [alone(prompt, max_tokens) for prompt in asked]


def test_what_prompts_begin_with_is_computed_once() -> None:
    shared = [1, 2, 3] * 20
    context: Any = StrictContext(4)
    decode_together(context, [[*shared, 4, 5], [*shared, 6, 7], [*shared, 8, 9], [*shared, 5, 5]], 1, ends)
    assert context.computed == len(shared) + 4 * 2


def test_no_token_is_computed_that_no_answer_needs() -> None:
    context: Any = StrictContext(2)
    prompt = next([number, number] for number in range(1, 200) if len(alone([number, number], 5)) == 5)
    decode_together(context, [prompt], 5, ends)
    assert context.computed == 2 + 4


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, "x"]), prompts), max_size=8))
def test_a_place_passed_between_owners_answers_each_as_if_it_were_new(turns: list[tuple[str, str | None, Any]]) -> None:
    place, context = Place(), StrictContext(1)
    for tenant, adapter, asked in turns:
        for prompt in asked:
            assert one(place, context, (tenant, adapter), prompt) == alone(prompt, 6)


def test_only_the_owner_finds_what_was_computed_before() -> None:
    prompt = [1, 2, 3, 1, 2, 3]
    place: Place = Place()
    context: Any = StrictContext(1)
    turns = [(("a", "x"), 6), (("a", "x"), 1), (("b", "x"), 6), (("b", None), 6), (("b", None), 1), (("a", "x"), 6)]
    for owner, computed in turns:
        before = context.computed
        list(decode_one(place, context, owner, prompt, 1, ends))
        assert context.computed - before == computed
    assert context.forgotten == 4


def test_an_answer_closed_early_leaves_the_place_truthful() -> None:
    place = Place()
    context: Any = StrictContext(1)
    prompt = next([number, number] for number in range(1, 200) if len(alone([number, number], 6)) == 6)
    answer: Any = decode_one(place, context, ("a", None), prompt, 6, ends)
    assert [next(answer), next(answer)] == alone(prompt, 6)[:2]
    answer.close()
    assert place.held == context.held[0]
    assert one(place, context, ("a", None), prompt) == alone(prompt, 6)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30), st.lists(st.integers(1, 3), min_size=1))
def test_pieces_are_whole_characters_wherever_the_tokens_are_cut(text: str, sizes: list[int]) -> None:
    data, pieces, number = text.encode(), [], 0
    while data:
        size = sizes[number % len(sizes)]
        pieces.append(data[:size])
        data, number = data[size:], number + 1
    written = list(whole_characters(pieces))
    assert "".join(written) == text
    assert all(written)


def test_an_answer_cut_inside_a_character_ends_in_the_replacement_sign() -> None:
    assert list(whole_characters([b"a", "🙂".encode()[:2]])) == ["a", "\ufffd"]


def test_places_are_lent_in_the_order_of_asking() -> None:
    pool = ContextPool(1)
    served: list[int] = []
    threads = []

    def ask(number: int) -> None:
        with pool.lend((str(number), None)):
            served.append(number)

    with pool.lend(("first", None)):
        for number in range(5):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            while pool.waiting() <= number:
                threading.Event().wait(0.001)
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4]


def test_a_place_goes_to_whom_it_served_last_else_the_longest_unused() -> None:
    pool = ContextPool(2)
    with pool.lend(("a", None)) as first, pool.lend(("b", None)) as second:
        first.owner, second.owner = ("a", None), ("b", None)
        assert first is not second
    with pool.lend(("a", None)) as place:
        assert place is first
    with pool.lend(("new", None)) as place:
        assert place is second


def test_who_waits_when_the_pool_closes_is_told() -> None:
    pool = ContextPool(1)
    with pool.lend(("a", None)):
        pool.refuse()
        with pytest.raises(LlmError, match="engine_closed"), pool.lend(("b", None)):
            pass


def test_who_waited_long_enough_is_told_to_come_back_and_holds_up_nobody() -> None:
    """Nothing ended the wait, so requests of listeners long gone stood in line before those still there."""
    pool = ContextPool(1)
    with pool.lend(("a", None)):
        with pytest.raises(LlmError, match="engine_busy") as caught, pool.lend(("b", None), 0.01):
            pass
        assert caught.value.retryable
        assert pool.waiting() == 0
    with pool.lend(("c", None), 0.01):
        pass
