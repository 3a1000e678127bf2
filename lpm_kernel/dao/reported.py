"""Which words of a sentence are its writer's own, and which it tells of somebody else.

Belongs here: English ways to report speech and thought, as pure questions over a sentence.
Does not belong here: what the writer's own words say (`stance_cues.py`).

"Petra said: I am against it" holds a first person that is Petra's. Where it is not plain whose words they are they count as
another's: a twin that says nothing is better than one that votes for Petra.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.L2.prompt import as_line
from lpm_kernel.stores.stems import stems_of

_SAYS = (
    r"(?:sa(?:y|ys|id|ying)|wr(?:ite|ites|ote|iting)|th(?:ink|inks|ought)|believe[sd]?|repl(?:y|ies|ied)|answer(?:s|ed)?|argue[sd]?"
    r"|claim(?:s|ed)?|insist(?:s|ed)?|declare[sd]?|announce[sd]?|shout(?:s|ed)|whisper(?:s|ed)|add(?:s|ed)|explains"
    r"|reckon(?:s|ed)?|feel|feels|felt|finds|found|hope[sd]?|wish(?:es|ed)|fear(?:s|ed)|maintain(?:s|ed)?|repeat(?:s|ed)"
    r"|remark(?:s|ed)|told|tell|tells|stated|swears?|swore|promise[sd]|admit(?:s|ted)|warn(?:s|ed)|complain(?:s|ed)"
    r"|went on|quotes|quoted|texted|mailed|posted|cries|cried|mutter(?:s|ed))"
)
_HEARER = r"(?:\s+(?:to\s+)?(?:me|us|you|him|her|them|everyone|everybody|all|all of us|the \w+|[A-Z]\w+))?"
_OTHER = (
    r"(?:(?:my|our|the|his|her|their|a|an|one|some|most|many|every|each|another|old|young)\s+(?:\w+\s+){0,3}?\w+"
    r"|he|she|they|somebody|someone|everybody|everyone|people|others|nobody|(?:Mrs?|Ms|Dr)\.?\s+\w+|(?-i:[A-Z]\w+)(?:\s+(?-i:[A-Z]\w+))?)"
)
_HOW = r"(?:\s+(?:\w+ly|all|always|still|then|now|also|once|just|has|have|had|would|will|even|never|often))*"
_NOT_ME = r"(?!(?:as|like|when|if)\b|(?-i:I)\b|we\b|me\b|my\s+(?:vote|answer|view|own)\b)"

_TELLS = re.compile(
    rf"(?<![\w'’-])(?<!\bas\s)(?<!\blike\s){_NOT_ME}(?P<who>{_OTHER}){_HOW}\s+{_SAYS}{_HEARER}(?:\s+(?:at|on|in)\s+\w+(?:\s+\w+)?)?\s*"
    r"(?P<how>[:,]\s*[“\"]|:|,?\s*[“\"]|,\s*|\s+that\b\s*|\s*)",
    re.IGNORECASE,
)
_AFTERWARDS = re.compile(
    rf"[,.!?”\"'’–—-]+\s*(?:(?:{_SAYS})\s+{_NOT_ME}{_OTHER}|{_NOT_ME}{_OTHER}{_HOW}\s+{_SAYS}{_HEARER})"
    r"(?:\s+(?:on|at|in|to|with|over|from|when|as|after|before|every|last|yesterday|today|again)\b[^,;:]*|\s+\w+ly)?\s*[.!?…]*\s*$",
    re.IGNORECASE,
)
_ACCORDING = re.compile(
    rf"\b(?:according to|as far as)\s+{_NOT_ME}{_OTHER}(?:\s+is concerned)?\s*,"
    rf"|\bin\s+(?:{_OTHER}['’]s?|his|her|their)\s+(?:own\s+)?(?:words|opinion|view|eyes|letter)\b\s*[,:]?"
    rf"|\b(?:the\s+)?(?:words|opinion|view|answer|motto)\s+of\s+{_NOT_ME}{_OTHER}(?:\s+(?:is|was|are|were))?\s*:",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^\W*(?P<name>(?:(?:Mrs?|Ms|Dr)\.?\s+)?[A-Z][\w'’-]+(?:\s+[A-Z][\w'’-]+){0,2})(?:\s*\([^)]*\))?\s*:\s+(?=\S)"
)
_OF_NOTES = re.compile(
    r"me|myself|mine|i|my|vote|view|opinion|verdict|answer|decision|conclusion|position|stance|results?|notes?|update|later|now"
    r"|today|yesterday|(?:mon|tues|wednes|thurs|fri|satur|sun)day|morning|evening|summary|ps|short|yes|no|so|question|reasons?"
    r"|why|points?|item|agenda|motion|proposal|for|against|plan|ideas?|thoughts?|p-?\d+"
)
_TURNS = re.compile(
    r"(?:;|[,–—-]?\s+(?:but|yet|while|whereas|though|although|and|so)(?:\s+(?:for\s+me|as\s+for\s+me|personally|still|then))?,?)"
    r"\s+(?=(?-i:I)\b|my\s+(?:own\s+)?(?:vote|answer|ballot|view)\b|count me\b|for my part\b)",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Ww]e|[Oo]ur|[Yy]es|[Nn]o)\b")
_I_SAID = re.compile(rf"\b(?:I|We|we)(?:['’]ve)?(?:\s+\w+){{0,2}}?\s+{_SAYS}{_HEARER}[^.;“\"]{{0,25}}$")
_I_SAID_AFTER = re.compile(rf"^[,.!?]?\s*(?:I|we)(?:\s+\w+){{0,2}}?\s+{_SAYS}\b")


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of a line, what of it is its writer's own, and the heading that it stands under."""

    text: str
    own: str
    heading: str | None = None

    @property
    def headed(self) -> str:
        """As it reads under its heading: "I am for it" says of what only there."""
        return f"{self.heading}. {self.text}" if self.heading else self.text


