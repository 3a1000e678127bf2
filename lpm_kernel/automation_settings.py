"""What runs by itself, whom it tells, and how much is enough for it: a part of the settings under `automation`.

Belongs here: those keys and their bounds; each sensor and each schedule has a switch of its own name.
Does not belong here: sensors and schedules (`twin_assets`).
"""

from __future__ import annotations

from pydantic import Field

from lpm_kernel.settings_section import Section


class Switches(Section):
    """Whether each is on where nobody has turned it on or off in Dagster's UI."""

    users_sensor: bool
    catch_up_sensor: bool
    failed_runs: bool
    dead_runs: bool
    failure_alerts: bool
    deletions_sensor: bool
    dao_sensor: bool
    telegram_poll: bool
    social_documents: bool
    automation: bool
    nightly_purge: bool
    session_summaries: bool
    changes: bool
    dao_hourly: bool
    failed_partitions: bool
    reconciliation: bool
    weekly_retraining: bool


class RetrainAfter(Section):
    """How much of each kind is enough; 0: that kind is not counted."""

    documents: int = Field(ge=0)
    ratings: int = Field(ge=0)
    memories: int = Field(ge=0)


class SwitchSettings(Section):
    alert_every_s: int = Field(ge=0)
    retrain_after: RetrainAfter
    switches: Switches
