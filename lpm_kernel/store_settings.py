"""Which class stands behind each store, and where its address is: a part of the settings.

Belongs here: those keys.
Does not belong here: reading addresses (`stores/addresses.py`) and opening stores (`stores/open.py`).
"""

from __future__ import annotations

from typing import Literal

from lpm_kernel.settings_section import Section


class StoresInSettings(Section):
    """Which class stands behind a port; `embedded` is the one in the application's own PostgreSQL."""

    vectors: Literal["embedded", "weaviate"]
    memories: Literal["embedded", "mem0"]


class StoreSettings(Section):
    """Each value is the name of an environment variable."""

    database_url: str
    migration_database_url: str
    dagster_database_url: str
    s3_endpoint_url: str
    s3_public_endpoint_url: str
    s3_access_key_id: str
    s3_secret_access_key: str
    s3_bucket: str
    redis_url: str
    neo4j_uri: str
    neo4j_username: str
    neo4j_password: str
    neo4j_database: str
    gemini_api_key: str
    gemini_base_url: str
    weaviate_url: str
    weaviate_grpc_url: str
    weaviate_api_key: str
    mem0_api_key: str
    openai_api_key: str
    openai_base_url: str
    release_webhook_url: str
    release_webhook_secret: str
    alert_webhook_url: str
    alert_webhook_secret: str
    notice_webhook_url: str
    notice_webhook_secret: str
    telegram_api_id: str
    telegram_api_hash: str
    telegram_session: str
    x_bearer_token: str
    x_base_url: str
