"""Running a job in this very process, as the demo does.

Belongs here: its run config, and whether its end was asked for.
Does not belong here: jobs (`jobs.py`) and what is printed of them (`demo.py`).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config under which Dagster prints nothing of its own."""


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C or SIGTERM came while a stage ran: Dagster makes it a failure of that stage, and goes on."""
    failures = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    return any(failure.error_source is not None and failure.error_source.value == "INTERRUPT" for failure in failures)
