"""One answer, token by token, in a place that may still hold the conversation's earlier part.

Belongs here: what may be reused, and from bytes to whole characters.
Does not belong here: several answers at once (`llama_batch.py`), waiting for a place (`context_pool.py`).
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from lpm_kernel.L2.context_pool import Owner, Place
from lpm_kernel.L2.llama_batch import common_prefix, score_after
from lpm_kernel.L2.llama_native import Context


def decode_one(
    place: Place, context: Context, owner: Owner, ids: Sequence[int], max_tokens: int, ends_answer: Callable[[int], bool]
) -> Iterator[int]:
    """The greedy continuation of a prompt, without the token that ends it; of what the place holds, the owner's own is kept.

    The place is truthful at every pause: closing this early loses nothing but the rest of the answer.
    """
    if place.owner != owner:
        # Keys and values computed for another person, or under another adapter, would be wrong here and leak there.
        context.forget()
        place.owner, place.held = owner, []
    # The last token is always computed: its logits are the first thing asked for.
    kept = min(common_prefix(place.held, ids), len(ids) - 1)
    context.cut(0, kept)
    place.held = list(ids[:kept])
    token = context.extend(0, kept, ids[kept:])
    place.held = list(ids)
    for written in range(1, max_tokens + 1):
        if ends_answer(token):
            return
        yield token
        if written < max_tokens:
            following = context.extend(0, len(place.held), [token])
            place.held.append(token)
            token = following


def decode_or_decline(
    place: Place,
    context: Context,
    owner: Owner,
    ids: Sequence[int],
    declining: Sequence[int],
    max_tokens: int,
    ends_answer: Callable[[int], bool],
) -> Iterator[int]:
    """As `decode_one`, or what declines where that is likelier as a whole; nothing is yielded before it is known which.

    Why as a whole: word by word a small model is drawn into the nearest fact; asked which of two answers it would give, it
    mostly knows better.
    """
    written: list[int] = []
    likelihood, bound = 0.0, -math.inf
    for token in decode_one(place, context, owner, ids, max_tokens, lambda token: False):
        likelihood += context.sureness(-1)
        if not written:
            bound = score_after(context, 0, ids, declining)
        if likelihood < bound:
            yield from (token for token in declining if not ends_answer(token))
            return
        if ends_answer(token):
            break
        written.append(token)
    yield from written


def whole_characters(pieces: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 text in pieces of at least one character. A token may end inside a character; the rest then waits for the next."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
