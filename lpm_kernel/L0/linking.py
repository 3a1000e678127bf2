"""Mentions to entities: the same thing in another spelling, in any document, is one entity.

Belongs here: when two spellings are of one thing, and the entity's id and name.
Does not belong here: where mentions come from (`entities.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from lpm_kernel.records import Entity, Mention, content_id
from lpm_kernel.stores.ner_rules import TITLE

SHORTENED = ("ORG", "FAC", "EVENT", "LAW")
MIN_LETTERS_FOR_TYPO = 7  # of a last name: Hug and Hugo are two
MOST_TYPOS = 0.25
"""Of how often the right spelling stands: what is written more often is somebody else's name."""
_TITLE = re.compile(rf"^(?i:{TITLE})\.? ")
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "’": "'", "‐": "-"})

Key = tuple[str, str]
"""Type and folded name of an entity."""


def fold(text: str, kind: str) -> str:
    """A spelling without what does not tell two things apart: case, accents, articles, titles, possessives, spacing."""
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    plain = re.sub(r"'s?$", "", " ".join(plain.split()))
    if kind == "PERSON":
        return re.sub(r"\b(\w)\.", r"\1", _TITLE.sub("", plain))
    if kind == "PROPOSAL" and (number := re.search(r"\d+$", plain)):
        prefix = re.match(r"[a-z]+(?=-\d)", plain)
        return f"{prefix[0] if prefix else 'p'}-{int(number[0])}"
    if kind == "MACHINE":
        plain = re.sub(r"(?<=[a-z]{3})s$", "", plain)
    return re.sub(r"^(?:the|an?) ", "", plain)


def link_mentions(user_id: str, mentions: Sequence[tuple[str, Mention]]) -> list[Entity]:
    """One entity for each thing that is named, with all its mentions in text order; entities by type and name.

    Deterministic: neither ids nor links depend on the order of the mentions.
    """
    keys: dict[Key, Counter[str]] = defaultdict(Counter)
    for kind, mention in mentions:
        keys[kind, fold(mention.text, kind)][mention.document_sha256] += 1
    anchors = _join_spellings({key: documents.total() for key, documents in keys.items()})
    longer = _longer_names(keys)
    ends = {key: _end(key, longer, anchors) for key in keys}
    grouped: dict[Key, list[Mention]] = defaultdict(list)
    for kind, mention in mentions:
        key = kind, fold(mention.text, kind)
        spoken_of = {ends[k] for k in longer[key] if keys[k][mention.document_sha256]}
        # Two friends called Victor are told apart where only one of them is spoken of.
        grouped[spoken_of.pop() if len(spoken_of) == 1 else ends[key]].append(mention)
    return [_entity(user_id, key, grouped[key]) for key in sorted(grouped)]


def _join_spellings(totals: Mapping[Key, int]) -> dict[Key, Key]:
    """Full names of one first name that differ in one letter are one: the rare spelling goes to the frequent one.

    Why not in the first name: Maria and Mario Costa are two.
    """
    anchors = {key: key for key in totals}
    by_initials: dict[tuple[str, ...], list[Key]] = defaultdict(list)
    for key in sorted(totals, key=lambda key: (-totals[key], key)):
        kind, name = key
        words = name.split()  # none, of a mention that is an apostrophe alone
        if kind != "PERSON" or len(words) < 2 or len(words[-1]) < MIN_LETTERS_FOR_TYPO:
            continue
        first, *others = words
        better = by_initials[first, *(word[0] for word in others)]
        right = next((other for other in better if _one_letter_apart(name, other[1])), None)
        if right and totals[key] <= max(1, MOST_TYPOS * totals[right]):
            anchors[key] = right
        else:
            better.append(key)
    return anchors


def _one_letter_apart(one: str, two: str) -> bool:
    """One letter more, less or other; initials are equal by then: Ann Morris and Ann Norris are two people."""
    if abs(len(one) - len(two)) > 1:
        return False
    short, long = sorted((one, two), key=len)
    at = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]


def _longer_names(keys: Mapping[Key, Counter[str]]) -> dict[Key, list[Key]]:
    """For each spelling those it may be short for: see `_short_forms`, and the beginning of an organisation's name."""
    by_short: dict[Key, list[Key]] = defaultdict(list)
    for kind, name in sorted(keys):
        words = name.split()
        shorts = _short_forms(words) if kind == "PERSON" else [" ".join(words[:n]) for n in range(1, len(words))]
        if kind == "PERSON" or kind in SHORTENED:
            for short in dict.fromkeys(shorts):
                if short != name:
                    by_short[kind, short].append((kind, name))
    return {key: by_short.get(key, []) for key in keys}


def _short_forms(words: Sequence[str]) -> list[str]:
    """Of a person's name: the first, the last, both with initials or nothing between them, and the last with an initial."""
    if len(words) < 2:
        return []
    first, *middle, last = words
    return [first, last, f"{first} {last}", " ".join([first, *(word[0] for word in middle), last]), f"{first[0]} {last}"]


def _end(key: Key, longer: Mapping[Key, Sequence[Key]], anchors: Mapping[Key, Key]) -> Key:
    """The entity of a spelling wherever no document says more: of the one full name that it can be short for, if there is one.

    A short name that could be of several things stays a thing of its own: a wrong link is worse than a missing one.
    """
    ends = {_end(candidate, longer, anchors) for candidate in longer[anchors[key]]}
    return ends.pop() if len(ends) == 1 else anchors[key]


def _entity(user_id: str, key: Key, mentions: list[Mention]) -> Entity:
    kind, folded = key
    spelt = Counter(mention.text for mention in mentions)
    own = {text: times for text, times in spelt.items() if fold(text, kind) == folded} or dict(spelt)
    name = min(own, key=lambda text: (-own[text], text))
    return Entity(
        entity_id=content_id(user_id, "entity", kind, folded)[:32],
        user_id=user_id,
        name=name,
        type=kind,
        aliases=tuple(sorted(text for text in spelt if text != name)),
        mentions=tuple(sorted(mentions, key=lambda m: (m.document_sha256, m.byte_start, m.byte_end))),
    )
