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
    rf"{_AM}(?:for|in favou?r of|in favou?r|pro|behind|on board)\b{_NOT_FOR_A_TIME}"
    rf"|{_I}(?:support|supported|back|backed|welcome|favou?r|approve|endorse|champion|applaud|agree (?:with|to|that))\b"
    rf"|{_I}(?:vote|voted|say|said|argue|argued|speak|spoke|stand|stood)\s+(?:\w+ly\s+)?(?:yes|for|in favou?r)\b"
    rf"|{_I}said\s+yes\b|\bcount me (?:in|among)\b"
    r"|\bmy (?:vote|answer|ballot) (?:is|will be|stays) (?:a )?(?:clear )?(?:yes|for)\b|\b(?:has|have|gets?) my vote\b"
    r"|(?:^|[,;:]\s*)(?:so |then |oh |well |and )?yes(?:,| to\b| from\b|$)"
    rf"|{_I}hope (?:that )?(?:the |this |it )?[^.;]{{0,40}}\b(?:pass(?:es)?|goes through|is (?:accepted|adopted|carried))\b"
    rf"|{_I}(?:want|wish for|like|love) (?:the|this|that|it)\b"
    rf"|{_AM}(?:glad|happy|relieved|pleased|delighted) (?:that|about|to see|if|with)\b"
    rf"|{_I}be (?:glad|happy|relieved|pleased|delighted) (?:that|about|to see|if|with)\b"
    rf"|{_AM}(?:convinced|sure|certain) (?:that )?(?:we|it|this) (?:must|should|need|needs|ought|is right)\b"
    r"|\bI(?:['’]m| am) no longer (?:against|opposed)\b|\b(?:about|high) time (?:that|for|to|we|somebody|someone|they)\b"
    r"|\b(?:long|well) overdue\b"
    r"|\b(?:is|it['’]s|what|such) an? (?:very )?(?:good|great|fine|excellent|splendid|sensible) idea\b",
    re.IGNORECASE,
)
_AGAINST = re.compile(
    rf"{_AM}(?:against|opposed to|opposed|not for|not in favou?r|no friend of|not convinced|unconvinced|sceptical|skeptical)\b"
    rf"|{_I}(?:oppose|opposed|reject|rejected|object|objected|refuse|disagree|resist)\b"
    rf"|{_I}(?:vote|voted|say|said|argue|argued|speak|spoke|stand|stood)\s+(?:\w+ly\s+)?(?:no|against|(?:it|this|that) down)\b"
    rf"|\bI\s+{_NEVER}\s+(?:\w+ly\s+)?(?:support|back|agree|approve|want|like|accept|vote for|welcome|sell|think we should"
    rf"|see (?:the|any) (?:point|sense|need|reason|use)|see why)\b"
    r"|\bI see no (?:point|sense|need|reason|use)\b|\bI (?:have|had) (?:\w+ )?doubts\b|\bI doubt (?:that|whether|if)\b"
    r"|\bI(?:['’]m| am)? no longer (?:for|in favou?r|support|back|want)\b|\bI(?:['’]d| would) rather not\b"
    r"|\bmy (?:vote|answer|ballot) (?:is|will be|stays) (?:a )?(?:clear )?(?:no|against)\b"
    r"|\b(?:nobody|no one|never|not)\b[^.;,]{0,30}\bmy vote\b"
    r"|\bover my dead body\b|(?:^|[,;:]\s*)(?:so |then |oh |well |and )?no(?:,| to\b|$)"
    r"|\bis (?:just |simply |only )?a (?:bad idea|mistake|waste of)\b|\bI find (?:it|this|that) wrong\b"
    r"|\bout of the question\b",
    re.IGNORECASE,
)
_ABSTAIN = re.compile(
    r"\bI (?:\w+ ){0,3}abstain\b|\band abstain\b|\bI(?:['’]m| am| remain) (?:\w+ )?(?:undecided|torn)\b|\b(?:sit"
    r"|sitting) (?:this|it) (?:one )?out\b"
    r"|\bI have no (?:opinion|view)\b|\bleave my ballot (?:blank|empty)\b|\bI (?:cannot|can['’]t|could not) decide\b"
    r"|\bI (?:can )?(?:be )?neither (?:be )?for nor against\b|\bneither (?:be )?for nor against\b"
    r"|\bI (?:have not|haven['’]t) (?:yet )?made up my mind\b"
    r"|\bI (?:will|shall) not (?:take (?:a |any )?sides?|vote (?:on|in this))\b"
    r"|\bI (?:do not|don['’]t|did not|didn['’]t) mind either way\b|\bI stay out\b"
    r"|\bI (?:keep|shall keep|will keep) out of (?:it|this)\b"
    r"|\b(?:makes no difference|(?:is|are) all the same|is all one) to me\b",
    re.IGNORECASE,
)
_NOT_AGAINST = re.compile(r"\b(?:not|nothing|nor|hardly) (?:\w+ly )?(?:against|opposed)\b", re.IGNORECASE)
_ANSWERED = re.compile(r"\basked?\b|\basking\b", re.IGNORECASE)
"""Then a yes or no that was said is an answer to that, whatever it was."""
_SAID = re.compile(r"\b(?:I|and) (?:have )?said (?:yes|no)\b", re.IGNORECASE)
_ONCE = re.compile(
    r"\bused to\b|\bwould have\b|\bonce (?:thought|said|was)\b|\bat first\b|\bfirst thought\b|\b(?:un)?til (?:this|last)\b"
    r"|\bback then\b"
    r"|\blast (?:year|winter|spring|summer|autumn|month)\b|\bI still said\b"
    r"|\bin (?:january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn"
    r"|winter)"
    r"(?: \d{4})? I\b",
    re.IGNORECASE,
)
_SINCE = re.compile(
    r"(?:[,;]|\b(?:but|and)\b)\s*(?:(?:but|and)\s+)?(?:\w+\s+){0,2}?"
    r"(?:now|today|nowadays|these days|since then|in the end|changed my mind)\b",
    re.IGNORECASE,
)
"""From where a sentence tells of the present again."""
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
_NAME = re.compile(
    r"\b(?:(?P<kind>[A-Z]{1,4})-|(?i:(?P<word>proposal|motion|resolution|item))\s+(?:(?i:no|nr|number)\.?\s*)?#?)(?P<number>\d{1,6})\b"
)
_OF_SIDES = frozenset(stems_of("against favour favor support oppose opposed reject vote yes no abstain choose"))
"""Words that a proposal's text cannot make a line be about it by: a text that orders a side would draw that side's lines."""
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
    names: frozenset[str] = frozenset()
    """Such as P-9, by which members call it."""


