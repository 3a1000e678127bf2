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
from lpm_kernel.L2.llama_lookup import Lookup
from lpm_kernel.L2.llama_stream import decode_one, decode_or_decline, whole_characters

VOCABULARY = 12
END = 0


class StrictContext:
    """Holds tokens, and says as the next token a number that depends on all of them. Counts what it had to compute."""

    def __init__(self, sequences: int) -> None:
        self.sequences = sequences
        self.held: list[list[int]] = [[] for _ in range(sequences)]
        self.computed = 0
        self.forgotten = 0
        self.last: tuple[list[int], list[int]] = [], []

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

    def extend_guessed(self, start: int, token: int, guess: list[int]) -> list[int]:
        assert END not in guess
        self.computed += len(guess)
        run = [self.extend(0, start, [token])]
        while len(run) <= len(guess) and run[-1] == guess[len(run) - 1]:
            self.held[0].append(run[-1])
            run.append(self.next_token(0))
        self.last = self.held[0], run
        return run

    def extend_beside(self, start: int, ids: list[int], other: list[int]) -> tuple[list[int], float]:
        run = [self.extend(0, start, ids)]
        prompt = list(self.held[0])
        while len(run) < len(other) and run[-1] == other[len(run) - 1]:
            self.held[0].append(run[-1])
            run.append(self.next_token(0))
        self.last = self.held[0], run
        return run, sum(log_probability([*prompt, *other[:index]], token) for index, token in enumerate(other))

    def run_likelihood(self, count: int) -> float:
        held, run = self.last
        begin = len(held) - len(run) + 1
        return sum(log_probability(held[: begin + index], run[index]) for index in range(count))

    def next_token(self, sequence: int) -> int:
        return likeliest(self.held[sequence])


def likeliest(held: list[int]) -> int:
    return hashlib.sha256(bytes(held)).digest()[0] % VOCABULARY


def log_probability(held: list[int], token: int) -> float:
    """In quarters, so that sums are exact in whatever order."""
    sure = -(hashlib.sha256(bytes(held)).digest()[1] % 8) / 4
    return sure if token == likeliest(held) else sure - 0.25


def ends(token: int) -> bool:
    return token == END


def alone(prompt: list[int], max_tokens: int) -> list[int]:
    context, answer = StrictContext(1), []
    token = context.extend(0, 0, prompt)
    while not ends(token) and len(answer) < max_tokens:
        answer.append(token)
        token = context.extend(0, len(prompt) + len(answer) - 1, [token])
    return answer


def one(
    place: Place, context: Any, owner: tuple[str, str | None], prompt: list[int], max_tokens: int = 6, guesses: Any = None
) -> list[int]:
    return list(decode_one(place, context, owner, prompt, max_tokens, ends, guesses))


class Prophet:
    """Guesses rightly, wrongly, or the beginning rightly, as it is told; and holds the decoder to telling it what is said."""

    def __init__(self, prompt: list[int], right: list[int], wrong: list[int]) -> None:
        self.known = list(prompt)
        self.plan = list(zip(right, wrong, strict=False))

    def said(self, tokens: list[int], guessed: int) -> None:
        assert len(tokens) >= 1
        self.known += tokens

    def guess(self, limit: int) -> list[int]:
        right, wrong = self.plan.pop(0) if self.plan else (0, 0)
        found: list[int] = []
        while len(found) < right and (token := likeliest([*self.known, *found])) != END:
            found.append(token)
        return [*found, *([7] * wrong)][: max(limit, 0)]


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


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=6),
    st.lists(st.integers(0, 5)),
    st.lists(st.integers(0, 3)),
    st.integers(1, 9),
)
def test_whatever_is_guessed_the_answer_is_the_greedy_one_and_the_place_truthful(
    prompt: list[int], right: list[int], wrong: list[int], max_tokens: int
) -> None:
    place: Place = Place()
    context: Any = StrictContext(1)
    assert one(place, context, ("a", None), prompt, max_tokens, Prophet(prompt, right, wrong)) == alone(prompt, max_tokens)
    assert place.held == context.held[0]


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=6),
    st.lists(st.integers(1, 11), max_size=4),
    st.booleans(),
    st.integers(1, 9),
)
def test_what_declines_is_said_exactly_when_it_is_likelier_as_a_whole(
    prompt: list[int], words: list[int], alike: bool, max_tokens: int
) -> None:
    """Also where it begins as the greedy answer does, or is the greedy answer."""
    greedy = alone(prompt, max_tokens)
    declining = [*(greedy[: len(words)] if alike else words), END]
    place: Place = Place()
    context: Any = StrictContext(1)
    whole = greedy if len(greedy) == max_tokens else [*greedy, END]

    def likelihood(answer: list[int]) -> float:
        return sum(log_probability([*prompt, *answer[:index]], token) for index, token in enumerate(answer))

    said = declining[:-1] if likelihood(whole) < likelihood(declining) else greedy
    guesses: Any = Prophet(prompt, [2, 0, 3], [1, 1, 0])
    assert list(decode_or_decline(place, context, ("a", None), prompt, declining, max_tokens, ends, guesses)) == said
    assert place.held == context.held[0]


