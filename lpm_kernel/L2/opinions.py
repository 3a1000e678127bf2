"""What the person prefers, wants and decides by, asked for; and experts' advice that it speaks for or against.

Belongs here: the questions of `preference` rows and those `context_critic` rows that rest on a preference.
Does not belong here: finding preferences (`lpm_kernel/L0/preferences.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lpm_kernel.english import parse_sentences
from lpm_kernel.L2.asks import Said
from lpm_kernel.L2.frames import FITS, FITS_NOT, ask_to_criticise
from lpm_kernel.L2.sampling import Ask
from lpm_kernel.records import Preference, content_id

MAX_THING_WORDS = 5
_VAGUE = {
    "case", "cost", "day", "days", "idea", "kind", "lot", "matter", "money", "night", "one", "part", "people", "person",
    "point", "price", "reason", "side", "something", "somebody", "text", "thing", "things", "time", "way", "week",
    "word", "work", "year", "years", "unit", "job", "slide", "table", "vote", "objection", "view", "position",
}  # fmt: skip
_ONE_OF_MANY = {
    "his",
    "her",
    "their",
    "its",
    "this",
    "that",
    "these",
    "those",
    "each",
    "every",
    "any",
    "some",
    "no",
    "all",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "twelve",
}
_PROPOSAL = re.compile(r"\b(?:P-\d+|proposal \d+)\b")
_TO_YOU = {
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "we": "you",
    "us": "you",
    "our": "your",
    "myself": "yourself",
}
_PREFER = re.compile(r"\bI (?:do |would |much )?prefer (?P<this>[^,.;]+?) to (?P<that>[^,.;]+?)(?=[,.;]|$)")
_RATHER = re.compile(r"\bI would rather (?P<this>[^,.;]+?) than (?P<that>[^,.;]+?)(?=[,.;]|$)")
_MORE = re.compile(
    r"\bI (?:do )?(?:like|love|enjoy|trust) (?P<this>[^,.;]+?) (?:far |much )?(?:more|better) than (?P<that>[^,.;]+?)"
    r"(?=[,.;]|$)"
)
_NOT_A_THING = re.compile(r"\b(?:it|that|which|who|when|the \w+ kind)\b")
_STAND = ("Where do you stand on {}?", "Are you for or against {}?", "How would you vote on {}, and why?")
_THINK = ("What do you think about {}?", "How do you feel about {}?", "What is your view on {}?")


def preference_asks(preferences: Sequence[Preference], said: Mapping[str, Said]) -> list[Ask]:
    """One question a preference, answered by its own sentence; those that are said most firmly first. None of a preference
    whose thing cannot be named in a question. `said` holds the person's sentences by their words."""
    asks: list[Ask] = []
    phrases = _phrases([preference.text for preference in preferences])
    for preference in _firmest(preferences):
        line = said.get(preference.text)
        if line is None or not line.is_quotable:
            continue
        question = _choice(preference.text) or _opinion(preference, phrases[preference.text])
        if question is not None:
            asks.append(Ask(question, line.text, line.item, "preference", (line.sentence.citation,)))
    return asks


def opinion_critic_asks(preferences: Sequence[Preference], said: Mapping[str, Said]) -> list[Ask]:
    """Advice that goes with a preference or against it, judged by the sentence that says the preference."""
    asks: list[Ask] = []
    phrases = _phrases([preference.text for preference in preferences])
    for preference in _firmest(preferences):
        line = said.get(preference.text)
        if line is None or not line.is_quotable:
            continue
        told = _advice(preference, phrases[preference.text])
        if told is not None:
            advice, verdict = told
            answer = f"{verdict} {line.text}"
            asks.append(Ask(ask_to_criticise(advice), answer, line.item, "context_critic", (line.sentence.citation,)))
    return asks


def _firmest(preferences: Sequence[Preference]) -> list[Preference]:
    return sorted(preferences, key=lambda preference: (-preference.strength, preference.preference_id))


