"""Which rows are left to learn; a row that has gone sends everything back to the start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.train_increment import plan_increment, spread
from lpm_kernel.records import Message
from tests.samples import make_row

sets = st.sets(st.integers(0, 20).map(str))


def row(checksum: str):
    return make_row(f"row-{checksum}", [Message("assistant", "Yes.")], checksum=checksum)


@given(sets, sets, st.floats(0, 1), st.integers(0, 3))
def test_new_rows_are_all_taken_and_known_ones_by_their_share(
    before: set[str], there: set[str], replay_share: float, seed: int
) -> None:
    plan = plan_increment([row(checksum) for checksum in sorted(there)], before, replay_share, seed)
    if before - there:
        assert plan is None
        return
    assert plan is not None
    taken = [item.checksum for item in plan.rows]
    assert len(taken) == len(set(taken))
    if not there - before:
        assert (taken, plan.replayed) == ([], 0)
        return
    assert there - before <= set(taken) <= there
    assert plan.replayed == len(set(taken) & before)
    assert replay_share * len(before) <= plan.replayed <= replay_share * len(before) + 1


def test_rows_to_measure_come_from_all_over() -> None:
    rows = [row(str(index)) for index in range(10)]
    assert [item.checksum for item in spread(rows, 4)] == ["0", "2", "5", "7"]
    assert spread(rows, 99) == rows
    assert spread(rows, 0) == []
