"""What a sentence says outright of its writer's will, and whether a proposal asks for a thing or against it.

Belongs here: English turns of phrase, as pure questions over text.
Does not belong here: what a sentence without such a phrase amounts to (`stance_model.py`).

Only what is said in the first person counts: "vote for this" is somebody's wish, and "Sven is for it" is Sven's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lpm_kernel.stores.stems import stems_of

_MORE = (
    r"(?:(?:\w+ly|all|quite|still|very much|now|also|rather|dead|so|only|just|always|would|will|shall"
    r"|do|have|['’]d|['’]ll)\s+){0,3}"
)
_AM = rf"\bI(?:['’]m|\s+am|\s+remain|\s+was)\s+{_MORE}"
_I = rf"\bI(?:['’]d|['’]ll)?\s+{_MORE}"
_NOT_FOR_A_TIME = r"(?!\s+(?:ever|years|once|now|the record|example|instance|hours|days|weeks|months|a while|sale|hire)\b)"
_NEVER = r"(?:do not|don['’]t|cannot|can not|can['’]t|will not|won['’]t|would not|wouldn['’]t|shall not|could not|never)"

_FOR = re.compile(
    rf"{_AM}(?:for|in favou?r of|in favou?r|pro)\b{_NOT_FOR_A_TIME}"
    rf"|{_I}(?:support|supported|back|backed|welcome|favou?r|approve|endorse|champion|applaud|agree (?:with|to|that))\b"
    rf"|{_I}(?:vote|voted|say|said|argue|argued|speak|spoke|stand|stood)\s+(?:\w+ly\s+)?(?:yes|for|in favou?r)\b"
    rf"|{_I}said\s+yes\b|\bcount me in\b|\bmy (?:own )?yes\b"
    r"|\bmy (?:vote|answer|ballot) (?:is|will be|stays) (?:a )?(?:clear )?(?:yes|for)\b|\b(?:has|have|gets?) my vote\b"
    r"|(?:^|[,;:]\s*)(?:so |then |oh |well |and )?yes(?:,| to\b| from\b|$)"
    rf"|{_I}hope (?:that )?(?:the |this |it )?[^.;]{{0,40}}\bpass(?:es)?\b"
    rf"|{_I}(?:want|wish for|like) (?:the|this|that|it)\b",
    re.IGNORECASE,
)
_AGAINST = re.compile(
    rf"{_AM}(?:against|opposed to|opposed|not for|not in favou?r|no friend of)\b"
    rf"|{_I}(?:oppose|opposed|reject|rejected|object|objected|refuse|disagree|resist)\b"
    rf"|{_I}(?:vote|voted|say|said|argue|argued|speak|spoke|stand|stood)\s+(?:\w+ly\s+)?(?:no|against|(?:it|this|that) down)\b"
    rf"|\bI\s+{_NEVER}\s+(?:\w+ly\s+)?(?:support|back|agree|approve|want|accept|vote for|welcome|sell|see (?:the"
    rf"|any) (?:point|sense))\b"
    r"|\bmy (?:vote|answer|ballot) (?:is|will be|stays) (?:a )?(?:clear )?(?:no|against)\b|\bmy (?:own )?no\b"
    r"|\bover my dead body\b|(?:^|[,;:]\s*)(?:so |then |oh |well |and )?no(?:,| to\b|$)"
    r"|\bis a (?:bad idea|mistake)\b|\bI find (?:it|this|that) wrong\b",
    re.IGNORECASE,
)
_ABSTAIN = re.compile(
    r"\bI (?:\w+ ){0,3}abstain\b|\band abstain\b|\bI(?:['’]m| am| remain) (?:\w+ )?(?:undecided|torn)\b|\b(?:sit"
    r"|sitting) (?:this|it) (?:one )?out\b"
    r"|\bI have no (?:opinion|view)\b|\bleave my ballot (?:blank|empty)\b|\bI (?:cannot|can['’]t|could not) decide\b"
    r"|\bI (?:can )?(?:be )?neither (?:be )?for nor against\b|\bneither (?:be )?for nor against\b"
    r"|\bI (?:have not|haven['’]t) (?:yet )?made up my mind\b|\bI will not (?:take (?:a |any )?sides?|vote on)\b"
    r"|\bI (?:do not|don['’]t|did not|didn['’]t) mind either way\b|\bI stay out\b",
    re.IGNORECASE,
)
_NOT_AGAINST = re.compile(r"\b(?:not|nothing|nor|hardly) (?:\w+ly )?(?:against|opposed)\b", re.IGNORECASE)
_ANSWERED = re.compile(r"\basked?\b|\basking\b", re.IGNORECASE)
"""Then a yes or no that was said is an answer to that, whatever it was."""
_SAID = re.compile(r"\b(?:I|and) (?:have )?said (?:yes|no)\b", re.IGNORECASE)
_ONCE = re.compile(
    r"\bused to\b|\bwould have\b|\bonce (?:thought|said|was)\b|\bat first\b|\bfirst thought\b|\b(?:un)?til (?:this|last)\b"
    r"|\bback then\b"
    r"|\bwent in\b|\blast (?:year|winter|spring|summer|autumn|month)\b|\bI still said\b|\bI was wrong\b"
    r"|\bin (?:january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn"
    r"|winter)"
    r"(?: \d{4})? I\b",
    re.IGNORECASE,
)
_BANS = re.compile(
    r"\b(?:forbid\w*|forbade|bann?\w*|prohibit\w*|abolish\w*|stops?|stopped|ends?|ended|drops?|scraps?)(?![\w-])", re.IGNORECASE
)
_OF_A_BAN = re.compile(
    r"\b(?:for|against|oppose|support|back|reject)\s+(?:\w+\s+){0,3}?"
    r"(?:forbid\w*|bann?\w*|prohibit\w*|abolish\w*|stopping|ending|an end to|dropping|scrapping|cancell?\w*|halt\w*|reject\w*"
    r"|abandon\w*|giving up|doing away with)\b",
    re.IGNORECASE,
)
_MINE = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Mm]yself|[Ww]e|[Oo]ur|[Uu]s)\b")
_ASKS = re.compile(r"\?[\"”’')\]]*\s*$")

_NEGATIVE = re.compile(
    r"^\s*(?:proposal\s+(?:not\s+)?to\s+)?(?:not(?:\s+to)?|no(?:\s+more)?|never|do(?:es)?\s+not|don['’]t|stop|end|ban|abolish"
    r"|scrap|drop|reject|cancel"
    r"|against|without|oppose|prohibit|forbid|halt|abandon|refuse|give\s+up|do\s+away\s+with)(?![\w-]|\s+of\b)(?:\s+to)?\s*",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?<!that )(?<!which )(?<!who )\b(?:(?:is|are|do|does|will|shall|may|can|must|should) not|cannot|isn['’]t|aren['’]t"
    r"|doesn['’]t)\b\s*",
    re.IGNORECASE,
)
_FIRST_SENTENCE = re.compile(r"[^.!?]*")
_CLAUSE = re.compile(r"[^,;:]*")


@dataclass(frozen=True, slots=True)
class Cues:
    """Each 0 or 1. `once`: it tells of what was thought before. `mine`: its writer speaks of themself."""

    for_: bool
    against: bool
    abstain: bool
    once: bool
    mine: bool
    asks: bool
    of_a_ban: bool
    """Whether they are said of something being forbidden or ended, and not of that something."""


@dataclass(frozen=True, slots=True)
class Question:
    """A proposal as a stance is asked for. `sign`: -1 where it asks that something be not done, and `wording` is that thing."""

    wording: str
    sign: int
    title_stems: frozenset[str]
    stems: frozenset[str]
    """Of title and text."""
    bans: bool
    """Whether what is to be done is itself that something be forbidden or ended."""
    unclear: bool = False
    """Whether something else than the title names is denied: it may be the proposal turned round, or no part of it."""


def read_cues(sentence: str) -> Cues:
    plain = " ".join(sentence.split())
    rest = _NOT_AGAINST.sub(" ", plain)
    if _ANSWERED.search(plain):
        rest = _SAID.sub(" ", rest)
    abstain = bool(_ABSTAIN.search(plain))
    against = not abstain and bool(_AGAINST.search(rest))
    for_ = not abstain and not against and bool(_FOR.search(rest))
    asks = bool(_ASKS.search(plain))
    if asks:  # "Do I want it?" says nothing yet
        for_ = against = abstain = False
    return Cues(
        for_, against, abstain, bool(_ONCE.search(plain)), bool(_MINE.search(plain)), asks, bool(_OF_A_BAN.search(plain))
    )


def read_question(title: str, text: str) -> Question:
    """What is proposed, and whether it is proposed that it be or that it be not."""
    title, text = " ".join(title.split()), " ".join(text.split())
    begin = _FIRST_SENTENCE.match(text)
    first = begin.group() if begin else ""
    wording, sign = f"{title}. {text}".strip(". ") + ".", 1
    bare = _NEGATIVE.sub("", title)
    if bare != title:
        wording, sign = f"{bare}.", -1
    elif _negates(first, title):
        wording, sign = f"{title}. {_NEGATED.sub('', first)}.", -1
    stems = frozenset(stems_of(wording))
    bans = sign > 0 and bool(_BANS.search(f"{title}. {text}"))
    unclear = sign > 0 and bool(_NEGATED.search(first))
    return Question(wording, sign, frozenset(stems_of(bare)) or stems, stems | frozenset(stems_of(text)), bans, unclear)


def _negates(first: str, title: str) -> bool:
    """Whether it is what the title names that is not to be: "the old one is not reliable" speaks of something else."""
    found = _NEGATED.search(first)
    if found is None:
        return False
    clause = _CLAUSE.match(first, found.end())
    named, denied = set(stems_of(title)), set(stems_of(clause.group() if clause else ""))
    return bool(named) and 2 * len(named & denied) >= len(named)
