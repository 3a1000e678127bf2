"""Automation: how a change moves down the graph by itself, and what of all that runs by itself is on.

Belongs here: automation conditions, and the switch of each sensor and schedule.
Does not belong here: what brings a change in from outside (`sensors.py`).
"""

import dagster as dg

from lpm_kernel.settings import Settings

WHOLE_CHAIN = {"twin/stages": "all"}
"""Tag of runs that hold every stage: what they update needs nobody to carry it on."""


ON_REQUEST = ("merged_model", "dpo", "x_posts")
"""Assets of a user that are made on request, and `dpo` by the weekly retraining; they lie beside the chain of stages."""


def sensor_status(settings: Settings, name: str) -> dg.DefaultSensorStatus:
    """On or off by `automation.switches`, until somebody says otherwise in the UI: what they choose there is kept."""
    return dg.DefaultSensorStatus.RUNNING if _is_on(settings, name) else dg.DefaultSensorStatus.STOPPED


def schedule_status(settings: Settings, name: str) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if _is_on(settings, name) else dg.DefaultScheduleStatus.STOPPED


def _is_on(settings: Settings, name: str) -> bool:
    return bool(getattr(settings.automation.switches, name))


def when_upstream_changes() -> dg.AutomationCondition:
    """Run a stage when it is new or what it is made from has changed, once its inputs are there, sound and at rest.

    Why a latch of our own: with `eager()` an update that arrives while the stage runs is lost, because the run's own
    materialization clears it. Here only a request clears it, so the stage runs once more when it is free.
    Why the data version: an upstream that ran again and gave the same content starts nothing.
    Why checks of a stage that is asked for in the same tick do not count: they run with it in one run, which stops by itself
    where one fails. Dagster's own condition waits for them, and a user would be built in eight runs, a tick apart.
    """
    condition = dg.AutomationCondition
    # A run names the stages it holds only when it was asked for some of them; one of all stages is known by its tag.
    carried_on = condition.executed_with_root_target() | condition.executed_with_tags(tag_values=WHOLE_CHAIN)
    changed = condition.newly_updated() & condition.data_version_changed() & ~carried_on
    upstream_changed = condition.any_deps_match(changed)
    changes = upstream_changed | condition.any_deps_match(condition.will_be_requested())
    # A request of the last tick clears the latch, but not against a change that came in after it or comes with this tick.
    wanted = changes.since((condition.newly_requested() & ~changes) | condition.initial_evaluation())
    # Made by whoever it was, a stage is not missing any longer: a backfill of a new user needs nobody to repeat it.
    never_made = condition.newly_missing().since(
        condition.newly_requested() | condition.newly_updated() | condition.initial_evaluation()
    )
    sound = condition.all_checks_match(condition.check_passed(), blocking_only=True)
    return (
        (wanted | never_made)
        & ~condition.any_deps_missing()
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
        & condition.all_deps_match(sound | condition.will_be_requested())
    ).with_label("when_upstream_changes")
