"""Blobs: documents and artefacts in any S3.

Belongs here: whole-object reads and writes, ranged reads, and the fence around one tenant's prefix.
Does not belong here: what a key means (`layout.py`) and how an object is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.errors import StoreError
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.request_context import check_may_open, transaction_of
from lpm_kernel.stores.asset_cache import AssetCache
from lpm_kernel.stores.breaker import Breaker, Breakers

if TYPE_CHECKING:
    from datetime import datetime

    from lpm_kernel.stores.addresses import Addresses, BlobAddress


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """What somebody needs to send one object to the store itself: a form of these fields, the file last, to this URL."""

    url: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing says of one object. `etag`: another one where other bytes were put since; it is no hash that we know."""

    key: str
    size_bytes: int
    etag: str
    changed_at: datetime


BREAKER = 3, 1.0
"""Of calls in a row, and how long the server is then left alone. Short: it is back a second after it was killed."""


class Blobs(Protocol):
    """What a blob store guarantees: an object is whole or absent; a missing key is `blob_not_found`, never empty bytes."""

    def put(self, key: str, data: bytes) -> None: ...

    def put_file(self, key: str, path: Path) -> None: ...

    def get(self, key: str) -> bytes: ...

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to `path`; the file appears whole or not at all."""
        ...

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of the object; exactly `end - start` of them."""
        ...

    def exists(self, key: str) -> bool: ...

    def size(self, key: str) -> int:
        """Bytes of the object. Raises: StoreError `blob_not_found`."""
        ...

    def sign_upload(self, key: str, max_bytes: int, valid_s: int) -> DirectUpload:
        """Let whoever has the answer send one object to this key, of 1 to `max_bytes`, for so long.

        Raises: StoreError `direct_upload_unknown` where the store has no door of its own.
        """
        ...

    def list_keys(self, prefix: str) -> Iterator[str]: ...

    def list_objects(self, prefix: str) -> Iterator[StoredObject]: ...

    def delete(self, key: str) -> None:
        """Idempotent."""
        ...

    def check(self) -> None:
        """Raises: StoreError when the store does not answer or has no place for objects (`bucket_missing`)."""
        ...


