"""Rules on form: sentences of another world than the demo people's, so that a rule is shown to be general."""

from __future__ import annotations

import pytest

from lpm_kernel.stores.ner_rules import find_by_rules, settle


def found(text: str) -> list[tuple[str, str]]:
    return [(text[item.start : item.end], item.type) for item in settle(list(find_by_rules(text)))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it cost more than $3.5 million or 40 cents", [("more than $3.5 million", "MONEY"), ("40 cents", "MONEY")]),
        ("we met at ten, for two hours and five minutes", [("ten", "TIME"), ("two hours and five minutes", "TIME")]),
        ("open from 09:30 to 17:45", [("09:30 to 17:45", "TIME")]),
        ("we met at ten places", [("ten", "CARDINAL")]),
        ("a second helping, in less than a second", [("second", "ORDINAL"), ("less than a second", "TIME")]),
        ("on Tuesday 4 March 2014 it froze", [("Tuesday 4 March 2014", "DATE")]),
        ("from June to August", [("June to August", "DATE")]),
        ("about 12% of them, 3.2 km of 7 mm wire", [("about 12%", "PERCENT"), ("3.2 km", "QUANTITY"), ("7 mm", "QUANTITY")]),
        ("I bought a new one and no one saw", []),
        ("one dog and twenty-six cats", [("one", "CARDINAL"), ("twenty-six", "CARDINAL")]),
        ("I vote for P-42 and against motion 7", [("P-42", "PROPOSAL"), ("motion 7", "PROPOSAL")]),
        ("printed in recycled PLA, then in ABS", [("recycled PLA", "MATERIAL"), ("ABS", "MATERIAL")]),
        ("the milling machine ate the bandsaw", [("milling machine", "MACHINE"), ("bandsaw", "MACHINE")]),
        ("ask Dr Amara Diallo's secretary", [("Amara Diallo", "PERSON")]),
        ("the Clean Air Act 1956", [("Clean Air Act 1956", "LAW")]),
        ("she teaches at Mill Hill School on Abbey Road", [("Mill Hill School", "ORG"), ("Abbey Road", "FAC")]),
        ("born in 1984, made in 2001 parts", [("1984", "DATE"), ("2001", "DATE")]),
        ("batch SL-2206 of ES120", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_form_has_its_type(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


def test_a_long_run_of_capitals_is_read_at_all() -> None:
    """Backtracking into each word of a run of names made one sentence take six seconds, and a longer one hours."""
    run = " ".join(f"Macuata{'abcdefghij'[i % 10]} Constituency" for i in range(100))
    assert found(f"{run} of the Indian Communal") == []
    assert ("Clean Water Act 1956", "LAW") in found(f"{run.lower()} the Clean Water Act 1956")
