"""A running set of engines for a test session, for any test folder: import the fixture `engine_home` into a conftest.py.

Belongs here: starting and stopping it, and clients of its three servers.
Does not belong here: tests.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from lpm_kernel.embedded import engines
from lpm_kernel.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineHome:
    """A home whose engines run, and the environment that reaches them (names as in `settings.stores`)."""

    path: Path
    environment: dict[str, str]
    settings: Settings

    def start(self) -> None:
        """Bring back what a test has killed or stopped."""
        self.environment.update(engines.start(self.path, self.settings))

    @property
    def app_dsn(self) -> str:
        return self.environment[self.settings.stores.database_url].replace("+psycopg", "")

    @property
    def owner_dsn(self) -> str:
        return self.environment[self.settings.stores.migration_database_url].replace("+psycopg", "")

    @property
    def dagster_dsn(self) -> str:
        return self.environment[self.settings.stores.dagster_database_url]

    @property
    def redis_url(self) -> str:
        return self.environment[self.settings.stores.redis_url]

    @contextlib.contextmanager
    def s3(self, secret: str | None = None) -> Iterator[Any]:
        """A boto3 client; `secret` in place of the right one."""
        import boto3
        from botocore.config import Config

        names = self.settings.stores
        client = boto3.client(
            "s3",
            endpoint_url=self.environment[names.s3_endpoint_url],
            aws_access_key_id=self.environment[names.s3_access_key_id],
            aws_secret_access_key=secret or self.environment[names.s3_secret_access_key],
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                connect_timeout=2,
                read_timeout=10,
                proxies={},
            ),
        )
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def running_engines(path: Path) -> Iterator[EngineHome]:
    """Engines under `path`, stopped at the end whatever happened."""
    settings = load_settings()
    try:
        yield EngineHome(path, engines.start(path, settings), settings)
    finally:
        engines.stop(path)


@pytest.fixture(scope="session")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    """One running set a session. Leave it running and whole: tests that kill or stop take a home of their own."""
    with running_engines(tmp_path_factory.mktemp("engines") / "home") as home:
        yield home