def _choice(text: str) -> str | None:
    """ "Do you prefer a table to a screen?" of a sentence that weighs two things."""
    frames: tuple[tuple[re.Pattern[str], Callable[[str, str], str]], ...] = (
        (_PREFER, lambda this, that: f"Which do you prefer, {this} or {that}?"),
        (_RATHER, lambda this, that: f"Would you rather {this} or {that}?"),
        (_MORE, lambda this, that: f"Which do you like more, {this} or {that}?"),
    )
    for pattern, ask in frames:
        if (found := _weighed(pattern, text)) is not None:
            first, second = sorted(found, key=lambda part: content_id("side", part))  # the first named must not be the answer
            return ask(first, second)
    return None


def _weighed(pattern: re.Pattern[str], text: str) -> tuple[str, str] | None:
    found = pattern.search(text)
    if found is None:
        return None
    this, that = found["this"], found["that"]
    if any(_NOT_A_THING.search(part) or len(part.split()) > 9 for part in (this, that)):
        return None
    return _spoken(this), _spoken(that)


def _opinion(preference: Preference, phrases: Sequence[str]) -> str | None:
    thing = _thing(preference, phrases)
    if thing is None:
        return None
    frames = _STAND if _PROPOSAL.fullmatch(thing) else _THINK
    return frames[int(content_id("opinion", preference.preference_id)[:4], 16) % len(frames)].format(thing)


def _thing(preference: Preference, phrases: Sequence[str]) -> str | None:
    """What the preference is about, as it is named in its sentence and said to the person."""
    if (proposal := _PROPOSAL.search(preference.text)) and preference.kind == "stance":
        return proposal[0]
    domain = preference.domain.split(": ", 1)[-1].strip()
    phrase = next((phrase for phrase in phrases if domain and phrase.endswith(domain)), None)
    if phrase is None or phrase.split()[-1].casefold() in _VAGUE or len(phrase.split()) > MAX_THING_WORDS:
        return None
    return None if phrase.split()[0].casefold() in _ONE_OF_MANY else _spoken(phrase)


def _phrases(texts: Sequence[str]) -> dict[str, list[str]]:
    """What each text names, with articles: "a small trial", "the Aurora M2"."""
    parsed = parse_sentences(texts)
    return {
        text: [" ".join(_lowered(chunk).split()) for chunk in doc.noun_chunks] for text, doc in zip(texts, parsed, strict=True)
    }


def _lowered(chunk: Any) -> str:
    """Without the capital that only began the sentence."""
    said: str = chunk.text
    return said[0].lower() + said[1:] if chunk[0].is_sent_start and chunk[0].pos_ not in ("PROPN", "PRON") else said


def _advice(preference: Preference, phrases: Sequence[str]) -> tuple[str, str] | None:
    """(what an expert says, the verdict on it)."""
    turn = int(content_id("advice", preference.preference_id)[:4], 16) % 2
    for pattern, frame in ((_PREFER, "I suggest {}."), (_RATHER, "You had better {}."), (_MORE, "I suggest {}.")):
        if (found := _weighed(pattern, preference.text)) is not None:
            return (frame.format(found[0]), FITS) if turn else (frame.format(found[1]), FITS_NOT)
    proposal = _PROPOSAL.search(preference.text)
    if preference.kind == "stance" and proposal and preference.polarity != "undecided":
        is_for = preference.polarity == "for"
        advice = f"You should vote {'for' if turn else 'against'} {proposal[0]}."
        return advice, FITS if is_for == bool(turn) else FITS_NOT
    thing = _thing(preference, phrases)
    if thing is None or preference.kind not in ("attitude", "stance") or preference.polarity == "undecided":
        return None
    return f"I would go for {thing}.", FITS if preference.polarity == "for" else FITS_NOT


def _spoken(words: str) -> str:
    return " ".join(_TO_YOU.get(word.lower(), word) for word in words.split())
