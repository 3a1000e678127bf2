"""What fails for good leaves a letter and a mark on its asset's page, a run that dies leaves one too, and success resolves."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData

from lpm_kernel.errors import StoreError, TrainingError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.dead_letters import DeadLetter, list_dead_letters, put_dead_letter
from lpm_kernel.stores.open import Stores
from tests.fakes import AwayTables, FailingTables
from tests.samples import make_letter
from twin_assets.dead_letters import build_failed_runs_sensor
from twin_assets.partitions import PARTITION_TAG
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage

AWAY = StoreError("blob_store", "could not get tenant/x: the store did not answer")


class Fate:
    """How the stage ends, attempt by attempt; after the last one it succeeds."""

    errors: tuple[Exception, ...] = ()


@stage(group="l2", io_manager_key="io_manager", code_version="1", kinds={"python"})
def lora_adapter(context: dg.AssetExecutionContext, stores: StoresResource) -> Made:
    if Fate.errors:
        error, *rest = Fate.errors
        Fate.errors = tuple(rest)
        raise error
    return Made(1, "v", {})


@stage(group="release", io_manager_key="io_manager", code_version="1", kinds={"python"})
def twin_release(context: dg.AssetExecutionContext, stores: StoresResource, lora_adapter: int) -> Made:
    return Made(1, "v", {})


@stage(group="l0", io_manager_key="io_manager", code_version="1", kinds={"python"})
def x_posts(context: dg.AssetExecutionContext, stores: StoresResource) -> Made:
    return Made(1, "v", {})


@dg.op
def fails() -> None:
    raise ValueError("told to")


@dg.job
def of_nobody() -> None:
    fails()


class Workshop:
    def __init__(self, stores: Stores, user_id: str, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.stores, self.user_id, self.instance = stores, user_id, instance
        retries = settings.retries.model_copy(update={"max_retries": 3, "delay_s": 0.0})
        self.settings = settings.model_copy(update={"retries": retries})
        self.tables: Any = stores.tables
        instance.add_dynamic_partitions("users", [user_id])

    def run(self, *errors: Exception, assets: tuple[Any, ...] = (lora_adapter,)) -> dg.ExecuteInProcessResult:
        Fate.errors = errors
        port = SimpleNamespace(settings=self.settings, tables=self.tables)
        resources = {"stores": SimpleNamespace(stores=port), "io_manager": dg.InMemoryIOManager()}
        return dg.materialize(
            list(assets), partition_key=self.user_id, instance=self.instance, resources=resources, raise_on_error=False
        )

    def letters(self, *, resolved: bool = False) -> list[DeadLetter]:
        with self.stores.tables.transaction(self.user_id) as connection:
            return list_dead_letters(connection, self.user_id, resolved=resolved)

    def observed(self) -> list[dict[str, Any]]:
        records = self.instance.fetch_observations(dg.AssetKey("lora_adapter"), limit=10).records
        found = [record.asset_observation for record in records]
        return [{k: v.value for k, v in o.metadata.items()} for o in found if o and o.partition == self.user_id]


@pytest.fixture
def shop(stores: Stores, user_id: str, settings: Settings) -> Iterator[Workshop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Workshop(stores, user_id, settings, instance)


def test_after_the_last_attempt_there_is_one_letter_with_its_cause_and_a_mark_on_the_asset(shop: Workshop) -> None:
    result = shop.run(AWAY, AWAY, AWAY, AWAY)
    assert not result.success
    (letter,) = shop.letters()
    assert (letter.stage, letter.run_id, letter.attempts) == ("lora_adapter", result.run_id, 4)
    assert (letter.code, letter.message) == ("blob_store", AWAY.message)
    mark = {"dead_letter": "blob_store", "category": "STORE_ERROR", "attempts": 4, "reason": AWAY.message}
    assert shop.observed() == [mark]


def test_each_attempt_is_logged_with_its_cause_and_one_that_helps_leaves_no_letter(shop: Workshop) -> None:
    result = shop.run(AWAY, AWAY)
    assert result.success
    assert shop.letters(resolved=True) == []
    logs = [entry.user_message for entry in shop.instance.all_logs(result.run_id)]
    for words in ("attempt 1 failed, 3 left: blob_store", "attempt 2 failed, 2 left: blob_store"):
        assert [log for log in logs if log.startswith(words)]


def test_what_no_retry_can_help_leaves_a_letter_at_once(shop: Workshop) -> None:
    shop.run(TrainingError("no_training_rows", "there is nothing to ask about"))
    (letter,) = shop.letters()
    assert (letter.code, letter.attempts) == ("no_training_rows", 1)


def test_an_error_that_nobody_foresaw_is_told_by_its_type_and_not_by_its_words(shop: Workshop) -> None:
    """Its words may be those of a document."""
    shop.run(ValueError("My cat is called Pilchard."))
    (letter,) = shop.letters()
    assert letter.code == "unforeseen"
    assert "ValueError" in letter.message
    assert "Pilchard" not in letter.message


def test_a_run_that_succeeds_resolves_what_its_stages_left_and_the_last_stage_whatever_is_open(shop: Workshop) -> None:
    shop.run(TrainingError("no_training_rows", "nothing"))
    with shop.stores.tables.transaction(shop.user_id) as connection:
        for stage_name in ("run", "release_webhook", "dpo"):
            put_dead_letter(connection, make_letter(shop.user_id, stage_name, "run-0"))
    assert shop.run().success
    assert {letter.stage for letter in shop.letters()} == {"run", "release_webhook", "dpo"}
    assert shop.run(assets=(lora_adapter, twin_release)).success
    # the message was never delivered, and what is made on request was not made again
    assert {letter.stage for letter in shop.letters()} == {"release_webhook", "dpo"}
    assert len(shop.letters(resolved=True)) == 4


def test_a_letter_that_cannot_be_written_hides_nothing_and_stops_nothing(shop: Workshop) -> None:
    shop.tables = FailingTables(shop.stores.tables)
    result = shop.run(TrainingError("no_training_rows", "nothing"))
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "no_training_rows" in (failure.step_failure_data.user_failure_data.description or "")  # type: ignore[union-attr]
    shop.tables = FailingTables(shop.stores.tables)
    assert shop.run().success


def failed_runs(shop: Workshop, run_id: str) -> None:
    """The sensor, as the daemon calls it for a failed run."""
    run = shop.instance.get_run_by_id(run_id)
    (record,) = shop.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert run is not None
    assert record.dagster_event is not None
    context = dg.build_run_status_sensor_context(
        "failed_runs", record.dagster_event, shop.instance, run, resources={"stores": SimpleNamespace(stores=shop.stores)}
    ).for_run_failure()
    assert build_failed_runs_sensor(shop.settings)(context) is None, "whatever else it said, it would hear of no other run"


def tick(shop: Workshop, cursor: str, tables: Any = None) -> str:
    """What the daemon remembers after a tick of the sensor; it raises where the daemon would forget the tick."""
    port = SimpleNamespace(tables=tables or shop.stores.tables)
    context = dg.build_sensor_context(instance=shop.instance, cursor=cursor, resources={"stores": SimpleNamespace(stores=port)})
    return build_failed_runs_sensor(shop.settings).evaluate_tick(context).cursor or ""


def forget_letters(shop: Workshop) -> None:
    from sqlalchemy import text

    with shop.stores.tables.transaction(shop.user_id) as connection:
        connection.execute(text("delete from dead_letter"))


def test_a_failed_run_whose_stage_could_not_write_gets_its_letter_by_the_sensor(shop: Workshop) -> None:
    result = shop.run(TrainingError("no_training_rows", "nothing"))
    forget_letters(shop)
    assert failed_runs(shop, result.run_id) is None
    (letter,) = shop.letters()
    assert (letter.stage, letter.code, letter.message) == ("lora_adapter", "no_training_rows", "nothing")
    failed_runs(shop, result.run_id)
    assert shop.letters() == [letter], "it is one letter however often it is told"


def test_a_run_whose_process_is_gone_gets_a_letter_of_its_own(shop: Workshop) -> None:
    job = dg.Definitions(
        assets=[lora_adapter], jobs=[dg.define_asset_job("j", "*")], resources={"stores": SimpleNamespace()}
    ).resolve_job_def("j")
    run = shop.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={PARTITION_TAG: shop.user_id})
    shop.instance.report_run_failed(run, "gone")
    failed_runs(shop, run.run_id)
    assert [(letter.stage, letter.code) for letter in shop.letters()] == [("run", "run_lost")]


def test_a_failure_that_a_later_run_has_mended_leaves_no_letter(shop: Workshop) -> None:
    """The sensor looks once a minute: its letter would come after the run that mended it, and stay open for ever."""
    result = shop.run(TrainingError("no_training_rows", "nothing"))
    forget_letters(shop)
    assert shop.run().success
    failed_runs(shop, result.run_id)
    assert shop.letters() == []


def killed(shop: Workshop, *, released: bool = False) -> str:
    """A run of the whole chain whose process went, perhaps behind the release."""
    assets = [lora_adapter, twin_release]
    job = dg.Definitions(
        assets=assets, jobs=[dg.define_asset_job("j", "*")], resources={"stores": None, "io_manager": dg.InMemoryIOManager()}
    ).resolve_job_def("j")
    run = shop.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={PARTITION_TAG: shop.user_id})
    if released:
        made = StepMaterializationData(dg.AssetMaterialization("twin_release", partition=shop.user_id))
        event = dg.DagsterEvent(dg.DagsterEventType.ASSET_MATERIALIZATION.value, "j", event_specific_data=made)
        shop.instance.report_dagster_event(event, run.run_id)
    shop.instance.report_run_failed(run, "gone")
    return run.run_id


def test_what_another_run_made_mends_no_killed_one(shop: Workshop) -> None:
    """Any success of the user counted: posts that were read in the minute after hid that their twin was never built."""
    lost = killed(shop)
    assert shop.run(assets=(x_posts,)).success
    assert shop.run(assets=(lora_adapter,)).success
    failed_runs(shop, lost)
    assert [letter.code for letter in shop.letters()] == ["run_lost"]


def test_a_killed_run_is_not_mended_by_a_release_of_its_own(shop: Workshop) -> None:
    """What lies behind the release was missing, and nobody was told."""
    failed_runs(shop, killed(shop, released=True))
    assert [letter.code for letter in shop.letters()] == ["run_lost"]


def test_what_a_killed_run_was_to_make_may_be_made_by_any_other(shop: Workshop) -> None:
    lost = killed(shop)
    assert shop.run(assets=(lora_adapter,)).success
    assert shop.run(assets=(lora_adapter, twin_release)).success
    failed_runs(shop, lost)
    assert shop.letters() == []


def test_a_failure_while_the_tables_are_away_is_heard_of_again(shop: Workshop) -> None:
    """It was skipped, and a sensor of runs goes on behind what it skips: of that failure no letter was ever written."""
    cursor = tick(shop, "")
    results = [shop.run(TrainingError("no_training_rows", "nothing")) for _ in range(2)]
    forget_letters(shop)
    with pytest.raises(dg.DagsterError, match="tables_unavailable"):
        tick(shop, cursor, AwayTables())
    assert tick(shop, cursor) != cursor
    assert {letter.run_id for letter in shop.letters()} == {result.run_id for result in results}, "both, in one tick"


def test_a_failure_of_somebody_who_has_left_keeps_no_other_waiting(shop: Workshop, new_user: Callable[[], str]) -> None:
    cursor = tick(shop, "")
    shop.run(TrainingError("no_training_rows", "nothing"))
    stays, shop.user_id = shop.user_id, new_user()  # of whom the tables know nothing
    shop.instance.add_dynamic_partitions("users", [shop.user_id])
    shop.run(TrainingError("no_training_rows", "nothing"))
    shop.user_id = stays
    forget_letters(shop)
    assert tick(shop, cursor) != cursor
    assert len(shop.letters()) == 1


@pytest.mark.parametrize("of_whom", ["nobody", "mended"])
def test_a_run_of_which_nothing_is_to_be_kept_costs_the_next_no_minute(shop: Workshop, of_whom: str) -> None:
    cursor = tick(shop, "")
    if of_whom == "nobody":
        of_nobody.execute_in_process(instance=shop.instance, raise_on_error=False)
    else:
        shop.run(TrainingError("no_training_rows", "nothing"))
        assert shop.run().success
    failed = shop.run(TrainingError("no_training_rows", "nothing"))
    forget_letters(shop)
    tick(shop, cursor)
    assert [letter.run_id for letter in shop.letters()] == [failed.run_id]
