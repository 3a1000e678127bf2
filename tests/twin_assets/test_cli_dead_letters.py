"""`twin dead-letters` as a person types it, on running engines: listed, tried once more, discarded with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.records import User
from lpm_kernel.stores.changes import Change, claim_change, give_up_change, list_undone, put_change
from lpm_kernel.stores.dao_projections import Cursor, list_cursors, lock_cursor, move_cursor, stage_of
from lpm_kernel.stores.dead_letters import (
    SHARED,
    DeadLetter,
    keep_letter_of_change,
    keep_shared_letter,
    list_dead_letters,
    put_dead_letter,
)
from lpm_kernel.stores.users import add_user
from lpm_kernel.sync.worker import work_changes_of
from tests.samples import NOON, make_letter
from tests.twin_assets.conftest import Workshop
from twin_assets import replay
from twin_assets.cli import cli
from twin_assets.partitions import PARTITION_TAG, users
from twin_assets.replay import REPLAY_TAG, Wanted, find_letters, replay_letters

pytestmark = pytest.mark.slow


def twin(*words: str) -> Result:
    return CliRunner().invoke(cli, ["dead-letters", *words])


@pytest.fixture
def user_id(workshop: Workshop, new_user: Callable[[], str]) -> str:
    user_id = new_user()
    workshop.add(user_id, "Ada", {"cats.md": "My cat is called Pilchard."})
    return user_id


def keep(workshop: Workshop, letter: DeadLetter) -> DeadLetter:
    with workshop.stores.tables.transaction(letter.user_id) as connection:
        put_dead_letter(connection, letter)
    return letter


def give_up(workshop: Workshop, user_id: str) -> Change:
    """A change that no store took."""
    with workshop.stores.tables.transaction(user_id) as connection:
        put_change(connection, user_id, "vectors", "delete_documents", {"sha256s": []}, at=NOON)
        change = claim_change(connection, user_id, "vectors", NOON, 60)
        assert change is not None
        give_up_change(connection, change, NOON, "vectors_refused", "it said no")
        keep_letter_of_change(connection, change, "vectors_refused", "it said no", NOON)
    return change


def letters(workshop: Workshop, user_id: str, *, resolved: bool = False) -> list[DeadLetter]:
    with workshop.stores.tables.transaction(user_id) as connection:
        return list_dead_letters(connection, user_id, resolved=resolved)


def test_they_are_listed_by_user_stage_and_id_for_people_and_for_programs(workshop: Workshop, user_id: str) -> None:
    stage = keep(workshop, make_letter(user_id))
    change = give_up(workshop, user_id)
    for words in ((user_id,), ("list", user_id), ("list",), ()):
        shown = twin(*words)
        assert shown.exit_code == 0, shown.output
        assert f"{user_id} lora_adapter: 4 attempts, run run-1" in shown.output
        assert f"vectors/delete_documents: 1 attempts, change {change.change_id[:8]}" in shown.output
    listed = json.loads(twin("list", user_id, "--json").output)
    assert {item["stage"] for item in listed} == {"lora_adapter", "vectors/delete_documents"}
    assert [item["id"] for item in json.loads(twin(user_id, "--stage", "lora_adapter", "--json").output)] == [stage.letter_id]
    [of_change] = json.loads(twin("--id", letters(workshop, user_id)[0].letter_id[:8], user_id, "--json").output)
    assert of_change["user_id"] == user_id
    assert getattr(twin("list", user_id, "--id", "ffff").exception, "code", None) == "letter_unknown"
    assert "nothing has failed" in twin(user_id, "--stage", "no-such-stage").output


def test_a_change_that_is_tried_once_more_reaches_its_store_and_its_letter_is_done_with(
    workshop: Workshop, user_id: str
) -> None:
    change = give_up(workshop, user_id)
    shown = twin("replay", user_id)
    assert shown.exit_code == 0, shown.output
    assert "1 are tried again" in shown.output
    with workshop.stores.tables.transaction(user_id) as connection:
        [waiting] = list_undone(connection, user_id)
    assert (waiting.change_id, waiting.attempts, waiting.given_up_at) == (change.change_id, 0, None)
    assert [letter.change_id for letter in letters(workshop, user_id)] == [change.change_id], "it stays until that succeeds"
    assert "0 are tried again" in twin("replay", user_id).output, "it waits already"
    work_changes_of(workshop.stores, user_id)
    assert letters(workshop, user_id) == []


def test_of_the_stages_of_one_user_one_run_is_launched(
    workshop: Workshop, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage, run in (("chunks", "run-1"), ("lora_adapter", "run-2"), ("run", "run-3")):
        keep(workshop, replace(make_letter(user_id, stage, run)))
    launched: list[tuple[str, list[str], dict[str, str]]] = []

    def launch(_: dg.DagsterInstance, job: str, user_ids: list[str], tags: dict[str, str]) -> str:
        launched.append((job, user_ids, tags))
        return "backfill-1"

    found = find_letters(workshop.stores, Wanted((user_id,)))
    said: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(replay, "daemon_lives", lambda _: False)
        with pytest.raises(EngineError, match="daemon_missing"):
            replay_letters(workshop.stores, instance, found, said.append)
        monkeypatch.setattr(replay, "daemon_lives", lambda _: True)
        monkeypatch.setattr(replay, "launch", launch)
        assert replay_letters(workshop.stores, instance, found, said.append) == 3
    [(job, user_ids, tags)] = launched
    assert (job, user_ids) == ("twin_job", [user_id])
    assert set(tags[REPLAY_TAG].split(",")) == {letter.letter_id for letter in found}
    assert len(letters(workshop, user_id)) == 3, "each stays until its run succeeds"


class Commands:
    """In place of `subprocess`: what would have been run."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []

    def run(self, command: list[str], **_: object) -> SimpleNamespace:
        self.given.append(command)
        return SimpleNamespace(returncode=0)


