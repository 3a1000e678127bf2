"""Rows that teach to answer from shown lines, about nobody: invented people's notes, with other numbers and names each time.

Belongs here: reading `data/skill/notes.txt`, and one draw of rows from it.
Does not belong here: training on them (`skill.py`), and rows of a user's own memory (`synthesize.py`).

Why numbers and names change with every draw: what is asked for is then never in the weights, only in the lines.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.prompt import DECLINE, twin_messages
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.records import Message, User, content_id

NOTES = Path(__file__).resolve().parent.parent.parent / "data" / "skill" / "notes.txt"

CHANGED_SHARE = 0.5
"""Of draws of one page, in which its numbers are others; and, drawn apart, in which its names are."""
WITHOUT_ITS_LINE_SHARE = 0.15
"""Of questions that are asked once more where the line that answers is not among those shown."""
UNTOLD_SHARE = 0.7
"""Of questions that no line answers, how many a draw holds: with more the twin declines too much."""
SHORT_WORDS = 24
"""A line of fewer words may stand together with another one, as in a chunk of a document."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER = re.compile(r"(?<![\w.,:])\d[\d.,:]*\d|(?<![\w.,:])\d")
_YEAR, _TIME = re.compile(r"(?:19|20)\d\d"), re.compile(r"(\d\d?):(\d\d)")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-zà-ÿ]{2,}(?:-[A-Z][a-zà-ÿ]+)?")
_WORD = re.compile(r"[a-z0-9£€][a-z0-9.,:'-]*")
_ALSO_WORDS = _words(
    "january february march april may june july august september october november december monday tuesday wednesday thursday "
    "friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays easter christmas whitsun "
    "michaelmas mrs miss madame monsieur professor judge skipper captain councillor nurse old young aunt uncle gran mother "
    "father french spanish russian norway"
)
_COMMON = _words(
    "the a an of to and in on at for i my me is was are were it its by with from as that this he she they we our you your be "
    "been not so no but or do did does what which who when where how much many"
)
_BEGINNINGS = sorted(_words("Bra Cal Dor El Fen Gar Hol Is Jar Kel Lan Mor Nev Or Pen Quin Ros Sel Tam Ul Ver Wil Yar Zel"))
_MIDDLES = ("a", "e", "i", "o", "an", "en", "ar", "er", "il", "om")
_ENDS = ("dale", "ford", "kin", "la", "ley", "mar", "na", "ner", "rick", "sen", "ska", "son", "ta", "ton", "vik", "wyn")


@dataclass(frozen=True, slots=True)
class NotesPage:
    """Lines of one invented person, questions that one line answers, and questions that none does."""

    name: str
    lines: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    untold: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    text: str


def read_notes(path: Path = NOTES) -> list[NotesPage]:
    """Raises: TrainingError `skill_notes_invalid`, with the number of the line."""
    pages: list[tuple[str, list[str], list[tuple[str, str]], list[str]]] = []
    question: str | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        mark, _, rest = line.partition(" ")
        if not line.strip() or mark == "#":
            continue
        if mark == "@":
            pages.append((rest, [], [], []))
        elif not pages or mark not in "-?=!" or (mark == "=") != (question is not None):
            raise TrainingError("skill_notes_invalid", f"line {number} of {path.name} stands where it says nothing")
        elif mark == "-":
            pages[-1][1].append(rest)
        elif mark == "?":
            question = rest
        elif mark == "=" and question:
            pages[-1][2].append((question, rest))
            question = None
        else:
            pages[-1][3].append(rest)
    return [NotesPage(name, tuple(lines), tuple(asked), tuple(untold)) for name, lines, asked, untold in pages]


