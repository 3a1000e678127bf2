"""Names of one person's world, learnt from all their documents: who is a person, what is a machine, what a place.

Belongs here: what the other sentences of a corpus say about a name, and mentions corrected by it.
Does not belong here: what a mention's own form tells (`stores/ner_rules.py`) and links between spellings (`entities.py`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lpm_kernel.stores.ner import NUMERIC, Span, exact_spans
from lpm_kernel.stores.ner_rules import DAY, LANGUAGES, MONTH, TITLE, Found, settle

NAMES_VERSION = "2"
SPACY_RANK = 50
LEARNT_RANK = 72
GEMINI_RANK = 75  # it has read the whole text, and knows more of the world than a corpus tells
RULES_RANK = 80
CODED_RANK = 98
TOPIC_RANK = 85
_RANKS = {"spacy": SPACY_RANK, "gemini": GEMINI_RANK, "rules": RULES_RANK}
LEAST_SCORE = 1.5
MOST_VOTES = 2.0
ORG_WEIGHT = 0.3  # what the small model does not know it calls an organisation

_NAME = r"[A-ZÀ-Þ]\w*[a-zß-ÿ]\w*\b"
_WORD = re.compile(r"\b[A-ZÀ-Þ][a-zß-ÿ]\w*\b")
_SENTENCE = re.compile(r"(?<=[.!?:])[\"”’)]*\s+|\n+")
_THING = r"(?:robot|printer|machine|press|lathe|mill|oven|extruder|cutter|moulder|loader|crane|saw|drill)"
_VEHICLE = (
    r"(?:bicycle|bike|car|van|lorry|truck|tractor|boat|dinghy|yacht|motorcycle|scooter|phone|camera|laptop|watch|piano|organ|"
    r"guitar|violin|viola|cello|flute|clarinet|trumpet|cornet|trombone|saxophone|accordion)"
)
_KIN = (
    r"(?:boy|girl|man|woman|friend|neighbour|brother|sister|son|daughter|wife|husband|partner|fiancée?|mother|father|aunt|"
    r"uncle|cousin|niece|colleague|apprentice|teacher|pupil|student|nurse|doctor|dentist|lawyer|treasurer|secretary|baker|"
    r"butcher|farmer|gardener|plumber|electrician|carpenter|goldsmith|driver|engineer|writer|painter|poet|cat|dog|puppy|"
    r"kitten|horse|pony|parrot|terrier|spaniel|collie|labrador|poodle)"
)
_SAYING = (
    r"(?:said|says|asks?|asked|thinks?|thought|told|tells?|wants?|wanted|wrote|writes|telephoned|laughed|"
    r"answer(?:s|ed)|reported|reports|"
    r"gave|gives|knows?|knew|promised|explained|sang|sings|brings|brought|learn(?:s|ed|t)|conducts?|plays|teaches|"
    r"taught|bakes?|beat|"
    r"showed|read|reads|feels?|felt|likes?|loves?|hates?|hopes?|worries|who|whose)"
)
_PARTS = (
    r"\b(?:nozzles?|spools?|gearbox|heaters?|jam(?:med|s)|barrel|gripper|extruder|filament|spindle|print bed|"
    r"plates?|bearings?|sensor|"
    r"robots?|printers?|firmware|calibrat\w+|maintenance|pellets|melt|prints?|printed|rail|vat)\b"
)
_CUES: tuple[tuple[str, float, str], ...] = (
    ("MACHINE", 3, rf"\b{_THING}s? (?:called |named )?(?P<name>{_NAME})"),
    ("MACHINE", 2, rf"\b(?P<name>{_NAME}),? (?:is|was) (?:a|an|the|our) (?:\w+ ){{0,3}}{_THING}\b"),
    ("MACHINE", 2, rf"(?P<name>{_NAME}) \d{{1,2}}\b(?![:.,]\d)"),
    ("MACHINE", 0.7, rf"\b(?:the|The|A|a|cold|second|real|other) (?P<name>{_NAME})s?\b(?! [A-Z])"),
    ("PRODUCT", 3, rf"\b(?P<name>{_NAME}),? (?:is|was) (?:a|an|my|the|our) (?:\w+ ){{0,3}}{_VEHICLE}\b"),
    ("PRODUCT", 3, rf"\b{_VEHICLE}s?,? (?:called |named |is an? (?:\w+ )?)(?P<name>{_NAME})"),
    ("PRODUCT", 0.7, rf"\b(?:my|your|our|a|an) (?P<name>{_NAME})\b(?! [A-Z])"),
    ("PERSON", 3, rf"\b{TITLE}\.? (?P<name>{_NAME})"),
    ("PERSON", 3, rf"\b{_KIN}(?: of \w+)?,? (?:called |named )?(?P<name>{_NAME})"),
    ("PERSON", 2, rf"\b(?P<name>{_NAME}),? (?:my|our|the|his|her) (?:\w+ )?{_KIN}\b"),
    ("PERSON", 2, rf"\b(?P<name>{_NAME})(?: {_NAME})? {_SAYING}\b"),
    ("PERSON", 2, rf"\b(?P<name>{_NAME}) and I\b|\bDear (?P<other>{_NAME})"),
    ("PERSON", 1, rf"\b(?:with|told|tell|ask|asked|for|by|to see|thank|Tell|Ask|Ring|Help) (?P<name>{_NAME})"),
    ("PERSON", 1,
     rf"\b(?P<name>{_NAME})(?: {_NAME})? (?:has|had|is|was|will|does|did|would|could|starts?|got)\b(?! (?:an?|the|"
     rf"my|our)\b)"),
    ("PERSON", 0.5, rf"\b(?P<name>{_NAME})['’]s\b"),
    ("GPE", 2, rf"\b(?:in|at|near|outside|around|between|At|In|Near) (?P<name>{_NAME})\b(?!['’]s| [A-Z])"),
    ("GPE", 1.5, rf"\b(?:from|From|until|through|towards|across) (?P<name>{_NAME})\b(?!['’]s| [A-Z])"),
    ("GPE", 0.5, rf"\b(?:of|to) (?P<name>{_NAME})\b(?!['’]s| [A-Z])"),
)  # fmt: skip
_VOTES = {"PERSON": "PERSON", "GPE": "GPE", "LOC": "GPE", "PRODUCT": "PRODUCT", "ORG": "ORG"}
_NO_NAMES = re.compile(
    rf"{MONTH}|{DAY}|{TITLE}|{LANGUAGES}|Dear|Hello|Hi|I|Row|Page|Chapter|Section|Class|Year|Room|Level|Part|Step|Item|Figure|"
    r"Table|Volume|Act|Unit|Week|Day|Grade|Storm|Christmas|Easter|The|This|That|It|He|She|We|You|They|In|On|At|My|Our|And|But|"
    r"If|When|No|Yes|Not|There|What|Here|Lake|River|Mount|Island|Bridge|Street|Road|Dad|Mum|Gran|Grandad|Grandma|Mother|Saint"
)
_TOPIC_WORDS = r"[A-Za-z][\w-]*(?: [a-z][\w-]*){0,2}"
_TOPIC_PLACES = (
    rf"^[#\s*\d.-]*(?P<t>{_TOPIC_WORDS}) \(P-\d+\)",
    rf"^[#\s*\d.-]*P-\d+[:,]? (?:the )?(?P<t>{_TOPIC_WORDS})(?: and (?P<u>{_TOPIC_WORDS}))?\s*$",
    r"\bP-\d+, the (?:proposal (?:on|for|about) )?(?P<t>[a-z][\w-]*(?: [a-z][\w-]*)?)(?=[.,;])",
    r"\bproposal (?:on|about|for) (?P<t>[a-z][\w-]*(?: [a-z][\w-]*)?)(?=[.,;])",
)
_RUN = re.compile(r"\b[A-ZÀ-Þ][a-zß-ÿ]\w*\b(?: [A-ZÀ-Þ][a-zß-ÿ]\w*\b)*")
_CODE = re.compile(r" (?:[A-Z]{1,3}-?)?\d{1,3}\b(?![.,:/]\d)")
_COUNTED = re.compile(
    r"\b(?:every|each|an?|my|our|his|her|\w+(?:one|two|three|four|five|six|seven|eight|nine|ten)|\d+|one|two|"
    r"three|four|five|six) $",
    re.IGNORECASE,
)
_CUE_PATTERNS = tuple((kind, weight, re.compile(pattern)) for kind, weight, pattern in _CUES)
_TOPIC_PATTERNS = tuple(re.compile(pattern, re.MULTILINE) for pattern in _TOPIC_PLACES)
_PART = re.compile(_PARTS)


Scores = dict[str, dict[str, float]]
"""Name, then type, then how much speaks for it."""


@dataclass(frozen=True, slots=True)
class Names:
    """Types of single names (without a plural's s), and phrases that are policy topics, in lower case."""

    types: Mapping[str, str]
    topics: tuple[str, ...]
    common: frozenset[str]
    """Words that also stand in small letters: at the head of a sentence they are no name."""


def learn_names(texts: Sequence[str], mentions: Sequence[Sequence[Span]]) -> Names:
    """What the whole of these texts says about each name; `mentions` of each text vote.

    Why over all documents: one sentence, "Heron jammed", does not tell a machine from a bird or a person; twenty do.
    Deterministic: the order of the texts does not matter.
    """
    small = Counter(word for text in texts for word in re.findall(r"\b[a-zß-ÿ]\w+\b", text))
    scores: Scores = defaultdict(lambda: defaultdict(float))
    units: dict[str, set[str]] = defaultdict(set)
    inside: Counter[str] = Counter()
    for text in texts:
        for sentence in _SENTENCE.split(text):
            _weigh(sentence, scores, units, inside)
    _count_votes(texts, mentions, scores)
    for plural in [name for name in scores if _singular(name, scores) != name]:
        inside[_singular(plural, scores)] += inside[plural]
        for kind, weight in scores.pop(plural).items():
            scores[plural[:-1]][kind] += weight
    types: dict[str, str] = {}
    for name, score in scores.items():
        score["ORG"] *= ORG_WEIGHT
        if _NO_NAMES.fullmatch(name) or not inside[name]:
            continue
        if len(units[name]) >= 2:
            score["MACHINE"] += 3
        # Rounded, for a sum of floats depends in its last digit on the order of the texts.
        (best, kind), (second, _), *_ = sorted(
            ((round(weight, 6), kind) for kind, weight in [*score.items(), ("", 0.0)]), reverse=True
        )
        if best >= LEAST_SCORE and best > second and kind != "ORG":
            types[name] = kind
    topics = {
        found.casefold()
        for text in texts
        for pattern in _TOPIC_PATTERNS
        for match in pattern.finditer(text)
        for found in match.groups()
        if found
    }
    return Names(types, tuple(sorted(topics)), frozenset(small))


def _weigh(sentence: str, scores: Scores, units: dict[str, set[str]], inside: Counter[str]) -> None:
    for match in re.finditer(rf"(?<=[\w,;“(] )(?P<name>{_NAME})|(?<=[“(])(?P<quoted>{_NAME})", sentence):
        inside[match["name"] or match["quoted"]] += 1
    parts = bool(_PART.search(sentence))
    for kind, weight, pattern in _CUE_PATTERNS:
        for match in pattern.finditer(sentence):
            name = match["name"] or match.groupdict().get("other")
            if name:
                scores[name][kind] += weight * (1.5 if kind == "MACHINE" and parts else 1.0)
    for match in re.finditer(rf"\b(?P<name>{_NAME})s? ?(?P<unit>\d{{1,2}}\b)?", sentence):
        if parts:
            scores[match["name"]]["MACHINE"] += 0.5
        if match["unit"]:
            units[match["name"]].add(match["unit"])


def _count_votes(texts: Sequence[str], mentions: Sequence[Sequence[Span]], scores: Scores) -> None:
    """What a model called each name, as shares. Why shares: it errs in the same way each time, and would outvote the words."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for text, spans in zip(texts, mentions, strict=True):
        for span in spans:
            if span.type in _VOTES and (word := _WORD.search(text, span.start, span.end)):
                votes[word[0]][_VOTES[span.type]] += 1
    for name, counts in votes.items():
        for kind, count in counts.items():
            scores[name][kind] += min(MOST_VOTES, count * 1.5) * count / counts.total()


def _singular(word: str, known: Mapping[str, object]) -> str:
    return word[:-1] if word.endswith("s") and word[:-1] in known else word


def apply_names(text: str, spans: Sequence[Span], names: Names) -> tuple[Span, ...]:
    """The mentions of one text, corrected and completed by what the corpus knows."""
    by_model = {Found(s.start, s.end, s.type, _rank_of(s)): s.extractor for s in spans}
    found = [*_without_common_heads(text, by_model, names), *_learnt(text, names), *_topics(text, names)]
    return exact_spans(text, [(item, _source_of(item)) for item in settle(found)])


def _source_of(item: Found) -> str:
    return next((extractor for extractor, rank in _RANKS.items() if rank == item.rank), "names")


def _rank_of(span: Span) -> int:
    return _RANKS.get(span.extractor, SPACY_RANK)


def _without_common_heads(text: str, known: Iterable[Found], names: Names) -> Iterable[Found]:
    """A model takes the first word of a sentence for a name because of its capital: "Carols at the station", "Ring Col"."""
    for item in known:
        start = item.start
        if item.rank == SPACY_RANK and item.type not in NUMERIC and _begins_sentence(text, start):
            head = _WORD.match(text, start)
            if head and head.end() <= item.end and head[0] not in names.types and head[0].lower() in names.common:
                start = head.end() + 1
        if start == item.start:
            yield item
        elif start < item.end and text[start].isupper():
            yield item._replace(start=start)


def _is_no_name(word: str, names: Names) -> bool:
    return word.lower() in names.common or bool(_NO_NAMES.fullmatch(word))


def _begins_sentence(text: str, position: int) -> bool:
    return not re.search(r"[\w,;)”’\"'] ?$", text[max(0, position - 2) : position])


def _learnt(text: str, names: Names) -> Iterable[Found]:
    for run in _RUN.finditer(text):
        words = list(_WORD.finditer(text, run.start(), run.end()))
        while len(words) > 1 and words[0][0] not in names.types and _is_no_name(words[0][0], names):
            words = words[1:]
        if not words:
            continue
        first = words[0][0]
        kind = names.types.get(first) or names.types.get(_singular(first, names.types))
        start, code = words[0].start(), _CODE.match(text, words[-1].end())
        if kind is None and len(words) == 2 and names.types.get(words[1][0]) == "PERSON":
            kind = "PERSON"
        if code and kind in (None, "MACHINE", "PRODUCT") and not _NO_NAMES.fullmatch(first):
            if kind or re.search("[A-Z]", code[0]):
                yield Found(start, code.end(), kind or "PRODUCT", CODED_RANK)
        elif kind == "PERSON" or (kind and len(words) == 1):
            yield Found(start, words[-1].end(), kind, LEARNT_RANK)


def _topics(text: str, names: Names) -> Iterable[Found]:
    for topic in names.topics:
        for match in re.finditer(rf"(?<![\w-]){re.escape(topic)}(?![\w-])", text, re.IGNORECASE):
            # "Every delegation", "six apprentices", "an apprentice" are things that are counted, not the topic.
            if " " in topic or not _COUNTED.search(text[max(0, match.start() - 12) : match.start()]):
                yield Found(match.start(), match.end(), "POLICY_TOPIC", TOPIC_RANK)