def read_cues(sentence: str) -> Cues:
    plain = " ".join(sentence.split())
    once, now = _ONCE.search(plain), _SINCE.search(plain)
    if once and now and now.start() > once.start():
        plain, once = plain[now.start() :], None
    rest = _NOT_AGAINST.sub(" ", plain)
    if _ANSWERED.search(plain):
        rest = _SAID.sub(" ", rest)
    abstain = bool(_ABSTAIN.search(plain))
    against = not abstain and bool(_AGAINST.search(rest))
    for_ = not abstain and not against and bool(_FOR.search(rest))
    asks = bool(_ASKS.search(plain))
    if asks:  # "Do I want it?" says nothing yet
        for_ = against = abstain = False
    return Cues(for_, against, abstain, bool(once), bool(_MINE.search(plain)), asks, bool(_OF_A_BAN.search(plain)))


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
    title_stems, all_stems = frozenset(stems_of(bare)) or stems, (stems | frozenset(stems_of(text))) - _OF_SIDES
    return Question(wording, sign, title_stems, all_stems, bans, unclear, frozenset(names_in(f"{title}. {text}")))


def names_in(text: str) -> list[str]:
    """Of proposals, as members number them: "P-09", "motion 12"."""
    return [f"{(found['kind'] or found['word']).casefold()}-{int(found['number'])}" for found in _NAME.finditer(text)]


def is_of_another(question: Question, sentence: str, heading: str | None, line: str) -> bool:
    """Whether what is said is of a proposal of another number: by the sentence, else by its heading, else by the whole line."""
    kinds = {name.partition("-")[0] for name in question.names}
    for text in (sentence, heading or "", line):
        named = {name for name in names_in(text) if name.partition("-")[0] in kinds}
        if named:
            return not named & question.names
    return False


def _negates(first: str, title: str) -> bool:
    """Whether it is what the title names that is not to be: "the old one is not reliable" speaks of something else."""
    found = _NEGATED.search(first)
    if found is None:
        return False
    clause = _CLAUSE.match(first, found.end())
    named, denied = set(stems_of(title)), set(stems_of(clause.group() if clause else ""))
    return bool(named) and 2 * len(named & denied) >= len(named)
