"""A twin as a page to read: sections of lines, each with the places in documents that it stands on.

Belongs here: which lines stand in which section, their numbered citations, and the page as Markdown and as HTML.
Does not belong here: what may be shown (`mind.py`) and transport.

Every word of a line is the person's own, or a label made of such words: it is text, and never markup. Both forms escape it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lpm_kernel.L1.records import Biography, BiographyLine
from lpm_kernel.mind import Mind
from lpm_kernel.records import Citation

_INLINE = re.compile(r"([\\`*_\[\]<>&~|$])")
_BLOCK = re.compile(r"^(\s*)([#+\-=:]|\d+[.)])")
_BARE_LINK = re.compile(r"\b(https?|ftp)://|\bwww\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WikiLine:
    """`lead` stands before the text, set apart; `numbers` are those of its citations on the page, from 1."""

    text: str
    lead: str | None = None
    date: str | None = None
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class WikiSection:
    """`absent` says why it has no line."""

    section_id: str
    title: str
    lines: tuple[WikiLine, ...]
    absent: str | None = None


@dataclass(frozen=True, slots=True)
class Wiki:
    user_id: str
    title: str
    sections: tuple[WikiSection, ...]
    citations: tuple[Citation, ...]
    """The place number n is the n-th."""

    def cited_by(self, section: WikiSection) -> dict[int, Citation]:
        numbers = sorted({number for line in section.lines for number in line.numbers})
        return {number: self.citations[number - 1] for number in numbers}


class _Numbers:
    """One number a place, in the order of its first mention."""

    def __init__(self) -> None:
        self.known: dict[Citation, int] = {}

    def of(self, places: Iterable[Citation]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.known.setdefault(place, len(self.known) + 1) for place in places))


def make_wiki(mind: Mind) -> Wiki:
    numbers = _Numbers()

    def told(lines: Sequence[BiographyLine]) -> tuple[WikiLine, ...]:
        return tuple(WikiLine(line.text, line.shade, line.date, numbers.of(line.citations)) for line in lines)

    def why_not(biography: Biography | None, reason: str | None) -> str:
        return "not written yet" if biography is None else reason or "nothing of it may be shown"

    bio = mind.biography
    life, status = told(bio.lines if bio else ()), told(bio.status if bio else ())
    topics = tuple(WikiLine(", ".join(topic.keywords), topic.label) for topic in mind.topics)
    communities = tuple(
        WikiLine(line.text, community.label, line.date, numbers.of([line.citation]))
        for community in mind.communities
        for line in community.lines
    )
    preferences = tuple(WikiLine(item.text, item.domain, None, numbers.of([item.citation])) for item in mind.preferences)
    as_of = f" (as of {bio.as_of})" if bio and bio.as_of else ""
    sections = (
        WikiSection("biography", "Biography", life, None if life else why_not(bio, bio.skipped if bio else None)),
        WikiSection("now", f"Now{as_of}", status, None if status else why_not(bio, bio.status_skipped if bio else None)),
        WikiSection("topics", "Topics", topics, None if topics else "none found yet"),
        WikiSection("communities", "What hangs together", communities, None if communities else "none found yet"),
        WikiSection("preferences", "Preferences", preferences, None if preferences else "none found yet"),
    )
    return Wiki(mind.user.user_id, mind.user.name or mind.user.user_id, sections, tuple(numbers.known))


def section_markdown(section: WikiSection) -> str:
    """The lines of one section; `[^n]` is the n-th citation of the page."""
    if section.absent is not None:
        return f"*{_plain(section.absent)}*\n"
    return "".join(f"- {_markdown_line(line)}\n" for line in section.lines)


def as_markdown(wiki: Wiki) -> str:
    parts = [f"# {_plain(wiki.title)}\n"]
    parts += [f"## {_plain(section.title)}\n\n{section_markdown(section)}" for section in wiki.sections]
    notes = "".join(f"[^{n}]: {_plain(place_words(place))}\n" for n, place in enumerate(wiki.citations, start=1))
    return "\n".join([*parts, *([notes] if notes else [])])


def as_html(wiki: Wiki) -> str:
    """A whole page without a script, a style or a link that leads elsewhere."""
    parts = [f"<h1>{_escaped(wiki.title)}</h1>"]
    for section in wiki.sections:
        parts.append(f'<section id="{_escaped(section.section_id)}"><h2>{_escaped(section.title)}</h2>')
        if section.absent is not None:
            parts.append(f"<p><em>{_escaped(section.absent)}</em></p>")
        else:
            parts.append("<ul>" + "".join(f"<li>{_html_line(line)}</li>" for line in section.lines) + "</ul>")
        parts.append("</section>")
    notes = (f'<li id="cite-{n}">{_escaped(place_words(place))}</li>' for n, place in enumerate(wiki.citations, start=1))
    if wiki.citations:
        parts.append(f'<section id="citations"><h2>Citations</h2><ol>{"".join(notes)}</ol></section>')
    head = f'<meta charset="utf-8"><title>{_escaped(wiki.title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def place_words(place: Citation) -> str:
    return f"{place.filename}, bytes {place.byte_start}-{place.byte_end}"


def _markdown_line(line: WikiLine) -> str:
    lead = f"**{_plain(line.lead)}**: " if line.lead else ""
    date = f" ({_plain(line.date)})" if line.date else ""
    return f"{lead}{_plain(line.text)}{date}" + "".join(f"[^{number}]" for number in line.numbers)


def _html_line(line: WikiLine) -> str:
    lead = f"<strong>{_escaped(line.lead)}</strong>: " if line.lead else ""
    date = f" <time>{_escaped(line.date)}</time>" if line.date else ""
    marks = "".join(f'<sup><a href="#cite-{number}">{number}</a></sup>' for number in line.numbers)
    return f"{lead}{_escaped(line.text)}{date}{marks}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands: on one line, without a mark, a block, a tag, or a link made of a bare address."""
    text = _INLINE.sub(r"\\\1", " ".join(text.split()))
    text = _BARE_LINK.sub(lambda found: found.group().replace(":", "\\:").replace(".", "\\."), text)
    return _BLOCK.sub(lambda found: f"{found.group(1)}{_escape_last(found.group(2))}", text)


def _escape_last(mark: str) -> str:
    return f"{mark[:-1]}\\{mark[-1]}"


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
