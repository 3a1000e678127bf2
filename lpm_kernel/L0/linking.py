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

TITLE = re.compile(r"^(?:mr|mrs|ms|miss|dr|prof|professor|sister|brother|reverend|rev|father|sir|lady|aunt|auntie|uncle)\.? ")
SHORTENED = ("ORG", "FAC", "EVENT", "LAW")
MIN_LENGTH_FOR_TYPO = 10

Key = tuple[str, str]
"""Type and folded name of an entity."""


def fold(text: str, kind: str) -> str:
    """A spelling without what does not tell two things apart: case, accents, articles, titles, possessives, spacing."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").replace("‑", "-")).casefold()
    plain = (
        "".join(character for character in plain if not unicodedata.combining(character)).replace("ł", "l").replace("ß", "ss")
    )
    plain = re.sub(r"'s?$", "", " ".join(plain.split()))
    if kind == "PERSON":
        return TITLE.sub("", plain)
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
    grouped: dict[Key, list[Mention]] = defaultdict(list)
    for kind, mention in mentions:
        key = kind, fold(mention.text, kind)
        grouped[_linked(key, mention.document_sha256, keys, longer[key], anchors)].append(mention)
    return [_entity(user_id, key, grouped[key]) for key in sorted(grouped)]


def _join_spellings(totals: Mapping[Key, int]) -> dict[Key, Key]:
    """Full names that differ in one letter are one: the rarer spelling goes to the more frequent one."""
    anchors = {key: key for key in totals}
    by_initials: dict[tuple[str, ...], list[Key]] = defaultdict(list)
    for key in sorted(totals, key=lambda key: (-totals[key], key)):
        if key[0] != "PERSON" or " " not in key[1] or len(key[1]) < MIN_LENGTH_FOR_TYPO:
            continue
        better = by_initials[tuple(word[0] for word in key[1].split())]
        anchors[key] = next((other for other in better if _one_letter_apart(key[1], other[1])), key)
        if anchors[key] == key:
            better.append(key)
    return anchors


def _one_letter_apart(one: str, two: str) -> bool:
    """One letter more, less or other; initials are equal by then: "Dan Smith" and "Ian Smith" are two people."""
    if abs(len(one) - len(two)) > 1:
        return False
    short, long = sorted((one, two), key=len)
    at = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]


def _longer_names(keys: Mapping[Key, Counter[str]]) -> dict[Key, list[Key]]:
    """For each spelling those it may be short for: a person's first or last name, the beginning of an organisation's."""
    by_word: dict[Key, list[Key]] = defaultdict(list)
    for kind, name in keys:
        words = name.split()
        if len(words) > 1 and kind == "PERSON":
            for word in dict.fromkeys((words[0], words[-1])):
                by_word[kind, word].append((kind, name))
        elif kind in SHORTENED:
            for length in range(1, len(words)):
                by_word[kind, " ".join(words[:length])].append((kind, name))
    return {key: by_word.get(key, []) for key in keys}


def _linked(
    key: Key, document: str, keys: Mapping[Key, Counter[str]], longer: Sequence[Key], anchors: Mapping[Key, Key]
) -> Key:
    """The entity of a spelling in one document.

    Why the document first: two friends called Victor are told apart where only one of them is spoken of. A short name that
    could be of several things stays a thing of its own: a wrong link is worse than a missing one.
    """
    for candidates in (longer, [k for k in longer if keys[k][document]]):
        ends = {anchors[k] for k in candidates}
        if len(ends) == 1:
            return ends.pop()
    return anchors[key]


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
