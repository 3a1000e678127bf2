"""What commands of `twin` need before they begin: the settings, the home, its addresses.

Belongs here: decorators of commands.
Does not belong here: commands.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.addresses import twin_home

if TYPE_CHECKING:
    from lpm_kernel.stores.open import Stores


def with_home(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the settings and the home, and the home's addresses in its environment."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        from lpm_kernel.request_context import RequestContext, within_request
        from twin_assets.home import process_environment

        settings = load_settings()
        home = twin_home()
        os.environ.update(process_environment(home, settings))
        with within_request(RequestContext(f"cli-{uuid.uuid4().hex}")):  # what a command writes is one transaction's
            return command(settings, home, *args, **options)

    return run


def with_engines(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `with_home`, for a command that needs the engines: they are asked before it begins."""

    @wraps(command)
    def run(settings: Settings, home: Path, *args: Any, **options: Any) -> Any:
        from lpm_kernel.stores.addresses import read_addresses
        from twin_assets.instance import check_engines_answer

        read_addresses(settings)
        names = settings.stores
        check_engines_answer(home, os.environ, [names.database_url, names.dagster_database_url, names.s3_endpoint_url])
        return command(settings, home, *args, **options)

    return with_home(run)


@contextmanager
def opened_stores(settings: Settings) -> Iterator[Stores]:
    from lpm_kernel.stores.open import open_stores

    stores = open_stores(settings)
    try:
        yield stores
    finally:
        stores.close()