def test_what_failed_twice_beside_the_chain_is_done_once(
    workshop: Workshop, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two letters of one stage: two trainings, one after the other, and the same release posted twice."""
    for stage in ("dpo", "release_webhook"):
        for run in ("run-1", "run-2"):
            keep(workshop, make_letter(user_id, stage, run))
    commands, announced = Commands(), list[str]()
    monkeypatch.setattr(replay, "subprocess", commands)
    monkeypatch.setattr(replay, "_announce", lambda _, letter, __: announced.append(letter.user_id) or True)
    said: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        found = find_letters(workshop.stores, Wanted((user_id,)))
        assert replay_letters(workshop.stores, instance, found, said.append) == 4
        assert [command[-1] for command in commands.given] == announced == [user_id]
        assert len(said) == 2
        run_of(instance, "dpo_job", user_id, dpo)
        of_dpo = [letter for letter in found if letter.stage == "dpo"]
        assert replay_letters(workshop.stores, instance, of_dpo, said.append) == 0
    assert len(commands.given) == 1, "it is being made already"
    assert said[-1].endswith("dpo: waits already")


def run_of(instance: dg.DagsterInstance, job: str, user_id: str, asset: dg.AssetsDefinition) -> dg.DagsterRun:
    """One that is under way."""
    made = dg.Definitions(assets=[asset], jobs=[dg.define_asset_job(job, "*")]).resolve_job_def(job)
    return instance.create_run_for_job(made, status=dg.DagsterRunStatus.STARTED, tags={PARTITION_TAG: user_id})


@dg.asset(partitions_def=users)
def dpo() -> None: ...


@dg.asset(partitions_def=users)
def chunks() -> None: ...


@pytest.mark.parametrize("job", ["twin_job", "what_automation_runs"])
def test_what_is_being_made_already_is_not_launched_once_more(
    workshop: Workshop, user_id: str, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """Each call queued a run of the whole chain, also beside one of automation's."""
    keep(workshop, make_letter(user_id, "chunks", "run-1"))
    found = find_letters(workshop.stores, Wanted((user_id,)))
    launched: list[str] = []
    monkeypatch.setattr(replay, "daemon_lives", lambda _: True)
    monkeypatch.setattr(replay, "launch", lambda *given: launched.append(given[1]) or "backfill-1")
    said: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", [user_id])
        run = run_of(instance, job, user_id, chunks)
        assert replay_letters(workshop.stores, instance, found, said.append) == 0
        assert (launched, run.run_id[:8] in said[0]) == ([], True)
        own = [replace(found[0], run_id=run.run_id)]
        assert replay_letters(workshop.stores, instance, own, said.append) == 1, "that run has failed in it itself"
    assert launched == ["twin_job"]


def test_nothing_is_replayed_or_discarded_that_nobody_named(workshop: Workshop, user_id: str) -> None:
    keep(workshop, make_letter(user_id))
    for words in (("replay",), ("discard", "--reason", "why"), ("replay", user_id, "--all")):
        shown = twin(*words)
        assert shown.exit_code == 2
        assert "--all" in shown.output
    assert twin("discard", user_id).exit_code == 2, "without a reason"
    assert getattr(twin("discard", user_id, "--reason", " ").exception, "code", None) == "reason_missing"
    assert len(letters(workshop, user_id)) == 1


def test_who_discards_it_and_why_stays_on_record(workshop: Workshop, user_id: str) -> None:
    kept, other = keep(workshop, make_letter(user_id)), keep(workshop, make_letter(user_id, "chunks", "run-2"))
    shown = twin("discard", "--id", kept.letter_id, user_id, "--reason", "the person has left", "--by", "grace")
    assert "1 discarded" in shown.output
    assert [letter.letter_id for letter in letters(workshop, user_id)] == [other.letter_id]
    shown = twin("list", user_id, "--resolved")
    assert "discarded by grace: the person has left" in shown.output
    done = next(item for item in letters(workshop, user_id, resolved=True) if item.letter_id == kept.letter_id)
    assert done.resolved_at is not None


def test_what_no_one_user_has_left_is_listed_with_all_and_put_back(workshop: Workshop) -> None:
    tables = workshop.stores.tables
    with tables.operator_transaction() as connection:
        before = lock_cursor(connection, "graph")
        later = datetime(2999, 1, 1, tzinfo=UTC)
        move_cursor(connection, Cursor("graph", before.last_seq, attempts=20, due_at=later, code="graph_unavailable"))
        keep_shared_letter(connection, stage_of("graph"), 20, "graph_unavailable", "the ledger does not reach graph", NOON)
    assert f"{SHARED} graph/ledger: 20 attempts" in twin().output
    assert "1 are tried again" in twin("replay", "--stage", "graph/ledger").output
    with tables.operator_transaction() as connection:
        [cursor] = [item for item in list_cursors(connection) if item.target == "graph"]
        assert cursor.due_at is not None
        assert cursor.due_at < later
        move_cursor(connection, before)
        assert list_dead_letters(connection, SHARED) == [], "a target that has heard of something has no letter left"


@pytest.mark.parametrize("ids", [("abc",), ("",)])
def test_an_id_is_named_by_enough_of_it(workshop: Workshop, user_id: str, ids: tuple[str, ...]) -> None:
    with pytest.raises(UserInputError, match="letter_unknown"):
        find_letters(workshop.stores, Wanted((user_id,), ids=ids))


def test_letters_of_somebody_whom_only_the_tables_know_are_listed_too(workshop: Workshop, new_user: Callable[[], str]) -> None:
    """Dagster hears of a user with their first document: who had none yet was left out of the list and of `--all`."""
    user_id = new_user()
    with workshop.stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
    change = give_up(workshop, user_id)
    assert f"{user_id} vectors/delete_documents: 1 attempts, change {change.change_id[:8]}" in twin("list").output
