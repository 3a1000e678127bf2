"""Two extractors behind one port: who read what, and why."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import NerError
from lpm_kernel.L0.entities import extract_entities
from lpm_kernel.records import Entity
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.fallback_ner import FallbackNer
from lpm_kernel.stores.ner import SPACY_MODEL, Reading, SpacyNer
from lpm_kernel.stores.open_ner import open_ner
from tests.fakes import FakeNer, no_progress
from tests.gemini_server import KEY, GeminiServer, say
from tests.samples import make_items

NOTES = {f"{i}.md": f"Nora Whitlock knows Friend{i} of Bristol." for i in range(6)}


class DeadNer(FakeNer):
    """Cannot read anything, and says so at once."""

    def extract(self, texts: object) -> list[Reading | NerError]:
        raise NerError("gemini_key_missing", "no key")


@given(first=st.sets(st.integers(0, 5)), second=st.sets(st.integers(0, 5)))
def test_each_text_is_read_by_the_first_that_can(first: set[int], second: set[int]) -> None:
    class Fails(FakeNer):
        def __init__(self, name: str, at: set[int]) -> None:
            super().__init__(fingerprint=name)
            self.at = {f"Person{i}." for i in at}

        def _extract(self, text: str) -> Reading | NerError:
            return NerError(f"{self.fingerprint}_failed", "told to") if text in self.at else super()._extract(text)

    texts = [f"Person{i}." for i in range(6)]
    random.Random(len(first)).shuffle(texts)
    for text, result in zip(texts, FallbackNer(Fails("one", first), Fails("two", second)).extract(texts), strict=True):
        i = int(text[6])
        if i in first & second:
            assert isinstance(result, NerError)
            assert result.code == "two_failed"
            assert "one_failed" in result.message
            continue
        assert isinstance(result, Reading)
        assert [span.text for span in result.spans] == [f"Person{i}"]
        assert result.recipe == ("two" if i in first else "one")
        assert (result.instead_of.code if result.instead_of else None) == ("one_failed" if i in first else None)


def test_a_first_extractor_that_reads_nothing_is_replaced_for_all() -> None:
    results = FallbackNer(DeadNer(), FakeNer()).extract(["Nora", "Bev"])
    assert [r.instead_of.code for r in results if isinstance(r, Reading) and r.instead_of] == ["gemini_key_missing"] * 2


def test_two_dead_extractors_are_an_error() -> None:
    with pytest.raises(NerError):
        FallbackNer(DeadNer(), DeadNer()).extract(["Nora"])


def sources(entities: list[Entity], kind: str) -> set[str]:
    return {mention.extractor for entity in entities if entity.type == kind for mention in entity.mentions}


def chosen(ner: str, environ: Mapping[str, str]) -> SpacyNer | FallbackNer:
    settings = load_settings(overrides={"models": {"ner": ner}, "retries": {"max_retries": 1, "delay_s": 0}})
    return open_ner(settings, environ)  # type: ignore[return-value]


def test_the_settings_choose() -> None:
    assert chosen("en-core-web-md+rules", {}).fingerprint.startswith(f"{SPACY_MODEL}+rules")
    assert chosen("en-core-web-sm+rules", {}).fingerprint.startswith("en_core_web_sm")
    assert chosen("gemini", {}).fingerprint.startswith("gemini-2.5-flash/")


def test_gemini_without_a_key_is_spacy_and_every_chunk_says_so() -> None:
    items = make_items("1", NOTES)
    entities, rows, count = extract_entities(items, chosen("gemini", {}), [], no_progress)
    assert (len(count.fallbacks), count.failures) == (len(items), ())
    assert {failure.code for failure in count.fallbacks} == {"gemini_key_missing"}
    assert entities == extract_entities(items, SpacyNer(), [], no_progress)[0]
    assert {row.recipe for row in rows} == {SpacyNer().fingerprint}


def test_what_spacy_had_to_read_is_read_by_gemini_the_next_time() -> None:
    """Kept under Gemini's recipe, the readings of an outage would have stayed for good."""
    items = make_items("1", NOTES)
    with GeminiServer() as server:
        ner = chosen("gemini", {"GEMINI_API_KEY": KEY, "GEMINI_BASE_URL": server.url})
        server.reply = lambda question: say(
            [{"id": i, "entities": []} for i, t in question.texts.items() if "Friend3" not in t]
        )
        _, rows, count = extract_entities(items, ner, [], no_progress)
        (fallback,) = count.fallbacks
        assert (fallback.code, fallback.filename) == ("gemini_answer_invalid", "3.md")
        server.reply = lambda question: say(
            [{"id": i, "entities": [{"text": "Nora Whitlock", "type": "PERSON"}]} for i in question.texts]
        )
        server.history.clear()
        entities, _, again = extract_entities(items, ner, rows, no_progress)
        assert (again.chunks_extracted, again.chunks_reused, again.fallbacks) == (1, len(items) - 1, ())
        assert [text for question in server.history for text in question.texts.values()] == [NOTES["3.md"]]
    assert "gemini" in sources(entities, "PERSON")


def test_what_the_first_one_read_is_kept_when_the_second_one_fails() -> None:
    """Of 64 texts one was not read, the second extractor was not installed, and all 64 were lost."""
    read, failed = FallbackNer(FakeNer(fails_on="Bev"), DeadNer()).extract(["Nora", "Bev"])
    assert isinstance(read, Reading)
    assert isinstance(failed, NerError)
    assert "gemini_key_missing" in str(failed)
    with pytest.raises(NerError):
        FallbackNer(FakeNer(fails_on="Bev"), DeadNer()).extract(["Bev"])
