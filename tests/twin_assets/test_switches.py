"""Everything that runs by itself has its switch, and obeys it."""

from __future__ import annotations

import dagster as dg
import pytest

from lpm_kernel.automation_settings import Switches
from lpm_kernel.settings import Settings, load_settings
from twin_assets.definitions import build_defs

OFF_BY_DEFAULT = {"weekly_retraining"}


def states(settings: Settings) -> dict[str, bool]:
    """By the name of each sensor and schedule, whether it is on where nobody has said otherwise in the UI."""
    defs = build_defs(settings)
    sensors = {item.name: item.default_status is dg.DefaultSensorStatus.RUNNING for item in defs.sensors or ()}
    schedules: dict[str, bool] = {}
    for item in defs.schedules or ():
        assert isinstance(item, dg.ScheduleDefinition)
        schedules[item.name] = item.default_status is dg.DefaultScheduleStatus.RUNNING
    return {**sensors, **schedules}


def switched(on: bool) -> Settings:
    settings = load_settings()
    switches = Switches(**dict.fromkeys(Switches.model_fields, on))
    return settings.model_copy(update={"automation": settings.automation.model_copy(update={"switches": switches})})


def test_each_has_a_switch_of_its_name_and_there_is_no_other_switch() -> None:
    assert set(states(load_settings())) == set(Switches.model_fields)


@pytest.mark.parametrize("on", [True, False])
def test_each_obeys_its_switch(on: bool) -> None:
    assert set(states(switched(on)).values()) == {on}


def test_as_the_project_comes_all_are_on_but_what_costs_hours() -> None:
    assert {name for name, on in states(load_settings()).items() if not on} == OFF_BY_DEFAULT
