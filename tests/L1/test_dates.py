"""Dates: as exact as they were written, and none where the year would be a guess."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L1.dates import MONTHS, date_of_title, days_between, find_date


@pytest.mark.parametrize(
    ("text", "near", "expected"),
    [
        ("We met on Thursday 12 June 2025.", None, "2025-06-12"),
        ("We met on the 3rd of May 2024, in rain.", None, "2024-05-03"),
        ("March 9, 2025 was a Sunday.", None, "2025-03-09"),
        ("He let me go in October 2023, and I left.", None, "2023-10"),
        ("The lease ran until 2019-02-28.", None, "2019-02-28"),
        ("In 1998 I could not read a drawing.", None, "1998"),
        ("The gutter overflowed on 5 October, at night.", "2025-10-08", "2025-10-05"),
        ("On 28 December by the water.", "2026-01-03", "2025-12-28"),
        ("We fly on 23 January.", "2025-11-30", "2026-01-23"),
        ("1 April", "2025", "2025-04-01"),
        ("We fly on 23 July.", "2026-01-11", None),
        ("We fly on 23 July.", None, None),
        ("It was 30 February 2025.", None, "2025-02"),
        ("I paid £5 March money and 1984 pence.", "2025-03-01", None),
        ("Rook 2024 broke.", None, None),
        ("March on, 12 of you.", "2025-03-01", None),
        ("We march 5 miles; I may 3 times.", "2025-03-01", None),
    ],
)
def test_a_date_in_a_sentence(text: str, near: str | None, expected: str | None) -> None:
    assert find_date(text, near) == expected


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("diary-2025-02.md", "2025-02"),
        ("meeting_2025_11_13.txt", "2025-11-13"),
        ("maintenance-log-2025-spring.txt", "2025"),
        ("Diary, January and early February 2026", "2026-02"),
        ("BAND NOTES 2025", "2025"),
        ("invoice-120250.pdf", None),
        ("20250213-notes.md", "2025-02-13"),
        ("IMG_20250213_1030.txt", "2025-02-13"),
        ("order-20251340.txt", None),
        ("20250230.md", None),
        ("clock-notebook.md", None),
    ],
)
def test_a_date_in_a_title(title: str, expected: str | None) -> None:
    assert date_of_title(title) == expected


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2099, 12, 31)))
def test_every_day_is_read_as_it_was_written(day: date) -> None:
    iso = day.isoformat()
    month = MONTHS[day.month - 1]
    for text in (f"It was {day.day} {month} {day.year}.", f"It was {month} {day.day}, {day.year}.", f"It was {iso}."):
        assert find_date(text, None) == iso
    assert find_date(f"It was in {month[:3]} {day.year}.", None) == iso[:7]


@given(st.text(max_size=120), st.sampled_from([None, "2025", "2025-02", "2025-02-28"]))
def test_no_text_breaks_the_search(text: str, near: str | None) -> None:
    for found in (find_date(text, near), date_of_title(text, near)):
        assert found is None or days_between(found, found) == 0