class S3Blobs:
    """Blobs in one bucket of an S3 server, through a boto3 client.

    With a breaker it is one for people who wait: a server that has just failed several times is left alone for a moment, its
    callers are told at once, and artefacts that still hold are kept in memory.
    """

    def __init__(
        self, client: Any, bucket: str, breaker: Breaker | None = None, signer: Any = None, run_id: str | None = None
    ) -> None:
        """`signer`: a client that knows the server by the address which others reach it at; none: they reach it as we do.
        `run_id`: the name of what is written where no request is under way."""
        self._run_id = run_id
        self.client = client
        self._signer = signer or client
        self.bucket = bucket
        self._breaker = breaker
        self._assets = AssetCache(self._asset_etags, self._get_with_etag) if breaker else None

    @contextmanager
    def _asking(self, action: str, key: str) -> Iterator[None]:
        if self._breaker is None:
            with _translated(action, key):
                yield
            return
        if not self._breaker.allows():
            raise StoreError("blob_store", f"could not {action} {key}: the blob store did not answer a moment ago")
        try:
            with _translated(action, key):
                yield
        except StoreError as error:
            if error.code == "blob_store":
                self._breaker.failed()
            else:
                self._breaker.succeeded()  # a refusal is an answer
            raise
        self._breaker.succeeded()

    def put(self, key: str, data: bytes) -> None:
        with self._asking("put", key):
            self.client.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata=self._written_by())
        self._changed(key)

    def put_file(self, key: str, path: Path) -> None:
        with self._asking("put", key):
            self.client.upload_file(str(path), self.bucket, key, ExtraArgs={"Metadata": self._written_by()})
        self._changed(key)

    def _written_by(self) -> dict[str, str]:
        """What an object says of its writer, so that one can be traced to the request or run that left it."""
        return {"transaction-id": named} if (named := transaction_of(self._run_id)) else {}

    def get(self, key: str) -> bytes:
        if self._assets is not None and self._assets.covers(key):
            return self._assets.get(key)
        return self._get_with_etag(key)[0]

    def _get_with_etag(self, key: str) -> tuple[bytes, str]:
        with self._asking("get", key):
            found = self.client.get_object(Bucket=self.bucket, Key=key)
            return found["Body"].read(), found["ETag"]

    def _asset_etags(self, prefix: str) -> dict[str, str]:
        with self._asking("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}

    def _changed(self, key: str) -> None:
        if self._assets is not None:
            self._assets.forget(key)

    def get_file(self, key: str, path: Path) -> None:
        with self._asking("get", key):
            # boto3 itself downloads to a temporary name beside the target and renames it
            self.client.download_file(self.bucket, key, str(path))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        if end <= start:
            with self._asking("get", key):
                self.client.head_object(Bucket=self.bucket, Key=key)
            return b""
        with self._asking("get", key):
            response = self.client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end - 1}")
            data = response["Body"].read()
        if len(data) != end - start:
            raise StoreError("blob_range", f"{key} holds {len(data)} bytes of [{start}, {end})", retryable=False)
        return data

    def exists(self, key: str) -> bool:
        try:
            with self._asking("head", key):
                self.client.head_object(Bucket=self.bucket, Key=key)
        except StoreError as error:
            if error.code == "blob_not_found":
                return False
            raise
        return True

    def size(self, key: str) -> int:
        with _translated("head", key):
            return int(self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"])

    def sign_upload(self, key: str, max_bytes: int, valid_s: int) -> DirectUpload:
        """Signed here, without asking the server, for the host that the sender will ask. Why a form and no PUT: only a form's
        policy bounds the size."""
        with _translated("sign an upload to", key):
            named = {f"x-amz-meta-{name}": value for name, value in self._written_by().items()}
            conditions = [["content-length-range", 1, max_bytes], *({name: value} for name, value in named.items())]
            signed = self._signer.generate_presigned_post(self.bucket, key, named, Conditions=conditions, ExpiresIn=valid_s)
        return DirectUpload(signed["url"], dict(signed["fields"]))

    def list_keys(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.list_objects(prefix))

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        with self._asking("list", prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    yield StoredObject(item["Key"], int(item["Size"]), item["ETag"], item["LastModified"])

    def delete(self, key: str) -> None:
        with self._asking("delete", key):
            self.client.delete_object(Bucket=self.bucket, Key=key)
        self._changed(key)

    def check(self) -> None:
        try:
            with self._asking("reach", self.bucket):
                self.client.head_bucket(Bucket=self.bucket)
        except StoreError as error:
            if error.code == "blob_not_found":
                raise StoreError("bucket_missing", f"the blob store has no bucket {self.bucket}", retryable=False) from error
            raise

    def ensure_bucket(self) -> None:
        """Create the bucket when it is absent. Idempotent."""
        with self._asking("create", self.bucket):
            if self.bucket not in {bucket["Name"] for bucket in self.client.list_buckets()["Buckets"]}:
                self.client.create_bucket(Bucket=self.bucket)


class TenantBlobs:
    """The blobs of one user: every key outside their prefix is refused before it reaches the store."""

    def __init__(self, blobs: Blobs, user_id: str) -> None:
        """Raises: AccessError `not_yours` inside a request that was not let in for this user."""
        check_may_open(user_id)
        self._blobs = blobs
        self.prefix = tenant_prefix(user_id)

    def _own(self, key: str) -> str:
        # some servers resolve "..", and then a key that begins rightly would end elsewhere
        if not key.startswith(self.prefix) or ".." in key.split("/"):
            raise StoreError("foreign_key", f"{key} does not lie under {self.prefix}", retryable=False)
        return key

    def put(self, key: str, data: bytes) -> None:
        self._blobs.put(self._own(key), data)

    def put_file(self, key: str, path: Path) -> None:
        self._blobs.put_file(self._own(key), path)

    def get(self, key: str) -> bytes:
        return self._blobs.get(self._own(key))

    def get_file(self, key: str, path: Path) -> None:
        self._blobs.get_file(self._own(key), path)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        return self._blobs.get_range(self._own(key), start, end)

    def exists(self, key: str) -> bool:
        return self._blobs.exists(self._own(key))

    def size(self, key: str) -> int:
        return self._blobs.size(self._own(key))

    def sign_upload(self, key: str, max_bytes: int, valid_s: int) -> DirectUpload:
        return self._blobs.sign_upload(self._own(key), max_bytes, valid_s)

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        return self._blobs.list_keys(self._own(prefix or self.prefix))

    def list_objects(self, prefix: str = "") -> Iterator[StoredObject]:
        return self._blobs.list_objects(self._own(prefix or self.prefix))

    def delete(self, key: str) -> None:
        self._blobs.delete(self._own(key))


def open_s3(addresses: Addresses | BlobAddress, *, prompt: bool = False, breakers: Breakers | None = None) -> S3Blobs:
    """A client of its own, safe to share between threads. `prompt`: somebody waits, and would rather be told than wait on."""
    import boto3

    def client_of(endpoint_url: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=addresses.s3_access_key_id,
            aws_secret_access_key=addresses.s3_secret_access_key,
            region_name="us-east-1",
            config=s3_client_config(prompt=prompt),
        )

    client, public = client_of(addresses.s3_endpoint_url), addresses.s3_public_endpoint_url
    breaker = (breakers or Breakers()).named("blobs", *BREAKER) if prompt else None
    return S3Blobs(client, addresses.s3_bucket, breaker, client_of(public) if public else None)


def s3_client_config(*, prompt: bool = False) -> Any:
    """Path style and v4 signatures: what a server on a bare address needs and every S3 understands."""
    from botocore.config import Config

    return Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # patiently: a restart of the server is waited for, which takes half a minute of tries with pauses between them
        retries={"max_attempts": 1 if prompt else 5, "mode": "standard"},
        connect_timeout=2 if prompt else 5,
        read_timeout=5 if prompt else 60,
        max_pool_connections=32,
    )


@contextmanager
def _translated(action: str, key: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError) as error:
        # boto3 wraps what the server answered to a file's upload in an error of its own
        answer = error if isinstance(error, ClientError) else error.__context__
        code = str(answer.response.get("Error", {}).get("Code", "")) if isinstance(answer, ClientError) else ""
        if code in {"404", "NoSuchKey", "NotFound"}:
            raise StoreError("blob_not_found", f"no object at {key}", retryable=False) from error
        if code in {"403", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"}:
            raise StoreError("blob_refused", f"the blob store refused to {action} {key}: {code}", retryable=False) from error
        if code in {"416", "InvalidRange"}:
            raise StoreError("blob_range", f"{key} ends before the bytes that were asked for", retryable=False) from error
        raise StoreError("blob_store", f"could not {action} {key}: {code or error}") from error
