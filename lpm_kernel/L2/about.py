"""Whom and what many notes name, asked about: one answer may hold sentences of two places.

Belongs here: the questions of `diversity` rows.
Does not belong here: finding entities (`lpm_kernel/L0/entities.py`) and communities (`lpm_kernel/L1/communities.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lpm_kernel.L1.records import Community
from lpm_kernel.L2.asks import MAX_WORDS, Said
from lpm_kernel.L2.sampling import Ask
from lpm_kernel.records import Entity, content_id
from lpm_kernel.stores.ner import NUMERIC

NOT_ASKED_ABOUT = NUMERIC | {"NORP", "LANGUAGE"}
MIN_SENTENCES = 2
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_WHEN = re.compile(rf"\b(?P<when>(?:on|in) (?:\d{{1,2}} )?(?:{_MONTHS})(?: \d{{4}})?|in (?:19|20)\d\d)\b", re.IGNORECASE)
_ROLE = r"(?:, (?:the|a|an|my|our|who)\b| (?:is|was) (?:a|an|the|my|our)\b)"
_ROLE_BEFORE = r"\b(?:[Mm]y|[Oo]ur) (?:\w+ ){{1,2}}{}\b"


def about_asks(
    entities: Sequence[Entity], communities: Sequence[Community], said: Sequence[Said], name: str | None
) -> list[Ask]:
    """At most one question a thing: those first that the communities are most about. Each answer is one sentence that names
    the thing, or two of different places where both are short."""
    central = {line.text for community in communities for line in community.lines}
    own = set((name or "").split())
    asks: list[Ask] = []
    for known in _most_told(entities, communities):
        if own & set(known.split()):
            continue
        word = re.compile(rf"(?<!\w){re.escape(known)}(?!\w)")
        lines = [line for line in said if line.is_quotable and word.search(line.text)]
        if len(lines) >= MIN_SENTENCES:
            lines.sort(key=lambda line: (line.text not in central, not line.sentence.is_clear))
            asks.append(_asked(known, lines, is_person=_is_person(known, entities)))
    return asks


def _most_told(entities: Sequence[Entity], communities: Sequence[Community]) -> list[str]:
    """Names of things, those first that weighty communities are most about; a name once."""
    may = {entity.name: len(entity.mentions) for entity in entities if entity.type not in NOT_ASKED_ABOUT}
    weighed = sorted(communities, key=lambda c: (-c.salience * len(c.chunk_ids), c.community_id))
    first = [c.key_entities[rank] for rank in range(6) for c in weighed if rank < len(c.key_entities)]
    rest = sorted(may, key=lambda name: (-may[name], name))
    return [name for name in dict.fromkeys([*first, *rest]) if name in may]


def _is_person(known: str, entities: Sequence[Entity]) -> bool:
    return any(entity.name == known and entity.type == "PERSON" for entity in entities)


def _asked(known: str, lines: Sequence[Said], *, is_person: bool) -> Ask:
    """Who it is, what was on some day, or what there is to tell: in another order for each, as far as the lines answer."""
    tell = _ask(f"What can you tell me about {known}?", [lines[0], *_another(lines[0], lines)])
    turns = [_who(known, lines) if is_person else None, _when(known, lines), tell]
    start = int(content_id("about", known)[:4], 16) % len(turns)
    return next(ask for ask in (*turns[start:], *turns[:start]) if ask is not None)


def _who(known: str, lines: Sequence[Said]) -> Ask | None:
    """Who somebody is, where a sentence says it: "Brynley Pugh, a retired pharmacist", "my brother Col"."""
    says = re.compile(rf"\b{re.escape(known)}{_ROLE}|{_ROLE_BEFORE.format(re.escape(known))}")
    line = next((line for line in lines if says.search(line.text)), None)
    return _ask(f"Who is {known}?", [line]) if line else None


def _when(known: str, lines: Sequence[Said]) -> Ask | None:
    """What was on a day that the sentence itself names."""
    for line in lines:
        if found := _WHEN.search(line.text):
            when = found["when"][0].lower() + found["when"][1:]
            return _ask(f"What do your notes say about {known} {when}?", [line])
    return None


def _another(line: Said, lines: Sequence[Said]) -> list[Said]:
    """A second sentence of another document's chunk, where both together stay short."""
    room = MAX_WORDS - len(line.text.split())
    others = (
        other
        for other in lines
        if other.item.chunk.chunk_id != line.item.chunk.chunk_id and len(other.text.split()) <= room and other.sentence.is_clear
    )
    return list(others)[:1]


def _ask(question: str, lines: Sequence[Said]) -> Ask:
    return Ask(
        question,
        " ".join(line.text for line in lines),
        lines[0].item,
        "diversity",
        tuple(line.sentence.citation for line in lines),
        tuple(line.item for line in lines[1:]),
    )
