"""One answer, in runs of tokens, in a place that may still hold the conversation's earlier part.

Belongs here: what may be reused, and from bytes to whole characters.
Does not belong here: several answers at once (`llama_batch.py`), waiting for a place (`context_pool.py`), what is guessed
(`llama_lookup.py`).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence

from lpm_kernel.L2.context_pool import Owner, Place
from lpm_kernel.L2.llama_batch import common_prefix
from lpm_kernel.L2.llama_lookup import Lookup
from lpm_kernel.L2.llama_native import Context


def decode_one(
    place: Place,
    context: Context,
    owner: Owner,
    ids: Sequence[int],
    max_tokens: int,
    ends_answer: Callable[[int], bool],
    lookup: Lookup | None = None,
) -> Iterator[int]:
    """The greedy continuation of a prompt, without the token that ends it; of what the place holds, the owner's own is kept.

    The place is truthful at every pause: closing this early loses nothing but the rest of the answer.
    """
    kept = _claim(place, context, owner, ids)
    first = [context.extend(0, kept, ids[kept:])]
    place.held = list(ids)
    for run in _runs(place, context, first, max_tokens, ends_answer, lookup):
        yield from (token for token in run if not ends_answer(token))


def decode_or_decline(
    place: Place,
    context: Context,
    owner: Owner,
    ids: Sequence[int],
    declining: Sequence[int],
    max_tokens: int,
    ends_answer: Callable[[int], bool],
    lookup: Lookup | None = None,
) -> Iterator[int]:
    """As `decode_one`, or what declines where that is likelier as a whole; nothing is yielded before it is known which.

    Why as a whole: word by word a small model is drawn into the nearest fact; asked which of two answers it would give, it
    mostly knows better. How likely declining is, is computed together with the end of the prompt, and where the greedy answer
    begins with the same words, these are then computed too.
    """
    kept = _claim(place, context, owner, ids)
    first, bound = context.extend_beside(kept, ids[kept:], declining)
    place.held = [*ids, *first[:-1]]
    written: list[int] = []
    likelihood = 0.0
    for run in _runs(place, context, first, max_tokens, ends_answer, lookup):
        likelihood += context.run_likelihood(len(run))
        if likelihood < bound:
            yield from (token for token in declining if not ends_answer(token))
            return
        written += run
    yield from (token for token in written if not ends_answer(token))


def _claim(place: Place, context: Context, owner: Owner, ids: Sequence[int]) -> int:
    """Leave in the place of the prompt what it holds of it for this very owner; returns how many tokens."""
    if place.owner != owner:
        # Keys and values computed for another person, or under another adapter, would be wrong here and leak there.
        context.forget()
        place.owner, place.held = owner, []
    # The last token is always computed: its logits are the first thing asked for.
    kept = min(common_prefix(place.held, ids), len(ids) - 1)
    context.cut(0, kept)
    place.held = list(ids[:kept])
    return kept


def _runs(
    place: Place,
    context: Context,
    run: list[int],
    max_tokens: int,
    ends_answer: Callable[[int], bool],
    lookup: Lookup | None,
) -> Iterator[list[int]]:
    """The greedy answer in runs that were each computed at once, the token that ends it included.

    Of the tokens that are known to be likeliest, the place holds all but the last.
    """
    room, guess = max_tokens, []
    while True:
        run = run[:room]
        yield run
        room -= len(run)
        if not room or ends_answer(run[-1]):
            return
        if lookup:
            lookup.said(run, len(guess))
            guess = lookup.guess(room - 1)
        token, start = run[-1], len(place.held)
        run = context.extend_guessed(start, token, guess)
        place.held += [token, *run[:-1]]


def whole_characters(pieces: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 text in pieces of at least one character. A token may end inside a character; the rest then waits for the next."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
