"""The page of a twin: every line with its places, and no word of it that acts as markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from lpm_kernel.L1.records import Biography, BiographyLine, CitedLine, Community
from lpm_kernel.mind import Mind
from lpm_kernel.records import Preference, Topic, User
from lpm_kernel.stores.releases import ServedModel
from lpm_kernel.wiki import as_html, as_markdown, make_wiki, section_markdown
from tests.samples import make_citation

EMPTY = Mind(User("ada", "Ada"), (), frozenset(), None, ServedModel(None, False), (), (), None, None, ())
NASTY = '<script>alert("1")</script> [click](javascript:x) **bold** `code` http://evil.example/ & | # -'


def mind_of(text: str) -> Mind:
    place = make_citation(text)
    line = BiographyLine("s", text, text, (place,), "2025")
    community = Community("c", text, (text,), ("x",), (CitedLine(text, place, "2025-02"),), 0.4, (1.0,))
    topic = Topic("t", text, (text, "two"), ("x",), (1.0,))
    item = Preference("p", text, text, "attitude", "for", 1.0, place)
    biography = Biography("ada", (line,), None, (line,), "2025", None)
    return Mind(
        User("ada", text), (), frozenset(), None, ServedModel(None, False), (topic,), (community,), biography, None, (item,)
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_one_place_has_one_number_on_the_whole_page() -> None:
    wiki = make_wiki(mind_of("Our cat is called Pilchard."))
    assert len(wiki.citations) == 1
    numbers = {section.section_id: list(wiki.cited_by(section)) for section in wiki.sections}
    assert numbers == {"biography": [1], "now": [1], "topics": [], "communities": [1], "preferences": [1]}
    markdown = as_markdown(wiki)
    assert "- **Our cat is called Pilchard.**: Our cat is called Pilchard. (2025)[^1]" in markdown
    assert markdown.endswith("[^1]: notes.md, bytes 0-27\n")


def test_a_twin_of_which_nothing_is_known_says_so_and_invents_nothing() -> None:
    wiki = make_wiki(EMPTY)
    assert all(section.lines == () and section.absent for section in wiki.sections)
    assert "not written yet" in as_markdown(wiki)
    assert "not written yet" in as_html(wiki)


def test_words_of_a_document_are_text_in_html() -> None:
    page = Tags()
    html = as_html(make_wiki(mind_of(NASTY)))
    page.feed(html)
    assert page.tags <= {
        "html",
        "head",
        "meta",
        "title",
        "body",
        "h1",
        "h2",
        "section",
        "ul",
        "ol",
        "li",
        "sup",
        "a",
        "strong",
        "time",
    }
    assert page.links == {"#cite-1"}
    assert NASTY in "".join(page.words)


@pytest.mark.parametrize(
    "text", ["# head", "1. one", "- item", "+ item", "> quote", "=== x", "a\n\n# b", ":::", "~~~", "| a |"]
)
def test_words_of_a_document_are_no_block_of_markdown(text: str) -> None:
    for section in make_wiki(mind_of(text)).sections:
        for line in section_markdown(section).splitlines():
            assert line.startswith("- **")
            assert not line.removeprefix("- **").startswith(("#", "1.", "-", "+", ">", "=", ":", "~", "|"))


def test_words_of_a_document_are_no_tag_and_no_link_of_markdown() -> None:
    markdown = as_markdown(make_wiki(mind_of(NASTY)))
    for mark in ("<script", "[click", "*bold", "`code", "http:"):
        assert mark.replace("http:", "http\\:") in markdown or f"\\{mark}" in markdown
        assert not re.search(rf"(?<!\\){re.escape(mark)}", markdown)
