"""What the serving benchmark says of the figures it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.serve import AS_OURS, DECLINING, OURS, RAW_ROWS, SERVER, contenders, figures, goals
from lpm_kernel.L2.base_model import BaseModel


class Words:
    """A tokenizer."""

    def tokenize(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]


def served(first: float, ended: float) -> list[dict[str, Any]]:
    answer = {"first": first, "ended": ended, "text": "one two three four five six"}
    return [{"wall": ended, "cpu": ended, "peak_mb": 1.0, "results": [[answer]]}]


def shown(first: float, ended: float) -> list[str]:
    return figures(served(first, ended), Words(), [{(0, 0): "one two three four five six"}]).split()  # type: ignore[arg-type]


def test_the_speed_of_writing_is_not_told_where_all_pieces_come_together() -> None:
    """Words that were held back and came at once seemed to be written at thousands a second."""
    assert shown(1.0, 2.0)[:2] == ["3.0", "5.0"]
    assert shown(1.99, 2.0)[:2] == ["3.0", "-"]


def test_both_ways_in_which_a_twin_answers_are_held_to_the_goals() -> None:
    totals = {OURS: 96.0, DECLINING: 80.0, RAW_ROWS[0]: 90.0, RAW_ROWS[1] + AS_OURS: 100.0, f"{SERVER}, 2 threads": 70.0}
    of_raw, of_server = goals(totals, of_raw=True), goals(totals, of_raw=False)
    assert [("met" in one, "missed" in one) for one in of_raw] == [(True, False), (False, True)]
    assert of_raw[0].startswith(f"{OURS}: 0.96 of {RAW_ROWS[1]}{AS_OURS}")
    assert of_server[1].startswith(f"{DECLINING}: 1.14 of {SERVER}, 2 threads")
    assert goals({OURS: 96.0}, of_raw=True) == ["no peer was measured, and so no goal was met"]


def test_declining_is_weighed_in_a_quick_run_and_each_peer_has_a_row_with_our_choice(tmp_path: Path) -> None:
    base = BaseModel("base", "b" * 64, tmp_path / "base.gguf", tmp_path)

    def names_of(quick: bool) -> set[str]:
        found = contenders(base, [], 2, tmp_path, quick)
        for one in found:
            one.words.close()
        return {one.name for one in found}

    assert {OURS, DECLINING} <= names_of(quick=True)
    names = names_of(quick=False)
    assert {name + AS_OURS for name in (*RAW_ROWS, f"{SERVER}, 1 thread", f"{SERVER}, 2 threads")} <= names