def sentences_of(text: str, about: Collection[str] = ()) -> list[Said]:
    """Of a line, in order. `about`: stems of what is asked, which as a label before a colon are a heading and no speaker."""
    found = [Said(each.text, own_words(each.text, each.quoted, about), each.heading) for each in split_sentences(text)]
    return found or [Said(line := as_line(text), own_words(line, (), about))]


def own_words(sentence: str, quoted: Sequence[tuple[int, int]] = (), about: Collection[str] = ()) -> str:
    """The sentence without what another says or thinks in it; empty where nothing is left."""
    if (0, len(sentence)) in quoted:
        return ""
    told = list(_TELLS.finditer(sentence))
    blank = list(sentence)
    for start, end in quoted:
        mine = _I_SAID.search(sentence[:start]) or _I_SAID_AFTER.match(sentence[end:])
        others = any(match.start() < start for match in told) or _AFTERWARDS.search(sentence[max(0, end - 1) :])
        if not mine and (others or _FIRST_PERSON.search(sentence[start:end])):
            blank[start:end] = " " * (end - start)
    rest = "".join(blank)
    label = _LABEL.match(rest)
    if label and not _names_a_note(label["name"], about):
        return ""
    if _ACCORDING.search(rest):
        rest = _without(rest, _ACCORDING)
    if after := _AFTERWARDS.search(rest):
        rest = rest[after.end() :]
    return " ".join(_without_told(rest).split())


def is_told(sentence: str, own: str) -> bool:
    """Whether more of it is another's than its writer's."""
    return 2 * len(own) < len(" ".join(sentence.split()))


def _names_a_note(label: str, about: Collection[str]) -> bool:
    words = [word.strip(".").casefold() for word in label.split()]
    return any(_OF_NOTES.fullmatch(word) for word in (words[0], words[-1])) or bool(set(stems_of(label)) & set(about))


def _without(sentence: str, told: re.Pattern[str]) -> str:
    found = told.search(sentence)
    return sentence if found is None else sentence[: found.start()] + " " + _own_turn(sentence[found.end() :])


def _without_told(sentence: str) -> str:
    """Each time somebody is said to say something: without it, up to where the writer speaks again."""
    kept, place = "", 0
    while found := _TELLS.search(sentence, place):
        kept += sentence[place : found.start()] + " "
        if ":" in found["how"]:
            return kept
        turn = _TURNS.search(sentence, found.start("how"))
        if turn is None:
            return kept
        place = turn.start()
    return kept + sentence[place:]


def _own_turn(told: str) -> str:
    turn = _TURNS.search(told)
    return told[turn.start() :] if turn else ""
