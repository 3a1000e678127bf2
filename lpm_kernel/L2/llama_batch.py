"""Decoding several prompts together in one context: each step computes the next token of all of them.

Belongs here: which sequence holds which prompt, what of an earlier prompt can be kept, when a sequence is free again.
Does not belong here: tokenising, adapters, and where the context comes from (`llama.py`).

Why together: one step for 8 sequences costs about as much as 2.5 steps for one, since the weights are read once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from lpm_kernel.L2.llama_native import Context

WORTH_COPYING_TOKENS = 4
"""A copy of a sequence costs about as much as computing one or two tokens."""


def decode_together(
    context: Context,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    ends_answer: Callable[[int], bool],
    declining: Sequence[int] = (),
) -> list[list[int]]:
    """Greedy continuations of the prompts, in order, without the token that ended each. The context must be empty.

    With `declining` that is the answer to a prompt after which, as a whole, it is likelier than the greedy one.
    """
    return _Together(context, prompts, max_tokens, ends_answer, declining).run()


def score_after(context: Context, sequence: int, ids: Sequence[int], answer: Sequence[int]) -> float:
    """Log-likelihood of an answer after the prompt that the sequence holds; it holds the prompt alone again afterwards."""
    context.cut(sequence, len(ids) - 1)
    likelihood = sum(context.score(sequence, len(ids) - 1, [ids[-1], *answer]))
    context.cut(sequence, len(ids))
    return likelihood


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


class _Together:
    def __init__(
        self,
        context: Context,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        ends_answer: Callable[[int], bool],
        declining: Sequence[int],
    ) -> None:
        self.context = context
        self.prompts = prompts
        self.max_tokens = max_tokens
        self.ends_answer = ends_answer
        self.declining = declining
        self.likelihoods = [0.0 for _ in prompts]
        """Of each answer as far as it is written."""
        self.bounds = [-math.inf for _ in prompts]
        """Under which the answer is to decline."""
        self.answers: list[list[int]] = [[] for _ in prompts]
        self.waiting = deque(range(len(prompts)))
        self.live: list[int] = []
        """Which prompt each of the sequences 0, 1, 2... is answering."""
        self.held: list[list[int]] = [[] for _ in range(context.sequences)]
        """The tokens of each sequence, of a finished answer too: the next prompt may begin alike."""

    def run(self) -> list[list[int]]:
        while len(self.live) < self.context.sequences and self._begin_next(len(self.live)):
            pass
        while self.live:
            tokens = [self.answers[prompt][-1] for prompt in self.live]
            likeliest = self.context.step(tokens, [len(self.held[sequence]) for sequence in range(len(self.live))])
            if self.declining:
                for sequence, prompt in enumerate(self.live):
                    self.likelihoods[prompt] += self.context.sureness(sequence)
            for sequence, token in enumerate(tokens):
                self.held[sequence].append(token)
            # From the last to the first: a freed place is filled from the end, which is then already looked at.
            for sequence in reversed(range(len(self.live))):
                if not self._accept(self.live[sequence], likeliest[sequence]):
                    self._replace(sequence)
        return self.answers

    def _accept(self, prompt: int, token: int) -> bool:
        """Take the token into the answer; False when the answer is finished with or without it."""
        if self.likelihoods[prompt] < self.bounds[prompt]:
            self.answers[prompt] = [token for token in self.declining if not self.ends_answer(token)]
            return False
        if self.ends_answer(token):
            return False
        self.answers[prompt].append(token)
        return len(self.answers[prompt]) < self.max_tokens

    def _replace(self, sequence: int) -> None:
        if self._begin_next(sequence):
            return
        last = self.live.pop()
        if sequence < len(self.live):
            self.context.copy(len(self.live), sequence)
            self.held[sequence] = list(self.held[len(self.live)])
            self.live[sequence] = last

    def _begin_next(self, sequence: int) -> bool:
        """Put the next waiting prompt into a sequence; prompts whose answer is empty are done at once."""
        while self.waiting:
            prompt = self.waiting.popleft()
            ids = self.prompts[prompt]
            kept = common_prefix(self.held[sequence], ids)
            if common_prefix(self.held[0], ids) >= kept + WORTH_COPYING_TOKENS:
                self.context.copy(0, sequence)
                kept = common_prefix(self.held[0], ids)
            # The last token is always computed: its logits are the first thing asked for.
            kept = min(kept, len(ids) - 1)
            self.context.cut(sequence, kept)
            self.held[sequence] = list(ids)
            token = self.context.extend(sequence, kept, ids[kept:])
            if self.declining:
                self.likelihoods[prompt] = self.context.sureness(-1)
                self.bounds[prompt] = score_after(self.context, sequence, ids, self.declining)
            if self._accept(prompt, token):
                self.live[sequence : sequence + 1] = [prompt]
                return True
        return False
