"""Ratings and edits to preference pairs: of two answers to one prompt, the one the person prefers.

Belongs here: which replies make a pair, and which say nothing.
Does not belong here: keeping feedback (`stores/feedback.py`) and learning from pairs (`train_dpo.py`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L2.golden import Asked, too_close
from lpm_kernel.L2.prompt import twin_messages
from lpm_kernel.L2.records import GoldenSet, PreferencePair
from lpm_kernel.records import Citation, Evidence, Message, User, content_id
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.feedback import RatedReply

_WORD = re.compile(r"\w+")

Why = Literal[
    "no_side_taken",
    "nothing_to_set_it_against",
    "both_sides_taken",
    "source_gone",
    "golden_question",
    "said_before",
    "too_long",
]


@dataclass(frozen=True, slots=True)
class PairRefusal:
    """A rated or edited reply, by its own id, that is in no pair."""

    message_id: str
    reason: Why


def make_pairs(
    user: User, rated: Sequence[RatedReply], lines: Mapping[str, Evidence], golden: GoldenSet | None, embedder: Embedder
) -> tuple[list[PreferencePair], list[PairRefusal]]:
    """An edit is preferred to what it was made from; a reply rated true to one of the same question that was rated down.

    `lines` holds today's chunks by id: a reply on lines that are gone teaches nothing, nor does one to a golden question.
    What the twin said is chosen only where its person rated it true; a text that was taken and rejected is neither.
    The same input gives the same pairs.
    """
    close = too_close([Asked(reply.question, reply.edited or reply.reply) for reply in rated], golden, embedder)
    refusals: list[PairRefusal] = []
    usable: list[RatedReply] = []
    for reply, near in zip(rated, close, strict=True):
        if near:
            refusals.append(PairRefusal(reply.message_id, "golden_question"))
        elif any(citation.chunk_id not in lines for citation in reply.citations):
            refusals.append(PairRefusal(reply.message_id, "source_gone"))
        elif _side(reply) == 0:
            refusals.append(PairRefusal(reply.message_id, "no_side_taken"))
        else:
            usable.append(reply)
    by_question: dict[str, list[RatedReply]] = defaultdict(list)
    for reply in usable:
        by_question[plain_words(reply.question)].append(reply)
    pairs: dict[str, PreferencePair] = {}
    for replies in by_question.values():
        taken = {one_line(_taken(reply)) for reply in replies if _side(reply) > 0 or reply.edited}
        rejected = {one_line(reply.reply) for reply in replies if _is_rejected(reply)}
        disputed = taken & rejected
        paired: set[str] = set()
        again: set[str] = set()
        for pair in _pairs_of(user, replies, disputed, lines):
            (again if pair.pair_id in pairs else paired).update(pair.message_ids)
            pairs.setdefault(pair.pair_id, pair)
        for reply in replies:
            if reply.message_id not in paired:
                both = {one_line(_taken(reply)), one_line(reply.reply)} & disputed
                alone: Why = "both_sides_taken" if both else "nothing_to_set_it_against"
                refusals.append(PairRefusal(reply.message_id, "said_before" if reply.message_id in again else alone))
    return list(pairs.values()), refusals


def keep_fitting(
    pairs: Sequence[PreferencePair], count_tokens: Callable[[Sequence[Message]], int], max_tokens: int
) -> tuple[list[PreferencePair], list[PairRefusal]]:
    """The pairs of which both answers fit into training with their prompt; and the replies that are in no such pair.

    Why: one long edit would be the end of the whole training.
    """
    kept = [
        pair
        for pair in pairs
        if all(
            count_tokens((*pair.prompt, Message("assistant", answer))) <= max_tokens for answer in (pair.chosen, pair.rejected)
        )
    ]
    used = {message_id for pair in kept for message_id in pair.message_ids}
    left = dict.fromkeys(message_id for pair in pairs for message_id in pair.message_ids if message_id not in used)
    return kept, [PairRefusal(message_id, "too_long") for message_id in left]


def chunk_lines(items: Sequence[ChunkText]) -> dict[str, Evidence]:
    """Each chunk by its id as the line that a prompt shows."""
    return {
        chunk.chunk_id: Evidence(
            Citation(chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_end), item.text, 0.0
        )
        for item in items
        for chunk in (item.chunk,)
    }


def _pairs_of(
    user: User, replies: Sequence[RatedReply], disputed: set[str], lines: Mapping[str, Evidence]
) -> list[PreferencePair]:
    """Each rejected reply once: against its own edit, else against the newest answer that was taken."""
    takers = [reply for reply in replies if _side(reply) > 0 and one_line(_taken(reply)) not in disputed]
    takers.sort(key=lambda reply: (reply.created_at, reply.message_id))
    found = []
    for reply in replies:
        if not _is_rejected(reply) or one_line(reply.reply) in disputed:
            continue
        chosen = reply if reply.edited else takers[-1] if takers else None
        if chosen is not None and one_line(_taken(chosen)) not in disputed:
            found.append(_pair(user, chosen, reply, lines))
    return found


def _pair(user: User, chosen: RatedReply, rejected: RatedReply, lines: Mapping[str, Evidence]) -> PreferencePair:
    cited = [lines[citation.chunk_id] for citation in rejected.citations]
    prompt = twin_messages(user, rejected.question, cited)
    text = _taken(chosen)
    return PreferencePair(
        pair_id=content_id(user.user_id, *(message.content for message in prompt), text, rejected.reply)[:32],
        prompt=prompt,
        chosen=text,
        rejected=rejected.reply,
        signal="edit" if chosen is rejected else "ratings",
        message_ids=tuple(dict.fromkeys((chosen.message_id, rejected.message_id))),
        sources=tuple(line.citation for line in cited),
    )


def _taken(reply: RatedReply) -> str:
    return reply.edited or reply.reply


def _is_rejected(reply: RatedReply) -> bool:
    return bool(reply.edited) or _side(reply) < 0


def _side(reply: RatedReply) -> int:
    """1: what is taken of it may be learnt; -1: it was rejected; 0: nothing was said, or one thing and its opposite."""
    if reply.edited:
        return int(one_line(reply.edited) != one_line(reply.reply))
    ratings = {reply.voice, reply.truth} - {None, 0}
    if ratings == {-1}:
        return -1
    # an up for the voice alone says nothing of whether it is so
    return int(ratings == {1} and reply.truth == 1)


def one_line(said: str) -> str:
    """What two texts are compared by. Punctuation stays: it is a part of how somebody writes."""
    return " ".join(said.split())


def plain_words(text: str) -> str:
    """What two questions are compared by."""
    return " ".join(_WORD.findall(text.casefold()))