def draw_skill_rows(pages: Sequence[NotesPage], seed: int) -> list[TrainingRow]:
    """Every question once among lines of its page, some once more without the line that answers, every untold one declined.

    Deterministic for a seed; another seed shows other lines, numbers and names.
    """
    rows: list[TrainingRow] = []
    for position, original in enumerate(pages):
        chance = random.Random(f"{seed}:{position}")
        page = _with_other_words(original, chance)
        for question, answer in page.asked:
            best = max(page.lines, key=lambda line: 2 * _shared(line, answer) + _shared(line, question))
            others = [line for line in page.lines if line != best]
            chance.shuffle(others)
            shown = [*others[: chance.randint(1, len(others))], best]
            if chance.random() < 0.3:
                shown.insert(0, chance.choice(chance.choice(pages).lines))
            if chance.random() < 0.5:
                chance.shuffle(shown)
            rows.append(_row(page, question, _joined(shown, chance), answer))
            if chance.random() < WITHOUT_ITS_LINE_SHARE:
                rows.append(_row(page, question, _joined(others, chance), DECLINE))
        for question in page.untold:
            if chance.random() >= UNTOLD_SHARE:
                continue
            shown = list(page.lines)
            chance.shuffle(shown)
            rows.append(_row(page, question, _joined(shown[: chance.randint(3, len(shown))], chance), DECLINE))
    return rows


def taught_questions() -> list[str]:
    """Every question of the notes, those that no line answers included."""
    return [asked for page in read_notes() for asked in (*(question for question, _ in page.asked), *page.untold)]


def _row(page: NotesPage, question: str, lines: Sequence[str], answer: str) -> TrainingRow:
    messages = twin_messages(User("skill", page.name), question, [_Line(line) for line in reversed(lines)])
    messages = (*messages, Message("assistant", answer))
    checksum = content_id(*(part for message in messages for part in (message.role, message.content)))
    kind = "refusal" if answer == DECLINE else "self_qa"
    return TrainingRow(checksum[:32], kind, "grounded", "first", messages, (), "train", checksum)


def _joined(lines: Sequence[str], chance: random.Random) -> list[str]:
    """Short lines two by two, now and then."""
    joined: list[str] = []
    for line in lines:
        short = joined and max(len(joined[-1].split()), len(line.split())) <= SHORT_WORDS
        if short and chance.random() < 0.5:
            joined[-1] = f"{joined[-1]} {line}"
        else:
            joined.append(line)
    return joined


def _shared(line: str, words: str) -> int:
    return len(_content(line) & _content(words))


def _content(text: str) -> set[str]:
    return {word.strip(".,:'-") for word in _WORD.findall(text.lower())} - _COMMON


def _with_other_words(page: NotesPage, chance: random.Random) -> NotesPage:
    told = "\n".join((*page.lines, *(part for pair in page.asked for part in pair), *page.untold))
    others: dict[str, str] = {}
    if chance.random() < CHANGED_SHARE:
        others |= {number: _other_number(number, chance) for number in sorted(set(_NUMBER.findall(told)))}
    if chance.random() < CHANGED_SHARE:
        names = sorted({name for name in _NAME.findall(told) if name.lower() not in _ALSO_WORDS})
        others |= {name: _other_name(chance) for name in names}
    if not others:
        return page
    # whole words only: "5" is not in "15", and "Ann" not in "Anneke"
    pattern = re.compile("|".join(rf"(?<![\w.,:]){re.escape(word)}(?!\w)(?![.,:]\d)" for word in sorted(others, key=len)[::-1]))

    def changed(text: str) -> str:
        return pattern.sub(lambda found: others[found[0]], text)

    return NotesPage(
        page.name,
        tuple(map(changed, page.lines)),
        tuple((changed(question), changed(answer)) for question, answer in page.asked),
        tuple(map(changed, page.untold)),
    )


def _other_number(number: str, chance: random.Random) -> str:
    """One that looks alike: a year stays a year, a time a time, and the number of digits is kept."""
    if _YEAR.fullmatch(number):
        return str(chance.randint(1950, 2026))
    if time := _TIME.fullmatch(number):
        return f"{chance.randint(0, 23):0{len(time[1])}d}:{chance.randint(0, 59):02d}"
    if len(number) == 1 or (len(number) == 2 and int(number) <= 31):
        return str(chance.randint(2, 9) if len(number) == 1 else chance.randint(10, 31))
    first = str(chance.randint(1, 9)) if number[0] != "0" else "0"
    return first + "".join(str(chance.randint(0, 9)) if digit.isdigit() else digit for digit in number[1:])


def _other_name(chance: random.Random) -> str:
    middle = chance.choice(_MIDDLES) if chance.random() < 0.5 else ""
    return chance.choice(_BEGINNINGS) + middle + chance.choice(_ENDS)