NOTE = b"- My cat is a one eyed tom called Pilchard and he bites .\n".split(b" ")


def looked_up(*said: bytes) -> tuple[list[bytes], Lookup]:
    """Words as tokens, each with the space before it but the first of the answer; what is said goes in one by one."""
    words = [b"", *(b" " + word for word in NOTE), b" Who", b" bites", b" ?", said[0], *(b" " + word for word in said[1:])]
    lookup = Lookup(range(len(words) - len(said)), lambda token: words[token])
    for token in range(len(words) - len(said), len(words)):
        lookup.said([token], 0)
    return words, lookup


def guessed(*said: bytes, limit: int = 20) -> bytes:
    words, lookup = looked_up(*said)
    return b"".join(words[token] for token in lookup.guess(limit))


def test_an_answer_is_guessed_from_the_sentence_that_begins_as_it_does() -> None:
    """Whether a word opens a line or the answer: it has a space before it in the one and none in the other."""
    assert guessed(b"My", b"cat", b"is") == b" a one eyed tom called Pilchard and"
    assert guessed(b"Oh", b"one", b"eyed", b"tom", b"called") == b" Pilchard and he bites"
    assert guessed(b"My", b"cat", b"is", limit=7) == b" a one eyed tom called Pilchard and"


def test_nothing_is_guessed_where_it_would_not_pay() -> None:
    """Too few words alike, another sentence, too little room, or nothing said yet."""
    assert guessed(b"My") == b""
    assert guessed(b"Oh", b"he", b"bites") == b""
    assert guessed(b"My", b"dog", b"is") == b""
    assert guessed(b"My", b"cat", b"is", limit=6) == b""
    assert Lookup([0, 1], lambda token: b" a").guess(20) == []


def test_after_a_wrong_guess_the_next_waits_and_after_a_right_one_it_reaches_farther() -> None:
    words, lookup = looked_up(b"My", b"cat", b"is")
    guess = lookup.guess(20)
    lookup.said([words.index(b" bites")], len(guess))
    for word in (b" a", b" one", b" eyed", b" tom", b" called"):
        assert lookup.guess(20) == []
        lookup.said([words.index(word)], 0)
    assert lookup.guess(20) == []

    sequence = list(range(40))
    lookup = Lookup(sequence, lambda token: b" %d" % token)
    lookup.said(sequence[:4], 0)
    assert lookup.guess(99) == sequence[4:11]
    lookup.said(sequence[4:12], 7)
    assert lookup.guess(99) == sequence[12:27]


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


def test_more_places_are_kept_than_lent_and_the_longest_unused_goes_to_a_stranger() -> None:
    pool = ContextPool(1, kept=2)
    for name in "ab":
        with pool.lend((name, None)) as place:
            assert place.owner is None
            place.owner = (name, None)
            with pytest.raises(LlmError, match="engine_busy"), pool.lend(("c", None), 0.01):
                pass
    with pool.lend(("a", None)) as place:
        assert place.owner == ("a", None)
    with pool.lend(("c", None)) as place:
        assert place.owner == ("b", None)


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
