"""The latched condition, ticked on a real in-memory instance over three stages shaped like ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import dagster as dg
import pytest

from twin_assets.automation import WHOLE_CHAIN, when_upstream_changes

users = dg.DynamicPartitionsDefinition(name="users")


class Content:
    """What the root gives next (equal content is an equal data version), and what happens while `middle` runs."""

    version = "1"
    unsound: tuple[str, ...] = ()
    """Stages whose check fails."""
    meanwhile: Callable[[], None] | None = None


@dg.asset(partitions_def=users)
def root() -> dg.Output[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Output(Content.version, data_version=dg.DataVersion(Content.version))


@dg.asset(partitions_def=users, automation_condition=when_upstream_changes())
def middle(root: str) -> str:
    happens, Content.meanwhile = Content.meanwhile, None
    if happens:
        happens()
    return root


@dg.asset(partitions_def=users, automation_condition=when_upstream_changes())
def leaf(middle: str) -> str:
    return middle


def sound(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """A blocking check as every real stage has one."""

    @dg.asset_check(name=f"{asset.key.to_user_string()}_is_sound", asset=asset, blocking=True, partitions_def=users)
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=asset.key.to_user_string() not in Content.unsound)

    return check


ASSETS = [root, middle, leaf]
with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.PreviewWarning)
    CHECKS = [sound(asset) for asset in ASSETS]


class Shelf(dg.IOManager):
    """Keeps one value an asset and user, as the real files do."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}

    def handle_output(self, context: dg.OutputContext, obj: str) -> None:
        self.values[context.asset_key.to_user_string(), context.partition_key] = obj

    def load_input(self, context: dg.InputContext) -> str:
        return self.values[context.asset_key.to_user_string(), context.partition_key]


class Daemon:
    """Evaluates conditions tick after tick, as the daemon does, and runs what it is asked to run."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.defs = dg.Definitions(
            assets=ASSETS,
            asset_checks=CHECKS,
            jobs=[dg.define_asset_job("whole", selection="*", tags=WHOLE_CHAIN), dg.define_asset_job("some", selection="*")],
            resources={"io_manager": Shelf()},
        )
        self.cursor = None

    def tick(self) -> set[tuple[str, str]]:
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {
            (key.to_user_string(), partition)
            for asset in ASSETS
            for key in [asset.key]
            for partition in result.get_requested_partitions(key) or set()
            if partition is not None
        }

    def run(self, user: str, *assets: dg.AssetsDefinition) -> None:
        """As the daemon does for a request: a run that names these stages."""
        self._execute("some", user, [asset.key for asset in assets])

    def run_whole_chain(self, user: str) -> None:
        """As a backfill or a person does: a run of the job as it is."""
        self._execute("whole", user, None)

    def _execute(self, name: str, user: str, selection: list[dg.AssetKey] | None) -> None:
        job = self.defs.resolve_job_def(name)
        job.execute_in_process(
            instance=self.instance, partition_key=user, asset_selection=selection, raise_on_error=not Content.unsound
        )


@pytest.fixture
def daemon():
    Content.version, Content.meanwhile, Content.unsound = "1", None, ()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


def test_a_new_user_runs_every_stage_once_the_root_is_there(daemon: Daemon) -> None:
    assert daemon.tick() == set()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    assert daemon.tick() == set(), "the root has no condition of its own: a sensor starts it"
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}
    daemon.run("ada", middle, leaf)
    assert daemon.tick() == set()


def test_a_root_that_ran_again_with_equal_content_starts_nothing(daemon: Daemon) -> None:
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    daemon.run("ada", root)
    daemon.tick()
    daemon.run("ada", middle, leaf)
    daemon.tick()
    daemon.run("ada", root)
    assert daemon.tick() == set()
    Content.version = "2"
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}


def test_a_run_of_the_whole_chain_has_no_echo(daemon: Daemon) -> None:
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    daemon.run("ada", root)
    daemon.tick()
    daemon.run("ada", middle, leaf)
    daemon.tick()
    Content.version = "2"
    daemon.run_whole_chain("ada")
    assert daemon.tick() == set()


def test_a_change_beside_a_run_of_the_whole_chain_is_still_served(daemon: Daemon) -> None:
    """Documents that arrive while a backfill works must not be lost because the backfill's own updates are ignored."""
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    daemon.run_whole_chain("ada")
    daemon.tick()
    Content.version = "2"
    daemon.run_whole_chain("ada")
    Content.version = "3"
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}


def test_one_users_change_leaves_the_others_alone(daemon: Daemon) -> None:
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada", "bo"])
    for user in ("ada", "bo"):
        daemon.run(user, root)
    daemon.tick()
    for user in ("ada", "bo"):
        daemon.run(user, middle, leaf)
    daemon.tick()
    Content.version = "2"
    daemon.run("bo", root)
    assert daemon.tick() == {("middle", "bo"), ("leaf", "bo")}


def test_a_change_that_was_not_served_stays_wanted(daemon: Daemon) -> None:
    """The latch: a stage that could not run when its input changed is asked for when it can, not forgotten."""
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    for _ in range(3):
        assert daemon.tick() == set()
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}


def test_a_change_that_arrives_while_the_stage_runs_is_served_afterwards_and_once(daemon: Daemon) -> None:
    """Plain `eager()` loses it: the running stage's own materialization counts as having handled it."""
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}

    def new_documents() -> None:
        Content.version = "2"
        daemon.run("ada", root)
        assert daemon.tick() == set(), "middle is still running"

    Content.meanwhile = new_documents
    daemon.run("ada", middle, leaf)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}
    daemon.run("ada", middle, leaf)
    assert daemon.tick() == set()


def test_a_stage_behind_a_failed_check_waits_until_the_check_passes(daemon: Daemon) -> None:
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    Content.unsound = ("root",)
    daemon.run("ada", root)
    assert daemon.tick() == set()
    Content.unsound = ()
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}


def test_a_stage_and_the_one_behind_it_are_asked_for_together_although_the_first_is_not_checked_yet(daemon: Daemon) -> None:
    """With Dagster's own condition each stage waited for the checks of the stage before: eight runs a user, a tick apart."""
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}
    Content.version = "2"
    Content.unsound = ("middle",)
    daemon.run("ada", middle, leaf)
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}


def test_a_new_user_whom_a_backfill_built_is_not_built_again(daemon: Daemon) -> None:
    """`make up`, `add-user`, `make backfill`: the user was seen without stages, and all of them ran a second time."""
    daemon.tick()
    daemon.instance.add_dynamic_partitions("users", ["ada"])
    assert daemon.tick() == set()
    daemon.run_whole_chain("ada")
    assert daemon.tick() == set()
    Content.version = "2"
    daemon.run("ada", root)
    assert daemon.tick() == {("middle", "ada"), ("leaf", "ada")}
