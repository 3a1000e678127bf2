"""Gemini over a stand-in that speaks its wire format: exact places, whose answer it is, and what a failure costs whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_kernel.errors import NerError
from lpm_kernel.stores.fallback_ner import FallbackNer
from lpm_kernel.stores.gemini_ner import COOL_S, FAILURES_IN_A_ROW, GeminiNer, place_entities
from lpm_kernel.stores.ner import TYPES, Reading
from tests.fakes import FakeNer
from tests.gemini_server import KEY, GeminiServer, Named, Question, answer_well, read_capitals, say

MODEL = "gemini-2.5-flash"
SECRET_WORDS = "Nora hid the spare key"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer() as running:
        yield running


def gemini(server: GeminiServer, key: str | None = KEY, clock: Clock | None = None) -> GeminiNer:
    return GeminiNer(key, MODEL, base_url=server.url, delay_s=0, clock=clock or Clock())


def mentions(result: Reading | NerError) -> list[tuple[str, str]]:
    assert isinstance(result, Reading)
    return [(span.text, span.type) for span in result.spans]


def codes(results: list[Reading | NerError]) -> list[str]:
    return [result.code if isinstance(result, NerError) else "read" for result in results]


def test_a_request_carries_the_schema_the_key_in_a_header_and_each_text_under_its_own_id(server: GeminiServer) -> None:
    first, second = gemini(server).extract(["Nora met Bev.", "nobody here"])
    assert (mentions(first), mentions(second)) == ([("Nora", "PERSON"), ("Bev", "PERSON")], [])
    (question,) = server.history
    assert list(question.texts.values()) == ["Nora met Bev.", "nobody here"]
    assert len(set(question.texts)) == 2
    assert question.model == MODEL
    schema = question.body["generationConfig"]["responseSchema"]
    assert set(schema["items"]["properties"]["entities"]["items"]["properties"]["type"]["enum"]) == TYPES
    assert len(TYPES) == 22


def test_texts_go_in_bounded_batches_and_an_empty_one_not_at_all(server: GeminiServer) -> None:
    texts = [f"Person{i} came." for i in range(20)] + ["", " \n"] + ["x" * 9000, "y" * 9000]
    results = gemini(server).extract(texts)
    assert [mentions(result) for result in results[:20]] == [[(f"Person{i}", "PERSON")] for i in range(20)]
    asked = [question.texts for question in server.history]
    assert max(map(len, asked)) == 8
    assert sorted(text for texts in asked for text in texts.values()) == sorted(text for text in texts if text.strip())
    assert max(sum(map(len, texts.values())) for texts in asked) <= 12_000


def answer_badly(how: str, marked: str) -> Any:
    """Answers well but for the text that holds `marked`."""

    def reply(question: Question) -> tuple[int, Any]:
        status, body = answer_well(question)
        items: list[dict[str, Any]] = json.loads(body["candidates"][0]["content"]["parts"][0]["text"])
        broken = [item for item in items if marked in question.texts[item["id"]]]
        if not broken:
            return status, body
        (item,) = broken
        others = [other for other in items if other is not item]
        match how:
            case "missing":
                return say(others)
            case "doubled":
                return say([*items, {"id": item["id"], "entities": []}])
            case "another id":
                return say([*others, {"id": "7-deadbeef", "entities": item["entities"]}])
            case "no list":
                return say([*others, {"id": item["id"], "entities": None}])
            case "no JSON":
                return say("here you are: [")
            case "cut off":
                return say(items[:1], finish="MAX_TOKENS")
            case "blocked":
                return 200, {"promptFeedback": {"blockReason": "SAFETY"}}
            case "status 400":
                return 400, {"error": {"message": "no"}}
            case "status 500":
                return 500, b"<html>"
        raise AssertionError(how)

    return reply


WAYS = ["missing", "doubled", "another id", "no list", "no JSON", "cut off", "blocked", "status 400", "status 500"]


@settings(max_examples=40)
@given(
    how=st.sampled_from(WAYS),
    failing=st.integers(0, 9),
    words=st.lists(st.sampled_from(["Anna", "Élan", "😀", "x"]), min_size=10, max_size=10),
)
def test_whatever_fails_for_one_text_shifts_drops_and_mislabels_no_other(how: str, failing: int, words: list[str]) -> None:
    texts = [f"{word} knows Person{i} and {word} left." for i, word in enumerate(words)]
    with GeminiServer() as server:
        whole = gemini(server).extract(texts)
        server.reply = answer_badly(how, f"Person{failing}")
        broken = gemini(server).extract(texts)
    assert [result for i, result in enumerate(broken) if i != failing] == [r for i, r in enumerate(whole) if i != failing]
    error = broken[failing]
    assert isinstance(error, NerError)
    assert error.code == ("gemini_unreachable" if how == "status 500" else "gemini_answer_invalid")
    assert "Person" not in str(error)


def test_an_answer_that_is_moved_by_one_text_is_not_believed(server: GeminiServer) -> None:
    """The ids are right and each has the entities of the text before it."""
    texts = [f"Person{i} came with Friend{i}." for i in range(4)]

    def shifted(question: Question) -> tuple[int, Any]:
        ids = list(question.texts)
        named = [read_capitals(text) for text in question.texts.values()]
        return say([{"id": text_id, "entities": named[i - 1]} for i, text_id in enumerate(ids)])

    server.queue.append(shifted)
    results = gemini(server).extract(texts)
    assert [mentions(r) for r in results] == [[(f"Person{i}", "PERSON"), (f"Friend{i}", "PERSON")] for i in range(4)]
    assert len(server.history) == 5


@pytest.mark.parametrize("how", ["missing", "no JSON", "cut off"])
def test_an_answer_that_is_none_is_asked_for_once_more(server: GeminiServer, how: str) -> None:
    server.queue.append(answer_badly(how, "Nora"))
    (result,) = gemini(server).extract(["Nora came."])
    assert mentions(result) == [("Nora", "PERSON")]
    assert len(server.history) == 2


def test_a_busy_server_is_asked_again(server: GeminiServer) -> None:
    server.queue.extend([lambda _: (429, {}), lambda _: (503, b"")])
    (result,) = gemini(server).extract(["Nora came."])
    assert mentions(result) == [("Nora", "PERSON")]
    assert len(server.history) == 3


@pytest.mark.parametrize(("key", "reply"), [("wrong", answer_well), (KEY, lambda _: (404, {})), (KEY, lambda _: (403, {}))])
def test_a_refused_key_or_model_is_told_at_once_and_asked_no_more(server: GeminiServer, key: str, reply: Any) -> None:
    server.reply = reply
    results = gemini(server, key).extract([f"Person{i}" for i in range(20)])
    assert codes(results) == ["gemini_refused"] * 8 + ["gemini_resting"] * 12
    assert len(server.history) == (key == KEY)


def test_no_key_is_a_named_error_for_all_and_no_request(server: GeminiServer) -> None:
    assert codes(gemini(server, None).extract(["Nora", " "])) == ["gemini_key_missing", "read"]
    assert server.history == []


@pytest.mark.parametrize(("key", "address"), [("kéy", None), ("k\x00y", None), (KEY, "http://[::bad"), (KEY, "ftp://x")])
def test_a_key_or_address_that_cannot_be_sent_is_a_named_error_that_quotes_neither(
    server: GeminiServer, key: str, address: str | None
) -> None:
    ner = FallbackNer(GeminiNer(key, MODEL, base_url=address or server.url, retries=0), FakeNer())
    (result,) = ner.extract(["Nora"])
    assert isinstance(result, Reading)
    assert result.instead_of is not None
    assert result.instead_of.code in ("gemini_address_invalid", "gemini_unreachable")
    assert key not in str(result.instead_of)


def test_a_failing_server_is_left_alone_and_tried_again_later(server: GeminiServer) -> None:
    server.reply = lambda _: (500, {})
    clock = Clock()
    ner = GeminiNer(KEY, MODEL, base_url=server.url, retries=3, delay_s=0, clock=clock)
    assert codes(ner.extract(["Nora"] * 1000)) == ["gemini_unreachable"] * 8 + ["gemini_resting"] * 992
    assert len(server.history) == 4 + FAILURES_IN_A_ROW - 1
    clock.now += COOL_S
    assert codes(ner.extract(["Nora"] * 9)) == ["gemini_unreachable"] * 8 + ["gemini_resting"], "one try, and rest again"
    server.reply = answer_well
    assert codes(ner.extract(["Nora"])) == ["gemini_resting"]
    clock.now += COOL_S
    assert codes(ner.extract(["Nora"] * 9)) == ["read"] * 9


def test_no_server_at_all_is_a_failure_of_each_text() -> None:
    with GeminiServer() as gone:
        pass
    assert codes(gemini(gone).extract(["Nora"] * 3)) == ["gemini_unreachable"] * 3


@pytest.mark.parametrize("reply", [lambda _: (500, SECRET_WORDS.encode()), lambda _: say(SECRET_WORDS), lambda _: (400, {})])
def test_no_error_quotes_a_text_or_the_key(server: GeminiServer, reply: Any) -> None:
    server.reply = reply
    (error,) = gemini(server).extract([SECRET_WORDS])
    assert isinstance(error, NerError)
    seen: BaseException | None = error
    while seen:
        assert "spare" not in str(seen)
        assert KEY not in str(seen)
        assert seen.__cause__ is None
        seen = None if seen.__suppress_context__ else seen.__context__


def named(*pairs: tuple[str, str]) -> Named:
    return [{"text": text, "type": kind} for text, kind in pairs]


def test_a_name_that_is_not_in_the_text_is_dropped_and_counted(server: GeminiServer) -> None:
    server.reply = lambda q: say(
        [{"id": i, "entities": named(("Nora", "PERSON"), ("Atlantis", "GPE"), ("Bev", "WIZARD"))} for i in q.texts]
    )
    (result,) = gemini(server).extract(["Nora met Bev."])
    assert isinstance(result, Reading)
    assert (mentions(result), result.unplaced) == ([("Nora", "PERSON")], 2)


@pytest.mark.parametrize(
    ("text", "answered", "expected"),
    [
        ("Nora saw Nora; Norah did not.", [("Nora", "PERSON")], [(0, 4), (9, 13)]),
        ("Nora Whitlock and Nora", [("Nora", "PERSON"), ("Nora Whitlock", "PERSON")], [(0, 13), (18, 22)]),
        ("Heron asked Heron to jam.", [("Heron", "PERSON"), ("Heron", "MACHINE")], [(0, 5, "PERSON"), (12, 17, "MACHINE")]),
        ("a new one, one dog, one cat", [("one", "CARDINAL"), ("one", "CARDINAL")], [(6, 9), (11, 14)]),
        ("5.8 °C and 5 more", [("5", "CARDINAL")], [(11, 12)]),
        ("the Nora\nWhitlock‑Smith’s “Gresford”", [("Nora Whitlock-Smith's", "PERSON")], [(4, 25)]),
        ("P-11, then P-1", [("P-1", "PROPOSAL")], [(11, 14)]),
        ("£4 (C++)", [("£4", "MONEY"), ("C++", "LANGUAGE")], [(0, 2), (4, 7)]),
    ],
)
def test_names_stand_where_their_characters_stand_as_whole_words(
    text: str, answered: list[tuple[str, str]], expected: list[tuple[int, ...]]
) -> None:
    found, unplaced = place_entities(text, answered)
    assert [tuple(item)[: len(place)] for item, place in zip(found, expected, strict=True)] == expected
    assert unplaced == 0


@given(text=st.text(max_size=60), names=st.lists(st.tuples(st.text(max_size=12), st.sampled_from(sorted(TYPES))), max_size=5))
def test_no_answer_makes_a_mention_out_of_bounds_or_two_that_overlap(text: str, names: list[tuple[str, str]]) -> None:
    end = 0
    for item in place_entities(text, names)[0]:
        assert end <= item.start < item.end <= len(text)
        end = item.end
