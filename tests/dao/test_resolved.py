"""Rows of votes that are over: what was a row already is not read again, and what is of another ledger is none."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lpm_kernel.artefacts import encode_records
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.report import resolved_vote
from lpm_kernel.dao.resolved import read_resolved, resolved_votes
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import StoreError
from lpm_kernel.layout import shared_asset_key
from tests.dao.ledgers import Clock, Ledger

THREE = ("ada", "ben", "cleo")


class Counting(Dao):
    """Says which proposals it has read whole."""

    read: list[str]

    def batches(self, only: Collection[str] | None = None) -> Iterator[list[ProposalState]]:
        for batch in super().batches(only):
            self.read += [each.proposal_id for each in batch]
            yield batch


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Counting:
    ledger.join(*THREE)
    made = Counting(ledger.tables, ledger.settings, clock)
    made.read = []
    return made


def decided(dao: Dao, title: str) -> str:
    name = dao.propose("ada", title, "So be it.").proposal_id
    for voter in THREE[:2]:
        dao.vote(voter, name, "for")
    return name


def test_only_what_has_ended_since_is_read(dao: Counting, clock: Clock) -> None:
    """Each run read every proposal that there had ever been, with all of its ballots."""
    first = [decided(dao, f"Number {number}") for number in range(3)]
    under_way = dao.propose("ben", "Lamps", "More light.").proposal_id
    known = resolved_votes(dao)
    assert {vote.proposal_id for vote in known} == set(first)
    dao.read.clear()
    assert resolved_votes(dao, known) == known
    assert dao.read == []
    clock.moves(minutes=1)
    newer = decided(dao, "Number 4")
    rows = resolved_votes(dao, known)
    assert dao.read == [newer]
    assert rows[:3] == known
    assert [vote.proposal_id for vote in rows[3:]] == [newer]
    assert rows == resolved_votes(dao), "as if all were read"
    assert under_way not in {vote.proposal_id for vote in rows}
    proposal = dao.proposal(newer)
    assert proposal.resolution is not None
    assert rows[3] == resolved_vote(proposal, proposal.resolution)


def test_rows_of_another_ledger_are_left_out(dao: Counting, clock: Clock) -> None:
    name = decided(dao, "Benches")
    (row,) = resolved_votes(dao)
    strange = replace(row, proposal_id="p-strange"), replace(row, resolved_at=clock.moves(hours=1))
    assert resolved_votes(dao, strange) == [row]
    assert dao.read[-1] == name


class OneFile:
    def __init__(self, data: bytes | str) -> None:
        self.data = data

    def get(self, key: str) -> bytes:
        assert key == shared_asset_key("dao_resolutions", "jsonl")
        if isinstance(self.data, str):
            raise StoreError(self.data, "told to")
        return self.data


def test_rows_of_the_run_before_are_read_as_they_are_and_of_another_form_are_none(dao: Counting) -> None:
    decided(dao, "Benches")
    rows: list[Any] = resolved_votes(dao)
    for data, found in ((encode_records(rows), rows), (b'{"title": 3}\n', []), ("blob_not_found", [])):
        assert read_resolved(OneFile(data)) == found  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        read_resolved(OneFile("blobs_unavailable"))  # type: ignore[arg-type]
