"""Vague requests and generic advice, made of what the person did once or knows: what a note can make precise or find wanting.

Belongs here: the questions of `context_enhance` rows and those `context_critic` rows that rest on something done or known.
Does not belong here: advice on a preference (`opinions.py`), and the frames (`frames.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.english import parse_sentences
from lpm_kernel.L2.asks import Said
from lpm_kernel.L2.frames import LEAVES_OUT, ask_to_criticise, ask_to_enhance, enhanced
from lpm_kernel.L2.sampling import Ask
from lpm_kernel.records import Entity, content_id

_DOABLE = {
    "bake", "book", "build", "buy", "change", "check", "choose", "clean", "climb", "cook", "cut", "draw", "dry", "eat",
    "file", "find", "fit", "fix", "fry", "glue", "grow", "learn", "make", "measure", "mend", "mount", "move", "oil",
    "open", "order", "paint", "pick", "plan", "plant", "play", "prepare", "print", "publish", "read", "repair",
    "replace", "ride", "seal", "sell", "send", "serve", "sew", "study", "swap", "teach", "test", "train", "travel",
    "try", "visit", "wash", "water", "weigh", "write",
}  # fmt: skip
_ANYTHING = {"it", "this", "that", "these", "those", "him", "her", "them", "his", "their", "its", "what", "which", "who", "one"}
_LEFT_OUT = {"relcl", "advcl", "acl", "appos", "punct", "prep", "conj", "cc", "ccomp", "dative"}
_EMPTY = {"lot", "thing", "time", "way", "bit", "one", "part", "point", "mind", "care", "place", "turn", "lid", "rest"}
_TO_YOUR = {"my": "your", "our": "your"}
MAX_OBJECT_WORDS = 5

_WANTS = ("I want to {}.", "I need to {}.", "I would like to {}.", "Help me to {}.")
_ADVICE = (
    "To {}, take an afternoon and follow the usual steps.",
    "If you want to {}, do it the way everybody does.",
    "To {}, ask any professional and take the first offer.",
)
_KNOWN = {
    "GPE": ("I want to plan a trip to {}.", "For a trip to {}, any date and any guide will do."),
    "LOC": ("I want to plan a trip to {}.", "For a trip to {}, any date and any guide will do."),
    "PERSON": ("I want to write to {}.", "When you write to {}, keep it short and general."),
    "PROPOSAL": ("I have to say something on {}.", "On {}, it is enough to say that there are two sides."),
    "POLICY_TOPIC": ("I have to say something on {}.", "On {}, it is enough to say that there are two sides."),
}


@dataclass(frozen=True, slots=True)
class _Matter:
    """What may be asked of somebody who knows no notes: a request, and an expert's generic reply to it."""

    request: str
    advice: str
    line: Said


def request_asks(said: Sequence[Said], entities: Sequence[Entity]) -> list[Ask]:
    """Each matter once: a request to make precise, or advice to hold against the notes, in turn.

    The answer is the request and the person's own sentence on it, or the verdict and that sentence.
    """
    asks: list[Ask] = []
    for turn, matter in enumerate([*_done(said), *_known(said, entities)]):
        line = matter.line
        cited = (line.sentence.citation,)
        if turn % 2:
            answer = f"{LEAVES_OUT} {line.text}"
            asks.append(Ask(ask_to_criticise(matter.advice), answer, line.item, "context_critic", cited))
        else:
            answer = enhanced(matter.request, line.text)
            asks.append(Ask(ask_to_enhance(matter.request), answer, line.item, "context_enhance", cited))
    return asks


def _done(said: Sequence[Said]) -> list[_Matter]:
    """What the person did to something, to be done again; each act once."""
    lines = [line for line in said if line.is_quotable and re.search(r"\b(?:I|[Ww]e)\b", line.text)]
    matters: dict[str, _Matter] = {}
    for line, parsed in zip(lines, parse_sentences(line.text for line in lines), strict=True):
        for sentence in parsed.sents:
            act = _act(sentence)
            if act is not None:
                to_you = " ".join(_TO_YOUR.get(word, word) for word in act.split())
                number = int(content_id("request", act)[:4], 16)
                matters.setdefault(
                    act,
                    _Matter(_WANTS[number % len(_WANTS)].format(act), _ADVICE[number % len(_ADVICE)].format(to_you), line),
                )
    return list(matters.values())


def _act(sentence: Any) -> str | None:
    """ "change the film" of "We changed the film in gloves": a verb that one sets out to do, and what it is done to."""
    root = sentence.root
    children = list(root.children)
    subject = next((child for child in children if child.dep_ == "nsubj"), None)
    thing = next((child for child in children if child.dep_ == "dobj"), None)
    if root.lemma_ not in _DOABLE or subject is None or subject.lower_ not in ("i", "we") or thing is None:
        return None
    if any(child.dep_ in ("neg", "dative", "oprd") for child in children) or thing.pos_ not in ("NOUN", "PROPN"):
        return None
    gone = {token for child in thing.subtree if child != thing and child.dep_ in _LEFT_OUT for token in child.subtree}
    if any(token.i < thing.i for token in gone):
        return None  # "leek and potato soup" is no leek soup
    words = [token for token in thing.subtree if token not in gone]
    is_plain = all(token.lower_ not in _ANYTHING and token.ent_type_ != "MONEY" and not token.like_num for token in words)
    if not is_plain or thing.lower_ in _EMPTY or not 1 <= len(words) <= MAX_OBJECT_WORDS:
        return None
    particle = next((child.text for child in children if child.dep_ == "prt"), "")
    said = "".join(token.text_with_ws for token in words).strip()
    return " ".join(part for part in (root.lemma_, particle, said) if part)


def _known(said: Sequence[Said], entities: Sequence[Entity]) -> list[_Matter]:
    """Places, people and proposals that a clear sentence tells something of; a sentence once."""
    matters: list[_Matter] = []
    used: set[str] = set()
    own = [line for line in said if line.is_quotable and line.sentence.is_clear]
    for entity in sorted(entities, key=lambda entity: (-len(entity.mentions), entity.entity_id)):
        if entity.type == "PERSON" and _is_no_human(entity.name, said):
            continue
        if entity.type in _KNOWN and (line := _first(entity.name, own, used)) is not None:
            used.add(line.text)
            request, advice = _KNOWN[entity.type]
            matters.append(_Matter(request.format(entity.name), advice.format(entity.name), line))
    return matters


def _is_no_human(name: str, said: Sequence[Said]) -> bool:
    """ "Our cat Pilchard": nobody writes to them."""
    called = re.compile(
        rf"\b(?:cat|kitten|dog|spaniel|puppy|horse|pony|robot|printer|machine|car|van|boat),? {re.escape(name)}\b"
    )
    return any(called.search(line.text) for line in said)


def _first(name: str, lines: Sequence[Said], used: Collection[str]) -> Said | None:
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    return next((line for line in lines if line.text not in used and word.search(line.text)), None)
