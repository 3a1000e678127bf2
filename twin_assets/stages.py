"""Stages: what every asset of a user has in common, and how a person can watch one run.

Belongs here: the decorator that makes a function an asset of the `users` partitions, and progress.
Does not belong here: what any one stage does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

import dagster as dg

from lpm_kernel.stores.compute import Progress
from twin_assets.automation import when_upstream_changes
from twin_assets.dead_letters import keep_letter, resolve_letters
from twin_assets.failures import dagster_failures
from twin_assets.partitions import users
from twin_assets.resources import StoresResource
from twin_assets.versioned import versioned_output

LOG_EVERY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class StageEvent:
    """Something a watcher may print: a stage began, went on, or ended."""

    stage: str
    state: Literal["started", "running", "done", "failed"]
    share: float
    words: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage made: its value, the version of its content (equal versions, equal content), and figures for the UI."""

    value: Any
    version: str
    metadata: dict[str, Any]


watcher: ContextVar[Callable[[StageEvent], None] | None] = ContextVar("watcher", default=None)
"""Set by a caller that runs assets in its own process, such as `twin demo`."""


def stage(
    *, group: str, io_manager_key: str, code_version: str, kinds: set[str], automatic: bool = True, pool: str | None = None
) -> Any:
    """An asset with one partition a user. The function gets `(context, stores, **inputs)` and gives a `Made`.

    A kernel error becomes a Dagster failure; a retry is asked for only where it can help, and what fails for good leaves a
    dead letter.
    """

    def decorate(function: Callable[..., Made]) -> dg.AssetsDefinition:
        @wraps(function)
        def run(context: dg.AssetExecutionContext, stores: StoresResource, **inputs: Any) -> Any:
            name = context.asset_key.path[-1]
            started = time.monotonic()

            def tell(state: Literal["started", "running", "done", "failed"], share: float, words: str) -> None:
                if listen := watcher.get():
                    listen(StageEvent(name, state, share, words, time.monotonic() - started))

            tell("started", 0.0, "")
            try:
                with dagster_failures(context.retry_number, stores.stores.settings.retries):
                    made = function(context, stores, **inputs)
            except BaseException as error:
                tell("failed", 0.0, str(error))
                if isinstance(error, dg.RetryRequested):
                    left = stores.stores.settings.retries.max_retries - context.retry_number
                    context.log.warning(f"attempt {context.retry_number + 1} failed, {left} left: {error.__cause__}")
                elif isinstance(error, Exception):
                    keep_letter(context, stores.stores.tables, error)
                raise
            resolve_letters(context, stores.stores.tables)
            seconds = time.monotonic() - started
            tell("done", 1.0, "")
            return versioned_output(made.value, made.version, {**made.metadata, "seconds": round(seconds, 2)})

        del run.__annotations__["return"]  # Dagster would take `Made` for the type of the stored value
        return dg.asset(
            partitions_def=users,
            group_name=group,
            io_manager_key=io_manager_key,
            code_version=code_version,
            kinds=kinds,
            owners=["team:twin"],
            pool=pool,
            automation_condition=when_upstream_changes() if automatic else None,
        )(run)

    return decorate


def progress_of(context: dg.AssetExecutionContext) -> Progress:
    """Progress of the running stage: to the watcher at each step, to the run's log at every tenth.

    Going back by a tenth counts too. Why: making the base ready ends at one, and of the training after it nothing was logged.
    """
    name = context.asset_key.path[-1]
    started = time.monotonic()
    logged = -LOG_EVERY_SHARE

    def report(share: float, words: str) -> None:
        nonlocal logged
        if listen := watcher.get():
            listen(StageEvent(name, "running", share, words, time.monotonic() - started))
        if abs(share - logged) >= LOG_EVERY_SHARE or share >= 1.0 > logged:
            logged = share
            context.log.info(f"{share:4.0%} {words}")

    return report
