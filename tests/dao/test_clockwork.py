"""A turn of the clock: what one vote raises keeps no other from its end."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lpm_kernel.dao.clockwork import turn_clock
from lpm_kernel.errors import StoreError


class Due:
    """Three votes are due, and the first raises this."""

    def __init__(self, raised: Exception) -> None:
        self.raised = raised
        self.advanced: list[str] = []

    def due(self) -> list[str]:
        return ["one", "two", "three"]

    def advance(self, proposal_id: str) -> list[Any]:
        if proposal_id == "one":
            raise self.raised
        self.advanced.append(proposal_id)
        return []


@pytest.mark.parametrize(
    ("raised", "code"), [(StoreError("tables_unavailable", "away"), "tables_unavailable"), (KeyError("a word"), "internal")]
)
def test_a_vote_that_fails_keeps_no_other_from_its_end(raised: Exception, code: str) -> None:
    dao, said = Due(raised), list[str]()
    turn = turn_clock(cast("Any", dao), None, say=said.append)
    assert dao.advanced == ["two", "three"]
    assert (turn.looked_at, turn.failed) == (3, {"one": code})
    assert "a word" not in " ".join(said)
