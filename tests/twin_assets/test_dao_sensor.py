"""Which run the DAO's sensor asks for, over plain values and over runs in a real instance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg
import pytest

from lpm_kernel.dao.rules import Rules
from lpm_kernel.errors import StoreError, TwinError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.dao_ledger import ProposalRow
from twin_assets import dao_sensor
from twin_assets.dao_sensor import LONGEST_REST_S, STEP_TAG, DueVote, build_dao_sensor, decide_run

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VOTE = DueVote("p1", "r1", NOON)
RULES = Rules()


def test_each_step_of_a_vote_has_a_run_key_of_its_own_and_one_step_has_one() -> None:
    """Dagster runs one key once: by proposal and rules alone a vote that was reminded of would never be resolved."""
    assert VOTE.run_key == DueVote("p1", "r1", NOON).run_key == "dao-p1-r1-20260601T120000000000-0"
    others = (
        replace(VOTE, due_at=NOON + timedelta(hours=36)),
        replace(VOTE, rules_version="r2"),
        replace(VOTE, proposal_id="p2"),
        replace(VOTE, tries=1),
    )
    assert len({VOTE.run_key, *(other.run_key for other in others)}) == 5


def test_the_vote_that_is_due_longest_names_the_run() -> None:
    later = DueVote("p0", "r1", NOON + timedelta(minutes=1))
    assert decide_run([later, VOTE], 60) == VOTE
    assert decide_run([], 60) is None


@pytest.mark.parametrize(
    ("tries", "rest_s", "asked"),
    [
        (0, 0.0, False),  # its first run waits in the queue
        (1, 59.0, False),
        (1, 60.0, True),
        (2, 239.0, False),
        (2, 240.0, True),
        (9, LONGEST_REST_S, True),  # a vote must end
    ],
)
def test_a_step_that_a_run_did_not_get_done_rests_longer_each_time_and_never_for_good(
    tries: int, rest_s: float, asked: bool
) -> None:
    vote = replace(VOTE, tries=tries, rest_s=rest_s)
    assert decide_run([vote], 60) == (vote if asked else None)


def test_one_that_rests_keeps_no_other_waiting() -> None:
    other = DueVote("p2", "r1", NOON + timedelta(hours=1))
    assert decide_run([replace(VOTE, tries=3, rest_s=1.0), other], 60) == other


@dataclass
class Ledger:
    """Stands where the DAO stands: what is due, or a database that is away."""

    due_at: dict[str, datetime] = field(default_factory=dict)
    away: bool = False

    @property
    def tables(self) -> Ledger:
        return self

    @contextmanager
    def operator_transaction(self) -> Iterator[Ledger]:
        yield self

    def due(self, at: datetime | None = None) -> list[str]:
        if self.away:
            raise StoreError("tables_unavailable", "PostgreSQL did not answer")
        return sorted(self.due_at, key=lambda proposal_id: self.due_at[proposal_id])

    def proposal(self, proposal_id: str) -> SimpleNamespace:
        return SimpleNamespace(rules=RULES)

    def rows(self) -> list[ProposalRow]:
        return [ProposalRow(name, "ada", "general", "voting", None, at, 1, at) for name, at in self.due_at.items()]


@dg.asset
def dao_resolutions() -> None:
    pass


JOB = dg.Definitions(assets=[dao_resolutions], jobs=[dg.define_asset_job("dao_job", "*")]).resolve_job_def("dao_job")


class Watched:
    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance, self.ledger = instance, Ledger()
        monkeypatch.setattr(dao_sensor, "open_dao", lambda stores: self.ledger)
        monkeypatch.setattr(
            dao_sensor, "list_proposals", lambda ledger, ids: [row for row in ledger.rows() if row.proposal_id in ids]
        )
        self.sensor = build_dao_sensor(load_settings())

    def tick(self) -> dg.RunRequest | dg.SkipReason:
        resources = {"stores": SimpleNamespace(stores=SimpleNamespace(breakers=Breakers()))}
        found = self.sensor(dg.build_sensor_context(instance=self.instance, resources=resources))
        assert isinstance(found, dg.RunRequest | dg.SkipReason)
        return found

    def run(self, request: dg.RunRequest) -> None:
        JOB.execute_in_process(instance=self.instance, tags=request.tags)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(instance, monkeypatch)


def test_nothing_due_is_a_skip(watched: Watched) -> None:
    found = watched.tick()
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "no vote is due"


def test_a_ledger_that_is_away_is_a_skip_that_says_so(watched: Watched) -> None:
    watched.ledger.away = True
    found = watched.tick()
    assert isinstance(found, dg.SkipReason)
    assert "tables_unavailable" in (found.skip_message or "")


def test_one_run_is_asked_for_and_told_of_every_vote_that_is_due(watched: Watched) -> None:
    watched.ledger.due_at = {"p2": NOON, "p1": NOON - timedelta(minutes=1)}
    found = watched.tick()
    assert isinstance(found, dg.RunRequest)
    assert found.run_key == f"dao-p1-{RULES.version}-20260601T115900000000-0"
    assert found.run_config["ops"]["dao_resolutions"]["config"] == {"proposal_ids": ["p1", "p2"]}
    again = watched.tick()
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == found.run_key, "Dagster runs it once"


def test_a_step_that_is_still_due_after_its_run_is_left_to_rest_and_the_next_step_is_not(watched: Watched) -> None:
    watched.ledger.due_at = {"p1": NOON}
    found = watched.tick()
    assert isinstance(found, dg.RunRequest)
    watched.run(found)
    assert isinstance(watched.tick(), dg.SkipReason), "its run was over a moment ago"
    watched.ledger.due_at = {"p1": NOON + timedelta(hours=36)}
    after = watched.tick()
    assert isinstance(after, dg.RunRequest)
    assert after.run_key != found.run_key
    assert after.tags[STEP_TAG].endswith("20260603T000000000000")


def test_a_run_that_waits_in_the_queue_is_not_asked_for_twice(watched: Watched) -> None:
    watched.ledger.due_at = {"p1": NOON, "p2": NOON + timedelta(minutes=1)}
    found = watched.tick()
    assert isinstance(found, dg.RunRequest)
    watched.instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.NOT_STARTED, tags=dict(found.tags))
    other = watched.tick()
    assert isinstance(other, dg.RunRequest)
    assert other.tags[STEP_TAG].startswith("p2-"), "what became due since its run has begun must not wait for its end"


def test_the_hourly_look_begins_with_the_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(found: list[int] | TwinError) -> dg.RunRequest | dg.SkipReason:
        def events_after(seq: int, limit: int) -> list[int]:
            if isinstance(found, TwinError):
                raise found
            return found

        monkeypatch.setattr(dao_sensor, "open_dao", lambda stores: SimpleNamespace(events_after=events_after))
        return dao_sensor.ask_for_look(SimpleNamespace())  # type: ignore[arg-type]

    assert isinstance(answer([]), dg.SkipReason)
    assert isinstance(answer([1]), dg.RunRequest)
    away = answer(StoreError("tables_unavailable", "PostgreSQL did not answer"))
    assert isinstance(away, dg.SkipReason)
    assert "tables_unavailable" in (away.skip_message or "")
