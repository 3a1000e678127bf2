"""Weaviate's own client: opened at its first use, its collections made, its errors translated.

Belongs here: what the client and the server want to be told once, and what a caller should not have to know.
Does not belong here: entries and searches (`weaviate_vectors.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lpm_kernel.errors import SettingsError, StoreError
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.breaker import Breaker

if TYPE_CHECKING:
    from weaviate import WeaviateClient
    from weaviate.classes.config import DataType, Property

    from lpm_kernel.stores.addresses import WeaviateAddress

PREFIX = "TwinChunk_"
VECTOR = "default"
WRITER = "transaction_id"
"""The property that names the request or run which wrote an object."""
GRPC_PORT = 50051
INIT_TIMEOUT_S = 5.0
QUERY_TIMEOUT_S = 15.0
INSERT_TIMEOUT_S = 60.0
BREAKER = 3, 2.0
"""Of questions in a row whether it lives, and how long it is then left alone."""
PASSING = ("consistency level", "replica", "read-only", "readonly", "timeout", "deadline", "shutting down", "leader")
"""Words of Weaviate's answers to a request that may succeed later. Its gRPC status says UNKNOWN of most of what it refuses."""


class WeaviateConnection:
    """One client for a process, safe to share between threads. `close()` ends its connections."""

    def __init__(self, address: WeaviateAddress, breaker: Breaker | None = None) -> None:
        self._address = address
        self._breaker = breaker or Breaker(*BREAKER)
        self._opened: WeaviateClient | None = None
        self._opening = threading.Lock()

    def client(self) -> WeaviateClient:
        """A client whose server answers now.

        Why asked each time: with a server gone, the client tries a search again for a minute before it says so.
        Raises: StoreError `vectors_unavailable`; SettingsError `address_invalid`.
        """
        resting = refusal("did not answer a moment ago", retryable=True)
        with self._breaker.guarding(lambda: resting, lambda error: error.retryable), weaviate_errors():
            with self._opening:
                client = self._opened = self._opened or _open(self._address)
            if not client.is_live():
                raise StoreError("vectors_unavailable", "Weaviate does not answer over HTTP and gRPC")
            return client

    def close(self) -> None:
        with self._opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def _open(address: WeaviateAddress) -> WeaviateClient:
    import weaviate
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout

    logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)  # it logs what was refused, text and all
    http_host, http_port, http_secure = _parts(address.url)
    grpc_host, grpc_port, grpc_secure = _parts(address.grpc_url) if address.grpc_url else (http_host, GRPC_PORT, http_secure)
    return weaviate.connect_to_custom(
        http_host=http_host,
        http_port=http_port,
        http_secure=http_secure,
        grpc_host=grpc_host,
        grpc_port=grpc_port,
        grpc_secure=grpc_secure,
        auth_credentials=Auth.api_key(address.api_key) if address.api_key else None,
        additional_config=AdditionalConfig(
            timeout=Timeout(init=INIT_TIMEOUT_S, query=QUERY_TIMEOUT_S, insert=INSERT_TIMEOUT_S)
        ),
        skip_init_checks=True,  # they ask the package index whether there is a newer client; what matters is asked above
    )


def _parts(url: str) -> tuple[str, int, bool]:
    """Host, port (the scheme's own where none is named), whether it is encrypted. Raises: SettingsError `address_invalid`."""
    wrong = SettingsError("address_invalid", "Weaviate's address is no http:// or https:// URL")
    try:
        parts = urlsplit(url)
        host, found, secure = parts.hostname, parts.port, parts.scheme == "https"
    except ValueError as error:
        raise wrong from error
    if not host or parts.scheme not in ("http", "https"):
        raise wrong
    return host, found or (443 if secure else 80), secure


def collection_of(fingerprint: str) -> str:
    """Where the vectors of one model lie. Why not all together: an index of a tenant holds vectors of one dimension."""
    return PREFIX + sha256_hex(fingerprint.encode())[:16]


def own_collections(client: WeaviateClient) -> list[str]:
    return sorted(name for name in client.collections.list_all(simple=True) if name.startswith(PREFIX))


def ensure_tenant(client: WeaviateClient, collection: str, user_id: str) -> None:
    """Make the collection and the user's tenant in it, unless they are there. Idempotent; two at once are no error."""
    from weaviate.exceptions import UnexpectedStatusCodeError

    if not client.collections.exists(collection):
        try:
            _create_collection(client, collection)
        except UnexpectedStatusCodeError:
            if not client.collections.exists(collection):  # another process may have made it meanwhile
                raise
    else:
        _add_writer(client, collection)
    if not has_tenant(client, collection, user_id):
        client.collections.use(collection).tenants.create(user_id)


