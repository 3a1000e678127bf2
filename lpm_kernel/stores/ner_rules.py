"""What can be recognised by its form alone: numbers with units, dates and times, coded names, materials, machines, titles.

Belongs here: patterns that hold for any English text of a maker's life, each with the type it gives, and which of two wins.
Does not belong here: names of one person's world (those are learnt from their documents, `lpm_kernel/L0/names.py`) and models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Found(NamedTuple):
    """Characters [start, end) of a text are a mention of this type. Of two that overlap the higher rank stays."""

    start: int
    end: int
    type: str
    rank: int


_UNIT_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = rf"(?:(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_UNIT_WORDS)}))?|{'|'.join(_TEENS)}|{'|'.join(_UNIT_WORDS)})"
_WORDS = rf"(?i:(?:{_SMALL}|a|several) (?:hundred|thousand|million)(?: and {_SMALL})?|{_SMALL}|half|hundreds|thousands|dozens)"
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_NUMBER = rf"(?:(?<![\w.,-]){_DIGITS}(?:\s?(?:million|billion|thousand|bn|k)\b)?|\b{_WORDS}\b)"
_ABOUT = (
    r"(?:\b(?:[Nn]o (?:more|less|fewer) than|[Mm]ore than|[Ll]ess than|[Ff]ewer than|[Aa]t least|[Aa]t most|[Uu]p to|[Aa]bout|"
    r"[Aa]round|[Rr]oughly|[Aa]pproximately|[Nn]early|[Aa]lmost)\s)?"
)
MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_SHORT_MONTH = r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?"
DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_HOLIDAY = (
    r"(?:Christmas(?: (?:Eve|Day))?|Boxing Day|New Year(?:['’]s (?:Eve|Day))?|Easter(?: Monday)?|Good Friday|"
    r"(?:Palm|Easter|Remembrance|Mothering) Sunday|Thanksgiving|Halloween|Bonfire Night|Ramadan|Diwali|Hanukkah|Passover)"
)
_ORDINAL_WORDS = (
    r"(?i:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|"
    r"sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth|(?:twenty|thirty)-(?:first|second|third|fourth|fifth|"
    r"sixth|seventh|eighth|ninth))"
)
_DAY_NUMBER = rf"(?:[0-3]?\d(?:st|nd|rd|th)?|(?:the )?{_ORDINAL_WORDS} of)"
_CALENDAR = (
    rf"(?:(?:{DAY},? )?(?:the )?(?:(?:{_DAY_NUMBER} )?{MONTH}|{_DAY_NUMBER} {_SHORT_MONTH})"
    r"(?: [0-3]?\d(?:st|nd|rd|th)?,?(?!\d|[:.]\d))?(?:,? (?:19|20)\d\d)?)"
)
_DAYS = r"(?:days?|weeks?|fortnights?|months?|years?|decades?|centur(?:y|ies)|weekends?)"
_PERIOD = r"(?:day|week|fortnight|month|year|weekend|decade|century|spring|summer|autumn|winter|term|season)"
_HOURS = r"(?:seconds|minutes?|hours?|milliseconds?|second(?=[.,;:!?]|$| (?:and|or|of|to|at|later|ago|before|after|each)\b))"
_CLOCK = (
    r"(?:[01]?\d|2[0-4]):[0-5]\d(?:\s?[ap]\.?m\.?)?|(?:[01]?\d|2[0-4])\.[0-5]\d\s?[ap]\.?m\.?|(?:1[0-2]|[1-9])\s?[ap]\.?m\b\.?"
)
_DAYPART = r"(?:morning|afternoon|evening|night)"
_UNIT = (
    r"(?:(?:kilo|milli|centi|micro|nano|mega|giga|deci)?(?:metres?|meters?|grams?|grammes?|litres?|liters?|newtons?|watts?|"
    r"volts?|amps?|ohms?|joules?|pascals?|hertz|bytes?|bits?|tonnes?)|°\s?[CF]|degrees?(?: (?:Celsius|Fahrenheit|C))?|"
    r"(?:cubic |square )?(?:microns?|miles?|inch(?:es)?|feet|foot|yards?|acres?|pints?|gallons?|ounces?|kilos?|stone|tons?|"
    r"tablespoons?|teaspoons?|cups?)|"
    r"(?:k|m|c|µ|μ|n|d)?(?:m|g|l|L|W|N|V|A|Hz|Pa|J)(?:[²³])?|kWh|Wh|MB|GB|TB|kB|KB|psi|bar|mph|rpm|lbs?|oz|ml|dB|Nm|mAh|"
    r"km/h|m/s|kN|kg|mm/s)(?![\w°])"
)
# Atomic: each word of a run can be split in many ways, and a title of thirty words took hours to be refused.
_NAME = r"(?>[A-ZÀ-Þ][\w’'-]*[a-zß-ÿ]\w*)"
_NAMES = rf"{_NAME}(?: {_NAME})*"
_LINKED = rf"{_NAME}(?:(?: (?:of|the|for|and|&|de|St\.?))* {_NAME})*"
TITLE = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Sister|Brother|Reverend|Rev|Father|Sir|Lady|Lord|Dame|Captain|Aunt|Auntie|Uncle)"
_POLYMER = (
    r"(?:PLA|PETG?|TPU|ABS|ASA|PEEK|PEI|PVA|HIPS|PVC|HDPE|LDPE|PP|PC|PA ?(?:6|11|12|66)(?:-?(?:CF|GF))?|[Nn]ylon(?: PA ?\d+)?|"
    r"[Pp]olycarbonate|[Pp]olypropylene|[Pp]olyester|[Aa]crylic|[Ss]ilicone|[Ee]poxy)"
)
_MATERIAL = (
    rf"(?:(?:[Rr]ecycled|[Vv]irgin|[Rr]einforced|[Ff]lexible) )?{_POLYMER}\b|"
    r"(?:(?:[Cc]astable|[Tt]ough|[Dd]ental|[Ff]lexible|[Cc]lear) )?\b[Rr]esin\b|[Cc]arbon fibre|[Ff]ibreglass|"
    r"(?:[Tt]itanium|[Mm]etal|[Aa]luminium|[Nn]ylon|[Ss]teel) powder|"
    r"(?:(?:[Ss]tainless|[Ss]pring|[Tt]ool|[Mm]ild|[Cc]arbon) )?\b[Ss]teel\b|\b(?:[Tt]itanium|[Aa]lumin(?:i)?um|[Bb]ronze)\b|"
    r"\b(?:[Yy]ellow|[Ww]hite|[Rr]ose|[Ss]terling) (?:gold|silver)\b"
)
_MACHINE = (
    r"(?:[Cc]o-?ordinate )?(?:[Mm]easuring|[Mm]illing|[Dd]rilling|[Cc]utting|[Ww]elding|[Ss]anding|[Gg]rinding|[Ss]ewing|"
    r"[Ww]ashing|[Mm]oulding|[Pp]acking|CNC) machines?|[Dd]rying ovens?|[Cc]uring (?:ovens?|stations?)|"
    r"(?:[Ff]ilament|[Rr]esin|[Pp]owder|[Ll]aser|3D) printers?|(?:[Aa]rm|[Ii]ndustrial|[Ww]elding|"
    r"[Pp]icking) robots?|[Rr]obot arms?|"
    r"[Ll]aser cutters?|[Bb]and ?saws?|[Pp]illar drills?|[Ss]hredders?|[Ll]athes?|[Ee]xtruders?|[Ff]orklifts?(?= trucks?)"
)
LANGUAGES = (
    r"(?:English|Welsh|French|German|Spanish|Italian|Portuguese|Polish|Russian|Persian|Farsi|Arabic|Hebrew|Hindi|Urdu|Bengali|"
    r"Punjabi|Chinese|Mandarin|Cantonese|Japanese|Korean|Twi|Yoruba|Igbo|Hausa|Swahili|Zulu|Dutch|Danish|Swedish|Norwegian|"
    r"Finnish|Greek|Latin|Turkish|Czech|Romanian|Hungarian|Gaelic|Irish|Catalan|Basque|Ukrainian|Somali|Tamil)"
)
_ORG_WORD = (
    r"(?:School|Academy|College|University|Hospital(?: for [A-Z]\w+)?|Hospice|Clinic|Surgery|Works|Ltd|Limited|plc|PLC|Inc|Co|"
    r"Company|Corporation|Group|Institute|Society|Association|Federation|Foundation|Trust|Council|Committee|Union|Cooperative|"
    r"Co-operative|Club|Bank|Chemicals|Plastics|Polymers|Metals|Motors|Electronics|Foods|Brewery|Engineering|Systems|"
    r"Industries|Records|Press|Airlines|Airways|Railways?|Museum|Ministry|Department|Agency|Authority|Party|Orchestra|Choir|"
    r"Rovers|United|Wanderers|Athletic|Police|Rescue|Ambulance)"
)
_FAC_WORD = (
    r"(?:Road|Street|Lane|Avenue|Square|Bridge|Pier|Park|Market|Station|station|(?:Leisure|Sports|Shopping) Centre|Path|"
    r"Railway Path|Airport|Stadium|Arena|Tower|Castle|Cathedral|Church|Abbey|Palace|Hall|Theatre|Boulevard|Harbour)"
)
_LOC_WORD = (
    r"(?:Island|Islands|Forest|Woods?|Gorge|Valley|Bay|Hills|Mountains?|Moor|Ocean|Sea|Desert|Peninsula|Falls|Coast|Channel)"
)
# "A new one" and "no one" count nothing.
_NOT_PRONOUN = (
    r"(?:(?<!\bthe )(?<!\ba )(?<!\bno )(?<!\bany )(?<!\bthis )(?<!\bnew )(?<!\bold )(?<!\blast )(?<!\bsome )(?<!\bevery )"
    r"(?<!\beach )(?<!\bother )(?<!\bgood )(?<!\bsmall )(?<!\bbig )|(?!one\b))"
)
# What may follow an hour that is only a number: "at nine with cake" is a time, "at nine places" is not.
_HOUR_ENDS = (
    r"(?=\s*(?:[,.;:!?)]|$|\s(?:with|and|in|on|until|till|to|because|so|but|when|this|that|the|we|I|he|she|they|every|"
    r"sharp)\b))"
)

_PATTERNS: tuple[tuple[str, int, str], ...] = (
    ("MONEY", 95, rf"{_ABOUT}[£$€¥]\s?{_DIGITS}(?:\s?(?:million|billion|thousand|bn|m|k)\b)?"),
    ("MONEY", 94, rf"{_ABOUT}{_NUMBER} (?:pence|pounds|dollars|euros|cents|quid)\b(?! of)"),
    ("PERCENT", 95, rf"{_ABOUT}{_NUMBER}\s?(?:%|per ?cent\b)"),
    ("QUANTITY", 90, rf"{_ABOUT}(?:{_NUMBER}|\ba)[ -]?\s?{_UNIT} and a (?:half|quarter)"),
    ("QUANTITY", 89, rf"{_ABOUT}(?:{_NUMBER}(?: an?)?|{_NUMBER} by {_NUMBER})\s?{_UNIT}"),
    ("TIME", 93, rf"(?<![\w:.])(?:{_CLOCK})(?: (?:to|until|and) (?:{_CLOCK}))?(?![\d°])(?! (?:mm|kg|%))"),
    ("TIME", 92,
     rf"{_ABOUT}(?:{_NUMBER}(?: an?)?|\ban?|\ba few|\bsome) {_HOURS}(?:(?:,| and) {_NUMBER} {_HOURS}| and a (?:half|"
     rf"quarter))?"),
    ("TIME", 92, rf"\b(?:(?:a )?(?:quarter|half|{_SMALL}) (?:past|to)) (?:{_SMALL}|noon|midnight)(?: o'clock)?\b{_HOUR_ENDS}"),
    ("TIME", 92, rf"\b(?:{_SMALL}|\d\d?) o['’]clock(?: (?:this|that|in the) {_DAYPART})?"),
    ("TIME", 91, rf"\b{DAY} {_DAYPART}s?\b"),
    ("TIME", 90, rf"\b(?:[Tt]his|[Tt]hat|[Ee]very|[Ee]ach|[Yy]esterday|[Tt]omorrow|[Ll]ast) {_DAYPART}\b"),
    ("TIME", 90,
     rf"\b[Tt]he {_DAYPART}(?=[.,;]|$)|\b[Tt]he (?:last|same|next|first) {_DAYPART}\b|\b(?:[Tt]onight|[Oo]vernight|"
     rf"[Nn]oon|[Mm]idnight|[Mm]idday)\b"),
    ("TIME", 70, rf"\b(?:[Aa]t|[Bb]y|[Uu]ntil|[Tt]ill|[Aa]fter|[Bb]efore) (?P<m>{_SMALL})\b{_HOUR_ENDS}"),
    ("TIME", 70, rf"\bfrom (?P<m>{_SMALL})(?= (?:until|till|to)\b)"),
    ("DATE", 88, rf"{_ABOUT}\b{_CALENDAR}\s?(?:to|until|–|-)\s?{_CALENDAR}(?!\w)"),
    ("DATE", 87, rf"{_ABOUT}\b{_CALENDAR}(?![\w-])"),
    ("DATE", 86, rf"(?:\b(?:[Ll]ast|[Nn]ext|[Tt]his|[Ee]very|[Ee]ach) )?\b(?:{DAY}s?|{_HOLIDAY})\b"),
    ("DATE", 88, rf"(?:\b(?:[Ll]ast|[Nn]ext|[Ee]very|[Ee]ach) )\b(?:{MONTH})\b"),
    ("DATE", 86,
     rf"{_ABOUT}(?:{_NUMBER}|\b[Aa]n?|\ba few|\bseveral)(?: (?:and a half|full|whole|more))? {_DAYS}(?: (?:ago|old|"
     rf"later|earlier))?\b"),
    ("DATE", 85,
     rf"\b(?:[Tt]his|[Ll]ast|[Nn]ext|[Ee]ach|[Ee]very|[Tt]he (?:same|next|last|previous|following|coming|past|"
     rf"{_ORDINAL_WORDS})(?: full| whole)?) {_PERIOD}\b(?: of (?:term|{MONTH}|(?:19|20)\d\d))?"),
    ("DATE", 89, rf"\b[Tt]he (?:end|beginning|start|middle) of (?:{_CALENDAR}|(?:the|last|next|this) {_PERIOD})\b"),
    ("DATE", 84,
     r"\b(?:[Tt]oday|[Yy]esterday|[Tt]omorrow|[Ww]eekdays?|[Dd]aily|[Ww]eekly|[Ff]ortnightly|[Mm]onthly|"
     r"[Qq]uarterly|[Yy]early|[Aa]nnual(?:ly)?|[Tt]he fortnight)\b"),
    ("DATE", 83,
     rf"{_ABOUT}(?<![\w£$€.,/-])(?:1[5-9]|20)\d\d(?:[-–](?:\d\d|(?:19|20)\d\d))?(?:s\b)?(?![\w%°/-]|[.,]\d|"
     rf" (?:{_UNIT}))"),
    ("DATE", 60,
     rf"\b(?:aged|turns|turned|(?:boy|girl|man|woman|child) of|(?:who|she|he) (?:is|"
     rf"was)) (?P<m>{_NUMBER})(?=[,.;:!?]| (?:and|when|in|from|called|who|today)\b|$)"),
    ("PROPOSAL", 97, r"\b(?:P|[A-Z]{1,3}IP)-\d{1,4}\b|\b(?:[Pp]roposal|[Mm]otion)(?: [Nn]o\.?)? \d{1,4}\b"),
    ("MATERIAL", 80, rf"(?<![\w-])(?:{_MATERIAL})(?![\w-])(?! (?:rooms?|shops?|printers?|bands?|works)\b)"),
    ("MACHINE", 82, rf"(?<![\w-])(?:{_MACHINE})(?![\w-])"),
    ("LAW", 96, rf"\b{_LINKED} (?:Act|Directive|Regulations?|Convention|Treaty)(?: (?:of )?(?:19|20)\d\d)?\b"),
    ("EVENT", 81,
     rf"\b(?:Storm|Hurricane|Typhoon) {_NAME}|\b{_LINKED} (?:Cup(?: of {_NAME}s?)?|Festival|Olympics|Marathon|"
     rf"Championships?|Grand Prix|Classic)\b(?! F)"),
    ("ORG", 79, rf"\b{_LINKED} {_ORG_WORD}\b|\b{_NAME} (?:and|&) (?:Sons?|Daughters?|Brothers|Co)\b"),
    ("FAC", 78, rf"\b(?:{_LINKED}|(?:St )?{_NAMES}) {_FAC_WORD}\b|\b[AM]\d{{1,3}}\b(?! paper)"),
    ("LOC", 77, rf"\b(?:Lake|Mount|River|Cape|Loch) {_NAME}|\b{_NAMES} {_LOC_WORD}\b"),
    ("PERSON", 76, rf"\b{TITLE}\.? (?P<m>{_NAMES})"),
    ("LANGUAGE", 75,
     rf"\b(?:in|speaks?|reads?|learns?|writes?|speaking|learned|and) (?P<m>{LANGUAGES})\b(?= (?:and|or|at|with|to|"
     rf"for|by|but)\b|[.,;!?]|$)|\b(?:[Tt]he) (?P<n>{LANGUAGES})(?= (?:for|word)\b)"),
    ("NORP", 60, rf"\b{LANGUAGES}(?= [a-z])"),
    ("WORK_OF_ART", 74,
     r"(?<=[“\"])(?:[A-ZÀ-Þ][\w’'-]+)(?: (?:[A-ZÀ-Þ][\w’'-]+|the|of|in|a|and|to|for|No\.|\d+)){0,7}(?=[”\"])"),
    ("ORDINAL", 40, rf"\b{_ORDINAL_WORDS}\b|\b\d+(?:st|nd|rd|th)\b"),
    ("CARDINAL", 30, rf"{_ABOUT}(?<![\w£$€.,/:-])(?:{_DIGITS}|{_NOT_PRONOUN}\b{_WORDS}\b)(?![\w%°/-]|[.,:]\d)"),
)  # fmt: skip

_RULES = tuple((kind, rank, re.compile(pattern)) for kind, rank, pattern in _PATTERNS)
_LEADING = re.compile(rf"(?:[Tt]he|[Aa]n?|Dear|Hello|Hi|{TITLE}\.?|I|We|My|Our|In|On|At|And|But|From|Of|For) ")


def find_by_rules(text: str) -> Iterator[Found]:
    """Every match of every rule; overlaps are left to `settle`."""
    for kind, rank, pattern in _RULES:
        for match in pattern.finditer(text):
            group = next((name for name, value in match.groupdict().items() if value is not None), 0)
            start, end = match.span(group)
            if kind in ("ORG", "FAC", "LOC", "LAW", "EVENT"):
                while lead := _LEADING.match(text, start, end):
                    start = lead.end()
                if not text[start:end].count(" ") and not text[start].isupper():
                    continue
            item = Found(start, end, kind, rank)
            if kind == "PERSON":
                item = trim(text, item)
            if item and item.end > item.start:
                yield item


def settle(found: list[Found]) -> list[Found]:
    """Of mentions that overlap keep the one of highest rank, then the longest; in text order."""
    kept: list[Found] = []
    for item in sorted(found, key=lambda f: (-f.rank, f.start - f.end, f.start)):
        if all(item.end <= other.start or other.end <= item.start for other in kept):
            kept.append(item)
    return sorted(kept)


def trim(text: str, found: Found) -> Found | None:
    """A model's mention without the article before it and the possessive after it; None when no name is left in it."""
    start, end = found.start, found.end
    while lead := _LEADING.match(text, start, end):
        start = lead.end()
    words = re.sub(r"(?:['’]s?|[\s.,;:])+$", "", text[start:end])
    end = start + len(words)
    if not any(character.isupper() for character in words) or len(words) < 2:
        return None
    return found._replace(start=start, end=end)
