"""What every extractor of names guarantees: one result a text, in order, each mention exactly where it stands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import NerError
from lpm_kernel.stores.fallback_ner import FallbackNer
from lpm_kernel.stores.gemini_ner import GeminiNer
from lpm_kernel.stores.ner import SMALL_MODEL, TYPES, Ner, SpacyNer, Span
from tests.fakes import FakeNer
from tests.gemini_server import KEY, GeminiServer

TEXTS = [
    "Nora Whitlock said that P-11 costs £184,000 a year.",
    "",
    "the café in Gdańsk 😀 sold Zoë Müller 600 grams of résin at 07:00 — “Señor Núñez” paid €38.",
    "nothing here has a name",
    "Rook 14 smelled of hot fish.\n\n- Victor Osei, 2 September 2025\n",
]
WORDS = st.sampled_from(
    [*("Nora Whitlock", "Gdańsk", "😀", "£4", "5.8 °C", "at nine", "é", "\n", "P-11", "Mr Bello", "“Gresford”", "the", "PA12")]
)
EXTRACTORS: dict[str, Ner] = {}
NAMES = ["rules", "model alone", "small model", "fake", "gemini", "spaCy for some", "spaCy for all"]


@pytest.fixture(scope="module", autouse=True)
def extractors() -> Iterator[None]:
    with GeminiServer() as server:
        EXTRACTORS.update(
            {
                "rules": SpacyNer(),
                "model alone": SpacyNer(rules=False),
                "small model": SpacyNer(SMALL_MODEL),
                "fake": FakeNer(),
                "gemini": GeminiNer(KEY, "gemini-2.5-flash", base_url=server.url, delay_s=0),
                "spaCy for some": FallbackNer(FakeNer(fails_on="Nora"), SpacyNer()),
                "spaCy for all": FallbackNer(GeminiNer(None, "gemini-2.5-flash"), SpacyNer()),
            }
        )
        yield


@pytest.fixture(params=NAMES)
def ner(request: pytest.FixtureRequest) -> Ner:
    return EXTRACTORS[request.param]


def spans_of(ner: Ner, text: str) -> tuple[Span, ...]:
    (result,) = ner.extract([text])
    assert not isinstance(result, NerError)
    return result.spans


@given(words=st.lists(WORDS, max_size=12), name=st.sampled_from(NAMES))
def test_every_mention_is_at_its_characters_and_at_its_bytes(words: list[str], name: str) -> None:
    text = " ".join(words)
    end = 0
    for span in spans_of(EXTRACTORS[name], text):
        assert text[span.start : span.end] == span.text != ""
        assert text.encode()[span.byte_start : span.byte_end] == span.text.encode()
        assert end <= span.start, "mentions stand in order and do not overlap"
        assert 0 < span.confidence <= 1
        assert span.type in TYPES
        end = span.end


def test_results_come_in_the_order_of_the_texts(ner: Ner) -> None:
    forward = ner.extract(TEXTS)
    assert len(forward) == len(TEXTS)
    assert ner.extract(TEXTS[::-1])[::-1] == forward


def test_a_text_has_the_same_mentions_whatever_stands_beside_it(ner: Ner) -> None:
    assert [ner.extract([text])[0] for text in TEXTS] == ner.extract(TEXTS)


def test_no_texts_are_no_results_and_an_empty_text_has_no_mention(ner: Ner) -> None:
    assert ner.extract([]) == []
    assert spans_of(ner, "") == ()


def test_a_text_that_cannot_be_read_is_its_own_failure() -> None:
    """spaCy refuses a text of more than a million characters, and with it the whole batch it stands in."""
    ner = SpacyNer()
    texts = [TEXTS[0], "x" * 1_000_001, TEXTS[4]]
    first, broken, last = ner.extract(texts)
    assert isinstance(broken, NerError)
    assert broken.code == "extraction_failed"
    assert [first, last] == [*ner.extract([TEXTS[0]]), *ner.extract([TEXTS[4]])]


def test_a_model_that_is_not_installed_is_named() -> None:
    with pytest.raises(NerError, match="en-core-web-xl") as caught:
        SpacyNer("en_core_web_xl").extract(["Nora"])
    assert caught.value.code == "model_missing"
