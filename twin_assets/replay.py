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
from twin_assets.automation import ON_REQUEST
from twin_assets.backfill import daemon_lives, launch
from twin_assets.home import CODE_LOCATION

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
    what is behind them as well. Raises: StoreError; EngineError `daemon_missing`, `backfill_refused`, `replay_failed`.
    """
    replayed = 0
    stages: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        if letter.change_id is not None or letter.user_id == SHARED:
            done = _replay_change(stores, letter)
        elif letter.stage == WEBHOOK:
            done = _announce(stores, letter, say)
        elif letter.stage in ON_REQUEST:
            done = _materialize(letter)
        else:
            stages.setdefault(letter.user_id, []).append(letter)
            continue
        replayed += done
        say(f"{letter.letter_id} {letter.user_id} {letter.stage}: {'is tried again' if done else 'waits already'}")
    if stages and not daemon_lives(instance):
        raise EngineError("daemon_missing", "the Dagster daemon does not run, so nothing would start the runs: `twin up` first")
    for user_id, of in stages.items():
        launched = launch(instance, "twin_job", [user_id], {REPLAY_TAG: ",".join(sorted({one.letter_id for one in of}))[:200]})
        replayed += len(of)
        say(
            f"{', '.join(one.letter_id for one in of)} {user_id} {', '.join(one.stage for one in of)}: run {launched} is queued"
        )
    return replayed


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


def _materialize(letter: DeadLetter) -> bool:
    """What is made on request is in no job: it is made here and now."""
    command = [str(Path(sys.executable).parent / "dagster"), "asset", "materialize", "-m", CODE_LOCATION]
    ran = subprocess.run(
        [*command, "--select", letter.stage, "--partition", letter.user_id], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise EngineError(
            "replay_failed", f"{letter.stage} of user {letter.user_id} failed again: the Dagster UI shows the run"
        )
    return True
