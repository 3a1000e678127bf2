"""Dead letters: what failed for good is kept until a later run of it succeeds, and shown where a person looks.

Belongs here: writing and resolving letters from stages and from runs whose process is gone.
Does not belong here: their rows (`lpm_kernel/stores/dead_letters.py`), deciding whether to try again (`failures.py`), and
letters that a person takes up again (`replay.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.dead_letters import DeadLetter, list_dead_letters, put_dead_letter, resolve_dead_letters, write_or_warn
from lpm_kernel.stores.tables import Tables
from twin_assets.automation import sensor_status
from twin_assets.failures import NotHeardYet
from twin_assets.mended import BESIDE_THE_CHAIN, LAST, is_mended, planned_stages
from twin_assets.partitions import PARTITION_TAG
from twin_assets.resources import StoresResource

RUN = "run"
"""Stage of a letter that no stage could write: the run's process is gone."""
UNFORESEEN = "INTERNAL_ERROR"
"""The category of what nobody foresaw."""


def letter_of(error: Exception, user_id: str, stage: str, run_id: str, attempts: int) -> DeadLetter:
    """Why an error that nobody foresaw is told by its type alone: its words may be those of a document."""
    code, message = "unforeseen", f"{type(error).__name__}: the run's log holds the rest"
    if isinstance(error, dg.Failure):
        told = error.metadata.get("code")
        code = str(told.value) if told is not None else "failed"
        message = (error.description or "").removeprefix(f"{code}: ")
    return DeadLetter(user_id, stage, run_id, attempts, code, message, datetime.now(UTC))


def category_of(error: Exception) -> str:
    """Of the kernel's tree, as `dagster_failures` noted it; what nobody foresaw has none of its categories."""
    told = error.metadata.get("category") if isinstance(error, dg.Failure) else None
    return UNFORESEEN if told is None else str(told.value)


def keep_letter(context: dg.AssetExecutionContext, tables: Tables, error: Exception) -> None:
    """Keep the failure of this stage, and show it on the asset's page; where that fails, `failed_runs` writes it later."""
    stage, user_id = context.asset_key.path[-1], context.partition_key
    letter = letter_of(error, user_id, stage, context.run.run_id, context.retry_number + 1)
    category = category_of(error)
    context.log.error(f"given up after attempt {letter.attempts}: {category} {letter.code}: {letter.message}")
    write_or_warn(tables, user_id, lambda connection: put_dead_letter(connection, letter), context.log.warning)
    context.log_event(
        dg.AssetObservation(
            context.asset_key,
            partition=user_id,
            description="It failed for good; `twin dead-letters` lists it until a run succeeds.",
            metadata={"dead_letter": letter.code, "category": category, "attempts": letter.attempts, "reason": letter.message},
        )
    )


def resolve_letters(context: dg.AssetExecutionContext, tables: Tables) -> None:
    """This stage is done: what failed in it before is mended. With the last one, so is whatever failed on the way to it."""
    stage, user_id, now = context.asset_key.path[-1], context.partition_key, datetime.now(UTC)

    def resolve(connection: Any) -> None:
        open_letters = list_dead_letters(connection, user_id)
        failed = {letter.stage for letter in open_letters if letter.change_id is None}  # no run mends what a change left
        stages = failed & ({stage} | (failed - BESIDE_THE_CHAIN if stage == LAST else set()))
        if stages:
            resolve_dead_letters(connection, user_id, tuple(sorted(stages)), now)

    write_or_warn(tables, user_id, resolve, context.log.warning)


def build_failed_runs_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="failed_runs",
        minimum_interval_seconds=settings.automation.catch_up_sensor_interval_s,
        default_status=sensor_status(settings, "failed_runs"),
    )
    def failed_runs(context: dg.RunFailureSensorContext, stores: StoresResource) -> None:
        """Runs of a user that failed where no stage could say so: a killed process, a store that was away while a stage gave
        up, a check that must hold. Each gets a dead letter, unless what failed was made since. While the tables are away the
        sensor waits for them."""
        run, instance = context.dagster_run, context.instance
        user_id = run.tags.get(PARTITION_TAG)
        record = instance.get_run_record_by_id(run.run_id)
        if user_id is None or record is None:
            return

        def mended(letter: DeadLetter) -> bool:
            if letter.stage != RUN:
                return is_mended(instance, {letter.stage}, user_id, letter.created_at)
            began = record.create_timestamp if record.start_time is None else datetime.fromtimestamp(record.start_time, UTC)
            return is_mended(instance, planned_stages(instance, run.run_id, user_id), user_id, began, lost=run.run_id)

        left = [letter for letter in letters_of_run(instance, run.run_id, user_id) if not mended(letter)]
        try:
            with stores.stores.tables.transaction(user_id) as connection:
                for letter in left:
                    put_dead_letter(connection, letter)
        except TwinError as error:
            words = f"the letters of user {user_id} cannot be written: {error}"
            if error.retryable:
                raise NotHeardYet(words) from error
            context.log.error(words)

    return failed_runs


def letters_of_run(instance: dg.DagsterInstance, run_id: str, user_id: str) -> list[DeadLetter]:
    """One for each step that failed, of when it did; where none did, one for the run."""
    letters = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        assert entry.dagster_event is not None
        failure = entry.dagster_event.step_failure_data
        told = failure.user_failure_data.metadata if failure.user_failure_data else {}
        code = str(told["code"].value) if "code" in told else "unforeseen"
        tries = told["tries"].value if "tries" in told else 1
        kind = failure.error.cls_name if failure.error else "failure"
        if code == "unforeseen" and kind == "DagsterAssetCheckFailedError":
            code = "check_failed"
        stage = str(entry.dagster_event.step_key)
        words = f"{kind}: the run's log holds the rest"
        if failure.user_failure_data and failure.user_failure_data.description:
            words = failure.user_failure_data.description.removeprefix(f"{code}: ")
        at = datetime.fromtimestamp(entry.timestamp, UTC)
        letters.append(DeadLetter(user_id, stage, run_id, int(str(tries)), code, words, at))
    if letters:
        return letters
    words = "the process of the run is gone: it was killed, or the machine went down"
    return [DeadLetter(user_id, RUN, run_id, 1, "run_lost", words, datetime.now(UTC))]
