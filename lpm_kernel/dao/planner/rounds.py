"""One round: each twin states, hears the strongest lines of the other side, and is weighed again.

Belongs here: pure steps over standpoints and lines; what the model is asked, and what becomes of its answer.
Does not belong here: the model, the stores, and when it is enough (`agreement.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from lpm_kernel.dao.orders import speaks_to_reader
from lpm_kernel.dao.planner.records import Consulted, Line, Opinion, Standpoint
from lpm_kernel.dao.planner.statements import interest_in, quoted, same_by_lines, sign_of
from lpm_kernel.dao.planner.weighing import Case, Weighed, swayed

TAKES_A_SIDE = 0.1
"""Lean from which a twin's lines speak for a side; what leans less hears both."""


def state_case(lines: Sequence[Line]) -> Case:
    return Case(tuple(quoted(line.text) for line in lines))


def stated(member: str, lines: Sequence[Line], weighed: Weighed | None) -> Standpoint:
    return Standpoint(member, tuple(line.line_id for line in lines), weighed.opinion if weighed else None)


def join_voices(
    consulted: Sequence[Consulted], statements: Mapping[str, Sequence[Line]], share: float
) -> tuple[Consulted, ...]:
    """Members whose statements are the same are one voice, and so are those who were one already."""
    pairs = [(person.member, person.voice) for person in consulted]
    pairs += same_by_lines(statements, share)
    from lpm_kernel.dao.planner.choose import voices_of

    names = sorted({name for pair in pairs for name in pair})
    voices = voices_of(names, pairs)
    return tuple(replace(person, voice=voices[person.member]) for person in consulted)


def with_interests(consulted: Sequence[Consulted], statements: Mapping[str, Sequence[Line]]) -> tuple[Consulted, ...]:
    """Whoever's own lines say that they have something to gain is heard, and not counted."""
    own = {member for member, lines in statements.items() if any(interest_in(line.text) for line in lines)}
    return tuple(
        replace(person, conflicts=(*person.conflicts, "interest"), counts=False)
        if person.member in own and "interest" not in person.conflicts
        else person
        for person in consulted
    )


@dataclass(frozen=True, slots=True)
class Argument:
    """The one line that a voice is heard with. `side`: 1 for, -1 against."""

    line_id: str
    voice: str
    side: int
    strength: float


def arguments(
    consulted: Sequence[Consulted], standpoints: Sequence[Standpoint], lines: Mapping[str, Line], spoken: Collection[str] = ()
) -> list[Argument]:
    """The strongest first: how sure its twin is of its side by its own lines alone, and how near the line is to what is asked.

    One voice has one line a side, however many say it; the same words said by two voices are one argument. What speaks to its
    reader is none. `spoken`: lines that nobody need hear again.
    """
    voice_of = {person.member: person.voice for person in consulted}
    found: dict[tuple[str, int], Argument] = {}
    for standpoint in standpoints:
        own = standpoint.own
        if own is None or abs(own.lean) < TAKES_A_SIDE or standpoint.member not in voice_of:
            continue
        voice, side = voice_of[standpoint.member], 1 if own.lean > 0 else -1
        for line_id in standpoint.lines:
            line = lines.get(line_id)
            if line is None or line_id in spoken or speaks_to_reader(line.text):
                continue
            strength = abs(own.lean) * max(0.0, line.cosine)
            best = found.get((voice, side))
            if best is None or (strength, line_id) > (best.strength, best.line_id):
                found[voice, side] = Argument(line_id, voice, side, strength)
    ordered = sorted(found.values(), key=lambda item: (-item.strength, item.line_id))
    said: set[tuple[str, ...]] = set()
    return [item for item in ordered if not ((sign := sign_of(lines[item.line_id].text)) in said or said.add(sign))]


def put_to(
    consulted: Sequence[Consulted], standpoints: Sequence[Standpoint], lines: Mapping[str, Line], most: int
) -> dict[str, tuple[str, ...]]:
    """To each twin the strongest lines of the other side that it has not heard and no twin of its voice has said; to one
    between the sides the strongest of each in turn. The most that are put to one are `most`."""
    voice_of = {person.member: person.voice for person in consulted}
    spoken = {line_id for standpoint in standpoints for line_id in standpoint.heard}
    fresh = arguments(consulted, standpoints, lines, spoken) if spoken else []
    known = [*arguments(consulted, standpoints, lines), *fresh]
    put: dict[str, tuple[str, ...]] = {}
    for standpoint in standpoints:
        if standpoint.opinion is None:
            continue
        lean = standpoint.opinion.lean
        sides = (1, -1) if abs(lean) < TAKES_A_SIDE else ((-1,) if lean > 0 else (1,))
        had = {*standpoint.heard, *standpoint.lines}
        queues = [
            [
                item.line_id
                for item in known
                if item.side == side and item.voice != voice_of[standpoint.member] and item.line_id not in had
            ]
            for side in sides
        ]
        chosen = [queue[place] for place in range(most) for queue in queues if place < len(queue)]
        if chosen := list(dict.fromkeys(chosen))[:most]:
            put[standpoint.member] = tuple(chosen)
    return put


def revise_case(standpoint: Standpoint, put: Sequence[str], lines: Mapping[str, Line]) -> Case:
    """Lines that are gone meanwhile are not quoted."""
    own = tuple(quoted(lines[line_id].text) for line_id in standpoint.lines if line_id in lines)
    heard = tuple(quoted(lines[line_id].text) for line_id in (*standpoint.heard, *put) if line_id in lines)
    return Case(own, heard, standpoint.own)


def revised(standpoint: Standpoint, put: Sequence[str], weighed: Weighed, round_: int, sway: float) -> Standpoint:
    """Where the twin stands now; never further from where its own lines alone put it than `sway`, whatever it has heard."""
    own = standpoint.own
    assert own is not None, "a twin that said nothing is asked nothing again"
    before = standpoint.now or own
    now = swayed(own, weighed.opinion, sway)
    heard = (*standpoint.heard, *put)
    return replace(standpoint, heard=heard, now=now, moved=_distance(before, now), revised_in=round_)


def _distance(before: Opinion, now: Opinion) -> float:
    """Half of what changed in all three, 0 to 1."""
    return (abs(now.for_ - before.for_) + abs(now.against - before.against) + abs(now.abstain - before.abstain)) / 2
