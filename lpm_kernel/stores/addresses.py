"""Where the stores are: addresses and secrets, from environment variables.

Belongs here: reading the variables that `settings.stores` names, and the file `twin up` leaves for the embedded engines.
Does not belong here: opening a connection.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import Settings

CONNECTION_FILE = "connection.env"


@dataclass(frozen=True, slots=True)
class Addresses:
    database_url: str = field(repr=False)
    """PostgreSQL as the application role: no superuser, row-level security applies."""
    s3_endpoint_url: str
    s3_access_key_id: str = field(repr=False)
    s3_secret_access_key: str = field(repr=False)
    s3_bucket: str
    redis_url: str = field(repr=False)
    s3_public_endpoint_url: str = ""
    """The same server as those reach it who are given signed forms; empty: at `s3_endpoint_url`."""


@dataclass(frozen=True, slots=True)
class BlobAddress:
    """Of the blob store alone: all that a container of a heavy stage is given."""

    s3_endpoint_url: str
    s3_access_key_id: str = field(repr=False)
    s3_secret_access_key: str = field(repr=False)
    s3_bucket: str
    s3_public_endpoint_url: str = ""
    """No stage gives signed forms to anybody."""


@dataclass(frozen=True, slots=True)
class GraphAddress:
    """Where the temporal graph is: the embedded FalkorDB beside Redis, or a Neo4j."""

    url: str = field(repr=False)
    username: str = "neo4j"
    password: str = field(default="", repr=False)
    database: str = "neo4j"


@dataclass(frozen=True, slots=True)
class WeaviateAddress:
    url: str
    grpc_url: str = ""
    """Empty: port 50051 of the same host."""
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class OpenAiAddress:
    api_key: str = field(repr=False)
    base_url: str | None = None
    """None: OpenAI's own. Else any server that speaks its language."""


def twin_home(environ: Mapping[str, str] | None = None) -> Path:
    """Where local state lives: `TWIN_HOME`, else `.twin` in the working directory. Absolute."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("TWIN_HOME") or ".twin").absolute()


def connection_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, completed from the file that the embedded engines left. What is set by hand wins.

    Raises: SettingsError `address_invalid` when that file cannot be read.
    """
    environ = os.environ if environ is None else environ
    path = twin_home(environ) / CONNECTION_FILE
    left: dict[str, str] = {}
    if path.exists():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError("address_invalid", f"{path} cannot be read: `twin up` writes it anew") from error
        left = dict(line.split("=", 1) for line in lines if "=" in line)
    return {**left, **environ}


def read_addresses(settings: Settings, environ: Mapping[str, str] | None = None) -> Addresses:
    """Raises: SettingsError `address_missing`, naming every variable that is not set; `address_invalid`."""
    found = connection_environment(environ)
    names = {
        "database_url": settings.stores.database_url,
        "s3_endpoint_url": settings.stores.s3_endpoint_url,
        "s3_access_key_id": settings.stores.s3_access_key_id,
        "s3_secret_access_key": settings.stores.s3_secret_access_key,
        "s3_bucket": settings.stores.s3_bucket,
        "redis_url": settings.stores.redis_url,
    }
    missing = sorted(name for name in names.values() if not found.get(name))
    if missing:
        where = f"no engines run under {twin_home(environ)}: run `twin up`, or set" if settings.profile == "embedded" else "set"
        raise SettingsError("address_missing", f"{where} {', '.join(missing)}")
    public = found.get(settings.stores.s3_public_endpoint_url, "")
    if public and not public.startswith(("http://", "https://")):
        raise SettingsError("address_invalid", f"{settings.stores.s3_public_endpoint_url} is no http address")
    return Addresses(**{field_name: found[name] for field_name, name in names.items()}, s3_public_endpoint_url=public)


def read_blob_address(settings: Settings, environ: Mapping[str, str] | None = None) -> BlobAddress:
    """Raises: SettingsError `address_missing`."""
    found, names = connection_environment(environ), settings.stores
    variables = (names.s3_endpoint_url, names.s3_access_key_id, names.s3_secret_access_key, names.s3_bucket)
    return BlobAddress(*(_needed(found, name, "a heavy stage reads and writes blobs") for name in variables))


def read_graph_address(settings: Settings, environ: Mapping[str, str] | None = None) -> GraphAddress:
    """Neo4j where its variable is set, else FalkorDB. Raises: SettingsError `address_missing`.

    Why the embedded profile looks at no NEO4J_URI: a shell may export one for another program, and the facts would go there.
    """
    found, names = connection_environment(environ), settings.stores
    if settings.profile != "embedded" and (url := found.get(names.neo4j_uri)):
        username = found.get(names.neo4j_username) or "neo4j"
        return GraphAddress(url, username, found.get(names.neo4j_password, ""), found.get(names.neo4j_database) or "neo4j")
    return GraphAddress(read_addresses(settings, environ).redis_url)


def read_weaviate_address(settings: Settings, environ: Mapping[str, str] | None = None) -> WeaviateAddress:
    """Raises: SettingsError `address_missing`; `address_invalid` where both protocols are said to be at one address."""
    found, names = connection_environment(environ), settings.stores
    url, grpc_url = _needed(found, names.weaviate_url, "stores_in.vectors is weaviate"), found.get(names.weaviate_grpc_url, "")
    if urlsplit(url).netloc == urlsplit(grpc_url).netloc:
        raise SettingsError("address_invalid", f"{names.weaviate_url} and {names.weaviate_grpc_url} are one address: two ports")
    return WeaviateAddress(url, grpc_url, found.get(names.weaviate_api_key, ""))


def read_openai_address(settings: Settings, environ: Mapping[str, str] | None = None) -> OpenAiAddress:
    """Raises: SettingsError `address_missing`."""
    found, names = connection_environment(environ), settings.stores
    key = _needed(found, names.openai_api_key, "an OpenAI model is asked for")
    return OpenAiAddress(key, found.get(names.openai_base_url) or None)


def read_mem0_key(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """Raises: SettingsError `address_missing`."""
    return _needed(connection_environment(environ), settings.stores.mem0_api_key, "stores_in.memories is mem0")


def _needed(found: Mapping[str, str], name: str, reason: str) -> str:
    if not found.get(name):
        raise SettingsError("address_missing", f"{reason}, so set {name}")
    return found[name]
