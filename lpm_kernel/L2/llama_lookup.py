"""Guesses at how an answer goes on, looked up in its prompt: a twin mostly says what a line of its notes says.

Belongs here: where the last words stood before, what followed them there, and how far it is worth believing.
Does not belong here: computing whether a guess is right (`llama_native.py`), and so whether it is said (`llama_stream.py`).

Why: the weights are read once for a token and its guessed successors, so a right guess costs a fraction of a step. A wrong one
costs as much and changes nothing: what is said is always what the model itself finds likeliest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

CLEAR_MATCH = 4
"""Tokens that must agree before anything is guessed. After fewer, what follows is another word as often as not."""

LONGEST_MATCH = 8
"""Longer ones are not told apart."""

GUESSED_TOKENS = 7
"""A step for 8 tokens costs as much as four and a half steps for one (f16 on AVX2); one for 2 already as much as two. So it is
guessed far or not at all."""

MORE_GUESSED_TOKENS = 15
"""After a guess that was wholly right."""

WAIT_TOKENS = 8
"""After a guess that was mostly wrong, so many are said one by one before the next; twice as many after each further one."""

SENTENCE_ENDS = (b".", b"!", b"?", b":", b"-", b"\n")


class Lookup:
    """Of one prompt and the answer to it as far as it is said."""

    def __init__(self, ids: Sequence[int], piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._tokens: list[int] = []
        self._words: list[bytes] = []
        """Of each token its bytes, but for case and the space before: a sentence of the notes may open the answer."""
        self._after: dict[bytes, list[int]] = defaultdict(list)
        """Where a word stood: the places just behind it."""
        self._wait, self._next_wait, self._count = 0, WAIT_TOKENS, GUESSED_TOKENS
        for token in ids:
            self._add(token)
        self._begin = len(self._tokens)

    def said(self, tokens: Sequence[int], guessed: int) -> None:
        """Take in what is said next; `guessed` tokens had been guessed, of which all but the last of `tokens` were right."""
        for token in tokens:
            self._add(token)
        self._wait = max(0, self._wait - len(tokens))
        self._count = MORE_GUESSED_TOKENS if guessed and len(tokens) > guessed else GUESSED_TOKENS
        if guessed and len(tokens) <= guessed // 2:
            self._wait, self._next_wait = self._next_wait, 2 * self._next_wait

    def guess(self, limit: int) -> list[int]:
        """At most `limit` tokens that may follow what is said, none where nothing like it stood before."""
        if self._wait or len(self._tokens) == self._begin or limit < GUESSED_TOKENS:
            return []
        best, place = CLEAR_MATCH, 0
        # The latest of equals: the best line of the notes stands last.
        for behind in self._after[self._words[-1]]:
            if behind < len(self._tokens) and (found := self._match(behind)) >= best:
                best, place = found, behind
        guessed: list[int] = []
        for token, word in zip(self._tokens[place:], self._words[place:], strict=True):
            # With the line ends what is said; special tokens have no bytes.
            if not place or len(guessed) == min(self._count, limit) or not word or word.endswith(b"\n"):
                break
            guessed.append(token)
        return guessed

    def _match(self, behind: int) -> int:
        """How many tokens before a place are those last said; at the beginning of both a sentence, one more than are there."""
        length = 0
        while length < LONGEST_MATCH:
            said, stood = len(self._tokens) - 1 - length, behind - 1 - length
            if said < self._begin:
                return length + 1 if stood < 0 or self._words[stood].endswith(SENTENCE_ENDS) else length
            if stood < 0 or self._words[stood] != self._words[said]:
                return length
            length += 1
        return length

    def _add(self, token: int) -> None:
        piece = self._piece(token)
        word = piece.strip(b" ").lower()
        self._tokens.append(token)
        self._words.append(word)
        self._after[word].append(len(self._tokens))
