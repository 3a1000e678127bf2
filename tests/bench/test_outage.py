"""What the outage benchmark takes for wrong."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from bench.outage import Told, changed, read_stream, stands_in, wrongs

NOTES = "# Cats\n\nMy cat is called Pilchard.\nHe has one eye.\n\nI keep the spare key under the pot.\n"


def told(answer: str, *degraded: str, status: int = 200, code: str = "") -> Told:
    body: dict[str, Any] = {"answer": answer, "degraded": list(degraded), "answerable": True, "citations": []}
    return Told("Cat?", "s", status, code, body, 0.1)


def stream_that_fails(status: int, code: str) -> str:
    return f"event: start\ndata: {{}}\n\nevent: error\ndata: {json.dumps({'status': status, 'code': code})}\n\n"


def test_an_error_in_a_stream_has_the_status_that_it_names() -> None:
    """Each was taken for a clear 503, also a failure that nobody foresaw and a question too many."""
    assert read_stream(stream_that_fails(503, "tables_unavailable")) == (503, {"status": 503, "code": "tables_unavailable"})
    for status, code in ((500, "internal"), (429, "too_many_requests")):
        found, body = read_stream(stream_that_fails(status, code))
        assert found == status
        assert len(wrongs([Told("Cat?", "s", found, body["code"], body, 0.1)], NOTES, partial(stands_in, NOTES))) == 1


def test_where_no_model_answered_only_a_line_of_the_notes_is_an_answer() -> None:
    assert stands_in(NOTES, told("My cat is called Pilchard.", "adapter", "base"))
    assert stands_in(NOTES, told("He has\none eye.", "adapter", "base"))
    assert not stands_in(NOTES, told("My cat is called Gerald.", "adapter", "base"))
    assert stands_in(NOTES, told("It is Pilchard.", "facts")), "words of the twin are its own"
    assert not stands_in(NOTES, told(" ", "facts"))


def test_an_answer_that_changed_over_an_outage_is_told() -> None:
    assert changed({"Cat?": "Pilchard."}, {"Cat?": "Pilchard."}) == []
    assert len(changed({"Cat?": "Pilchard.", "Key?": "Pot."}, {"Cat?": "Gerald.", "Key?": "Pot."})) == 1
