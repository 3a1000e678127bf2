"""The FastAPI app. `python -m twin_serving` serves it.

Belongs here: putting routes, errors and services together, and their life time.
Does not belong here: routes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from anyio import to_thread
from fastapi import Depends, FastAPI

from lpm_kernel.errors import TwinError
from lpm_kernel.L2.engine import adapter_folder, open_serving_llm
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.sync.lag import list_backlogs
from twin_serving.buckets import RedisBuckets, open_buckets
from twin_serving.change_metrics import Backlogs
from twin_serving.deps import Services
from twin_serving.errors import install_error_responses
from twin_serving.logs import configure_logs
from twin_serving.metrics import BreakerCollector, Joined, MeasureRequests, Metrics, StateCollector
from twin_serving.middleware import install_middleware
from twin_serving.niceness import step_back
from twin_serving.openapi import complete_openapi
from twin_serving.probes import StoreProbes, store_questions
from twin_serving.routes import (
    ballots,
    calibration,
    chat,
    dao_audit,
    dao_ballots,
    dao_dashboard,
    dao_delegations,
    dao_members,
    dao_notices,
    dao_plans,
    dao_proposals,
    dao_twins,
    documents,
    feedback,
    health,
    hooks,
    memories,
    openai,
    openai_chat,
    profile,
    releases,
    scopes,
    sessions,
    twin,
    uploads,
    whole,
    wiki,
)
from twin_serving.stop import EndStreams, Stop
from twin_serving.text_check import refuse_broken_text

CONNECTIONS_AHEAD = 8
"""To PostgreSQL, opened with the model: the first crowd need not wait for them."""
_LOG = logging.getLogger(__name__)


def create_app(open_services: Callable[[], Services] | None = None, settings: Settings | None = None) -> FastAPI:
    """An app whose services are opened when it starts and closed when it ends; tests hand in their own.

    Raises: SettingsError, among others where the settings would let strangers in.
    """
    settings = settings or load_settings()
    serving = settings.serving
    redis_url = None if open_services else connection_environment().get(settings.stores.redis_url)
    buckets = open_buckets(redis_url, serving.requests_per_minute)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if open_services is None:
            configure_logs()  # here, when the server has set up its own
        services = open_services() if open_services else open_default_services(settings)
        app.state.services = services
        app.state.probes = StoreProbes(store_questions(services.stores))
        if isinstance(buckets, RedisBuckets):
            services.stores.breakers.add(buckets.breaker)
        services.change_worker.start()
        services.dao_side.start()
        if services.stores.settings.serving.warm_model:
            services.warm()
        try:
            yield
        finally:
            await to_thread.run_sync(services.close)
            await buckets.aclose()

    app = FastAPI(
        title="Digital twin",
        description="Chat with twins, upload documents, decide together.",
        lifespan=lifespan,
        dependencies=[Depends(refuse_broken_text)],
        docs_url="/docs" if serving.docs else None,
        openapi_url="/openapi.json" if serving.docs else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.metrics, app.state.stop = Metrics(), Stop()
    app.state.metrics.join(StateCollector(lambda: _states(app), lambda: _build(app.state.services.stores.settings)))
    app.state.metrics.join(BreakerCollector(lambda: app.state.services.stores.breakers.circuits()))
    app.state.metrics.join(Joined(lambda: app.state.services.engine and app.state.services.engine.metrics.registry))
    app.state.metrics.join(Joined(lambda: app.state.services.dao_side.metrics.registry))
    app.state.metrics.join(Backlogs(lambda: list_backlogs(app.state.services.stores.tables, datetime.now(UTC))))
    app.state.buckets = buckets
    install_error_responses(app)
    for module in (
        *(health, chat, ballots, documents, uploads, profile, twin, wiki, sessions, memories, releases, whole),
        *(hooks, feedback, calibration, scopes, openai, openai_chat),
        *(
            dao_proposals,
            dao_ballots,
            dao_delegations,
            dao_members,
            dao_notices,
            dao_twins,
            dao_plans,
            dao_audit,
            dao_dashboard,
        ),
    ):
        app.include_router(module.router)
    app.add_middleware(EndStreams, stop=app.state.stop)
    install_middleware(app, settings, buckets)
    complete_openapi(app, serving)
    app.add_middleware(MeasureRequests, metrics=app.state.metrics)  # last, and so outermost
    return app


def _states(app: FastAPI) -> dict[str, str]:
    return {**app.state.probes.states(), "model": app.state.services.model_state}


def _build(settings: Settings) -> dict[str, str]:
    return {"version": _version(), "base": settings.models.base, "engine": settings.serving.engine}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("digital-twin")
    except PackageNotFoundError:  # run from a checkout that nobody has installed
        return "0"


def open_default_services(settings: Settings | None = None) -> Services:
    settings = settings or load_settings()
    stores = open_stores(settings, prompt=True)

    def open_model() -> Llm:
        from twin_serving.agent.graph import compiled

        compiled()  # loaded beside the model, and not while the first question waits
        with suppress(TwinError):  # whoever asks hears of it
            stores.tables.open_ahead(CONNECTIONS_AHEAD)
        prepare = partial(step_back, settings.serving.decode_priority)
        llm = open_serving_llm(settings, lambda share, words: None, stores.breakers, prepare)
        # seconds of work, which else the first turn's memory would take from a crowd
        threading.Thread(target=_fit_head, args=(stores,), name="fit-head", daemon=True).start()
        return llm

    return Services(stores, open_model, adapter_folder())


def _fit_head(stores: Stores) -> None:
    try:
        stores.preference_head.fit()
    except TwinError as error:
        _LOG.warning("preferences of chats cannot be judged yet: %s", error)
