"""Picks of a calibration to preference pairs: of two answers to one prompt, the one the person would have given.

Belongs here: which picks make a pair, and which say nothing.
Does not belong here: ratings and edits of replies (`preference_pairs.py`), and showing pairs (`calibrate.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lpm_kernel.L2.golden import Asked, too_close
from lpm_kernel.L2.preference_pairs import PairRefusal, one_line, plain_words
from lpm_kernel.L2.prompt import twin_messages
from lpm_kernel.L2.records import GoldenSet, PreferencePair
from lpm_kernel.records import Evidence, User, content_id
from lpm_kernel.stores.calibration import CalibrationPair
from lpm_kernel.stores.embedder import Embedder


def pairs_of_picks(
    user: User,
    picks: Sequence[CalibrationPair],
    lines: Mapping[str, Evidence],
    golden: GoldenSet | None,
    embedder: Embedder,
    known: Sequence[PreferencePair] = (),
) -> tuple[list[PreferencePair], list[PairRefusal]]:
    """A pair for each pick, on the prompt that both answers were given to; pairs that nobody picked of are not there yet.

    Who picks says "so would I have put it", and `neither` is there for two answers that are not so: a picked answer may be
    learnt. As of ratings, a text that was taken once and rejected once for one question is neither, and what `known` pairs say,
    which were rated or edited, stands above a pick. The same input gives the same pairs.
    """
    picked = [pair for pair in picks if pair.pick is not None]
    close = too_close([Asked(pair.question, _taken(pair)) for pair in picked], golden, embedder)
    refusals: list[PairRefusal] = []
    usable: list[CalibrationPair] = []
    for pair, near in zip(picked, close, strict=True):
        if pair.pick == "neither":
            refusals.append(PairRefusal(pair.pair_id, "no_side_taken"))
        elif near:
            refusals.append(PairRefusal(pair.pair_id, "golden_question"))
        elif any(citation.chunk_id not in lines for citation in pair.citations):
            refusals.append(PairRefusal(pair.pair_id, "source_gone"))
        else:
            usable.append(pair)
    taken: dict[str, set[str]] = defaultdict(set)
    rejected: dict[str, set[str]] = defaultdict(set)
    for question, chosen, other in [
        *((pair.question, _taken(pair), _left(pair)) for pair in usable),
        *((pair.prompt[-1].content, pair.chosen, pair.rejected) for pair in known),
    ]:
        taken[plain_words(question)].add(one_line(chosen))
        rejected[plain_words(question)].add(one_line(other))
    made: dict[str, PreferencePair] = {pair.pair_id: pair for pair in known}
    pairs: list[PreferencePair] = []
    for pair in usable:
        question = plain_words(pair.question)
        disputed = taken[question] & rejected[question]
        found = _pair(user, pair, lines)
        if {one_line(found.chosen), one_line(found.rejected)} & disputed:
            refusals.append(PairRefusal(pair.pair_id, "both_sides_taken"))
        elif found.pair_id in made:
            refusals.append(PairRefusal(pair.pair_id, "said_before"))
        else:
            made[found.pair_id] = found
            pairs.append(found)
    return pairs, refusals


def _pair(user: User, pick: CalibrationPair, lines: Mapping[str, Evidence]) -> PreferencePair:
    cited = [lines[citation.chunk_id] for citation in pick.citations]
    prompt = twin_messages(user, pick.question, cited)
    chosen, rejected = _taken(pick), _left(pick)
    return PreferencePair(
        pair_id=content_id(user.user_id, *(message.content for message in prompt), chosen, rejected)[:32],
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        signal="pick",
        message_ids=(pick.pair_id,),
        sources=tuple(line.citation for line in cited),
    )


def _taken(pick: CalibrationPair) -> str:
    return pick.base_answer if pick.pick == "base" else pick.twin_answer


def _left(pick: CalibrationPair) -> str:
    return pick.twin_answer if pick.pick == "base" else pick.base_answer