def has_tenant(client: WeaviateClient, collection: str, user_id: str) -> bool:
    return client.collections.exists(collection) and client.collections.use(collection).tenants.get_by_name(user_id) is not None


def _add_writer(client: WeaviateClient, collection: str) -> None:
    """To a collection that was made before objects named their transaction. Two at once are no error."""
    from weaviate.classes.config import DataType
    from weaviate.exceptions import UnexpectedStatusCodeError

    def is_there() -> bool:
        return any(item.name == WRITER for item in config.get(simple=True).properties)

    config = client.collections.use(collection).config
    if not is_there():
        try:
            config.add_property(_value(WRITER, DataType.TEXT))
        except UnexpectedStatusCodeError:
            if not is_there():
                raise


def _create_collection(client: WeaviateClient, collection: str) -> None:
    """The form of an entry. Only `text` and `near` are searched by words, with the constants of the embedded store.

    Why a flat index: a person has thousands of chunks and not millions, and so each search is exact, as in PostgreSQL.
    Why no tenants made on the way: a misspelt one would be made by the first write. One that was put to sleep wakes when used.
    """
    from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances

    def words(name: str) -> Property:
        return Property(
            name=name,
            data_type=DataType.TEXT,
            tokenization=Tokenization.WORD,
            index_searchable=True,
            index_filterable=False,
        )

    client.collections.create(
        collection,
        properties=[
            words("text"),
            words("near"),
            _value("generations", DataType.TEXT_ARRAY, filterable=True),
            _value("chunk_id", DataType.TEXT),
            _value("document_sha256", DataType.TEXT),
            _value("filename", DataType.TEXT),
            _value("input_sha256", DataType.TEXT),
            _value("fingerprint", DataType.TEXT),
            _value("chunk_index", DataType.INT),
            _value("byte_start", DataType.INT),
            _value("byte_end", DataType.INT),
            _value(WRITER, DataType.TEXT),
        ],
        vector_config=Configure.Vectors.self_provided(
            name=VECTOR, vector_index_config=Configure.VectorIndex.flat(distance_metric=VectorDistances.COSINE)
        ),
        inverted_index_config=Configure.inverted_index(bm25_k1=1.2, bm25_b=0.75),
        multi_tenancy_config=Configure.multi_tenancy(enabled=True, auto_tenant_creation=False, auto_tenant_activation=True),
    )


def _value(name: str, kind: DataType, *, filterable: bool = False) -> Property:
    from weaviate.classes.config import DataType, Property, Tokenization

    textual = kind in (DataType.TEXT, DataType.TEXT_ARRAY)
    return Property(
        name=name,
        data_type=kind,
        tokenization=Tokenization.FIELD if textual else None,
        index_searchable=False if textual else None,
        index_filterable=filterable,
    )


@contextmanager
def weaviate_errors() -> Iterator[None]:
    """Turn the client's errors into StoreErrors. Weaviate's own words stay out of the message: they may quote a value."""
    import grpc
    import httpx
    from weaviate import exceptions as theirs

    try:
        yield
    except theirs.UnexpectedStatusCodeError as error:
        status = error.status_code
        raise refusal(f"answered {status}", retryable=status >= 500 or status in (408, 429)) from error
    except (theirs.WeaviateConnectionError, theirs.WeaviateTimeoutError, theirs.WeaviateStartUpError) as error:
        raise refusal(f"did not answer ({type(error).__name__})", retryable=True) from error
    except theirs.WeaviateQueryError as error:
        code = _grpc_code(error)
        later = code in _LATER or isinstance(error.__context__, theirs.WeaviateRetryError) or may_pass(error.message)
        raise refusal(f"answered {code or 'an error'} over gRPC", retryable=later) from error
    except theirs.WeaviateInsertManyAllFailedError as error:
        raise refusal("refused every entry of a batch", retryable=may_pass(error.message)) from error
    except theirs.WeaviateBaseError as error:
        raise refusal(f"cannot be asked so ({type(error).__name__})", retryable=False) from error
    except (httpx.HTTPError, grpc.RpcError) as error:
        raise refusal(f"did not answer ({type(error).__name__})", retryable=True) from error


_LATER = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "INTERNAL")


def _grpc_code(error: Exception) -> str | None:
    import grpc

    cause = error.__context__
    return cause.code().name if isinstance(cause, grpc.Call) else None


def may_pass(words: str) -> bool:
    return any(mark in words.lower() for mark in PASSING)


def refusal(what: str, *, retryable: bool) -> StoreError:
    code = "vectors_unavailable" if retryable else "vectors_refused"
    return StoreError(code, f"Weaviate {what}", retryable=retryable)
