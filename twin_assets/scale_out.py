"""Where the steps of a run are executed: in the run's own process, or by workers that Celery gives them to.

Belongs here: the executor that the settings choose, and the Celery app that a worker runs.
Does not belong here: what a step does; it is the same on every worker.

Why over the Redis that is there: nothing more to run, and a worker needs only the code and the addresses of the stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

WORKER = "worker"
KEY_PREFIX = "celery:"
REDELIVERED_AFTER_S = 4 * 3600
"""Of a step whose worker was lost, to another; longer than any training takes, else it would be done twice at once."""


def executor_of(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of every job. Opens nothing: the address is read from the environment when a run starts."""
    if settings.automation.executor == "in_process":
        return dg.in_process_executor
    from dagster_celery import celery_executor

    address = {"env": settings.stores.redis_url}
    return celery_executor.configured({"broker": address, "backend": address, "config_source": _config()}, name="celery")


def make_worker_app(settings: Settings, environ: Mapping[str, str]) -> Celery:
    """The app of a worker that takes the steps of every run. Raises: SettingsError `address_missing`."""
    from dagster_celery.executor import CeleryExecutor
    from dagster_celery.make_app import make_app
    from dagster_celery.tasks import create_task

    name = settings.stores.redis_url
    if not environ.get(name):
        raise SettingsError("address_missing", f"workers get their steps by Redis: set {name}, or run `twin up`")
    executor = CeleryExecutor.for_cli(broker=environ[name], backend=environ[name], config_source=_config())
    app = make_app(executor.app_args())
    create_task(app)
    return app


def worker_arguments(name: str) -> list[str]:
    """One step at a time: two would fight for the cores, and a second worker is a second command.

    Why a child for the steps: whoever asks the worker whether it lives gets an answer while one is under way.
    """
    return [
        *("worker", "--pool=prefork", "--concurrency=1", "--prefetch-multiplier=1", "--queues=dagster"),
        *(f"--hostname={name}@%h", "--loglevel=WARNING", "--without-gossip", "--without-mingle"),
    ]


def _config() -> dict[str, Any]:
    prefix = {"global_keyprefix": KEY_PREFIX}
    return {
        # taken from the queue when it is done: what a killed worker had is given to another
        "task_acks_late": True,
        "broker_transport_options": {"visibility_timeout": REDELIVERED_AFTER_S, **prefix},
        "result_backend_transport_options": prefix,
        "result_expires": REDELIVERED_AFTER_S,
        # Redis may be away for a while, as when it is started anew
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    }
