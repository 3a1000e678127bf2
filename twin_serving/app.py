"""The FastAPI app: `uvicorn twin_serving.app:create_app --factory`.

Belongs here: putting routes, errors and services together, and their life time.
Does not belong here: routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from lpm_kernel.L2.engine import adapter_folder, open_llm
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.open import open_stores
from twin_serving.deps import Services
from twin_serving.errors import install_error_responses
from twin_serving.routes import chat, documents, health, profile


def create_app(open_services: Callable[[], Services] | None = None) -> FastAPI:
    """An app whose services are opened when it starts and closed when it ends; tests hand in their own."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = (open_services or open_default_services)()
        app.state.services = services
        try:
            yield
        finally:
            services.close()

    app = FastAPI(title="Digital twin", description="Chat with twins, upload documents.", lifespan=lifespan)
    install_error_responses(app)
    for module in (health, chat, documents, profile):
        app.include_router(module.router)
    return app


def open_default_services(settings: Settings | None = None) -> Services:
    settings = settings or load_settings()
    return Services(open_stores(settings), lambda: open_llm(settings, lambda share, words: None), adapter_folder())
