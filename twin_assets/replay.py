"""Dead letters taken up again by a person: which of them, and what is tried once more.

Belongs here: choosing letters, and putting each back where it failed.
Does not belong here: how letters come about (`dead_letters.py`), and what is printed (`cli_dead_letters.py`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from lpm_kernel.dao.projection import try_again
from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.L2.announce import STAGE as WEBHOOK
from lpm_kernel.L2.announce import announce_release
from lpm_kernel.stores.changes import database_time, replay_change
from lpm_kernel.stores.dead_letters import SHARED, DeadLetter, discard_dead_letter, list_dead_letters
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.webhook import open_webhook
from twin_assets.backfill import daemon_lives, launch
from twin_assets.home import CODE_LOCATION
from twin_assets.mended import BESIDE_THE_CHAIN, planned_stages
from twin_assets.partitions import PARTITION_TAG
from twin_assets.sensors import UNFINISHED

JOB = "twin_job"
REPLAY_TAG = "twin/replay-of"
SHORTEST_ID = 4
"""Letters of an id that a person must give at least."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: of these users, and where something else is given only those that it fits, too."""

    user_ids: tuple[str, ...]
    stages: frozenset[str] = frozenset()
    ids: tuple[str, ...] = ()
    """Beginnings of `DeadLetter.letter_id`."""

    def fits(self, letter: DeadLetter) -> bool:
        named = not self.ids or any(letter.letter_id.startswith(one) for one in self.ids)
        return named and (not self.stages or letter.stage in self.stages)


def find_letters(stores: Stores, wanted: Wanted, *, resolved: bool = False) -> list[DeadLetter]:
    """User by user, of each the newest first. Raises: UserInputError `letter_unknown` for an id that names none, or several."""
    short = [one for one in wanted.ids if len(one) < SHORTEST_ID]
    if short:
        raise UserInputError("letter_unknown", f"an id is named by {SHORTEST_ID} letters or more of it")
    letters: list[DeadLetter] = []
    for user_id in wanted.user_ids:
        with stores.tables.operator_transaction() if user_id == SHARED else stores.tables.transaction(user_id) as connection:
            letters += [item for item in list_dead_letters(connection, user_id, resolved=resolved) if wanted.fits(item)]
    for one in wanted.ids:
        found = sum(letter.letter_id.startswith(one) for letter in letters)
        if found != 1:
            raise UserInputError("letter_unknown", f"{found} dead letters have an id that begins with {one!r}")
    return letters


def replay_letters(
    stores: Stores, instance: dg.DagsterInstance, letters: Sequence[DeadLetter], say: Callable[[str], None]
) -> int:
    """Have each tried once more; how many were. A letter stays until that succeeds.

    A change is due at once, and the API's worker takes it; of the stages of one user one run is launched, since it makes
    what is behind them as well, and none where one waits or is under way. Of what lies beside the chain each is done once,
    however often it has failed. Raises: StoreError; EngineError `daemon_missing`, `backfill_refused`, `replay_failed`.
    """
    replayed = 0
    beside: dict[tuple[str, str], list[DeadLetter]] = {}
    stages: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        if letter.change_id is not None or letter.user_id == SHARED:
            done = _replay_change(stores, letter)
            replayed += done
            say(f"{letter.letter_id} {letter.user_id} {letter.stage}: {'is tried again' if done else 'waits already'}")
        elif letter.stage in BESIDE_THE_CHAIN:
            beside.setdefault((letter.user_id, letter.stage), []).append(letter)
        else:
            stages.setdefault(letter.user_id, []).append(letter)
    for (user_id, stage), of in beside.items():
        done = _announce(stores, of[0], say) if stage == WEBHOOK else _materialize(instance, of[0])
        replayed += len(of) if done else 0
        named = ", ".join(one.letter_id for one in of)
        say(f"{named} {user_id} {stage}: {'is tried again' if done else 'waits already'}")
    if stages and not daemon_lives(instance):
        raise EngineError("daemon_missing", "the Dagster daemon does not run, so nothing would start the runs: `twin up` first")
    for user_id, of in stages.items():
        under_way = _under_way(instance, user_id, of)
        if under_way is not None:
            say(f"{', '.join(one.letter_id for one in of)} {user_id}: run {under_way[:8]} is to make it already")
            continue
        launched = launch(instance, JOB, [user_id], {REPLAY_TAG: ",".join(sorted({one.letter_id for one in of}))[:200]})
        replayed += len(of)
        say(
            f"{', '.join(one.letter_id for one in of)} {user_id} {', '.join(one.stage for one in of)}: run {launched} is queued"
        )
    return replayed


def _under_way(instance: dg.DagsterInstance, user_id: str, of: Sequence[DeadLetter]) -> str | None:
    """An unfinished run that is to make what these letters are of, whoever asked for it; but none that failed in it so far."""
    stages, failed = {one.stage for one in of}, {one.run_id for one in of}
    for run in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: user_id}, statuses=UNFINISHED)):
        whole = run.job_name == JOB
        if run.run_id not in failed and (whole or stages <= planned_stages(instance, run.run_id, user_id)):
            return run.run_id
    return None


def discard_letters(stores: Stores, letters: Collection[DeadLetter], *, by: str, reason: str) -> int:
    """Take them off the list for good; how many there were. A change stays as it was given up.

    Raises: UserInputError `reason_missing`; StoreError.
    """
    if not reason.strip() or not by.strip():
        raise UserInputError("reason_missing", "say who discards it and why: it stays on record")
    count, now = 0, datetime.now(UTC)
    for letter in letters:
        shared = letter.user_id == SHARED
        with stores.tables.operator_transaction() if shared else stores.tables.transaction(letter.user_id) as connection:
            count += discard_dead_letter(connection, letter, by=by.strip(), reason=reason.strip(), at=now)
    return count


def _replay_change(stores: Stores, letter: DeadLetter) -> bool:
    if letter.user_id == SHARED:
        return try_again(stores.tables, letter.stage, datetime.now(UTC))
    assert letter.change_id is not None
    with stores.tables.transaction(letter.user_id) as connection:
        return replay_change(connection, letter.user_id, letter.change_id, database_time(connection))


def _announce(stores: Stores, letter: DeadLetter, say: Callable[[str], None]) -> bool:
    """What serves now is told, not what served when it failed."""
    with stores.tables.transaction(letter.user_id) as connection:
        release = live_release(connection, letter.user_id)
    if release is None:
        return False
    webhook = open_webhook(stores.settings, breakers=stores.breakers)
    return announce_release(stores.tables, webhook, release, stores.settings.retries, letter.run_id, say)


def _materialize(instance: dg.DagsterInstance, letter: DeadLetter) -> bool:
    """What is made on request is in no job: it is made here and now; False while a run of this user is at it."""
    under_way = instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: letter.user_id}, statuses=UNFINISHED))
    if any(letter.stage in planned_stages(instance, run.run_id, letter.user_id) for run in under_way):
        return False
    command = [str(Path(sys.executable).parent / "dagster"), "asset", "materialize", "-m", CODE_LOCATION]
    ran = subprocess.run(
        [*command, "--select", letter.stage, "--partition", letter.user_id], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise EngineError(
            "replay_failed", f"{letter.stage} of user {letter.user_id} failed again: the Dagster UI shows the run"
        )
    return True
