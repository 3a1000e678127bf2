"""IO managers: typed files on S3, one a partition, user first in the key; what is of no user lies under `shared/`.

Belongs here: moving an asset's value to and from its file, and the metadata every file has.
Does not belong here: the form of the files (`lpm_kernel/artefacts.py`), and weights: stages put those into the blob store.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, get_args

import dagster as dg
from dagster_aws.s3 import S3Resource

from lpm_kernel.artefacts import decode_record, decode_records, decode_table, encode_record, encode_records, encode_table
from lpm_kernel.layout import asset_key, shared_asset_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.blobs import Blobs, S3Blobs, TenantBlobs
from twin_assets.failures import dagster_failures
from twin_assets.resources import client_of


class ArtefactIOManager(dg.ConfigurableIOManager):
    """One whole object a materialization: a write that dies leaves the file before it."""

    s3: S3Resource
    bucket: str

    extension: ClassVar[str]

    @abstractmethod
    def encode(self, value: Any) -> bytes: ...

    @abstractmethod
    def decode(self, data: bytes, value_type: Any) -> Any: ...

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        user_id = context.partition_key if context.has_partition_key else None
        key = self._key(user_id, context.asset_key)
        with dagster_failures(context.step_context.previous_attempt_count, load_settings().retries):
            data = self.encode(obj)
            self._blobs(user_id, context.run_id).put(key, data)
        context.add_output_metadata({"key": key, "size_bytes": len(data), "sha256": sha256_hex(data)})
        if isinstance(obj, list):
            counted = "dagster/row_count" if user_id is None else "dagster/partition_row_count"
            context.add_output_metadata({counted: len(obj)})

    def load_input(self, context: dg.InputContext) -> Any:
        user_id = context.partition_key if context.has_partition_key else None
        key = self._key(user_id, context.asset_key)
        with dagster_failures(context.step_context.previous_attempt_count, load_settings().retries):
            return self.decode(self._blobs(user_id).get(key), context.dagster_type.typing_type)

    def _key(self, user_id: str | None, asset: dg.AssetKey) -> str:
        name = asset.path[-1]
        return shared_asset_key(name, self.extension) if user_id is None else asset_key(user_id, name, self.extension)

    def _blobs(self, user_id: str | None, run_id: str | None = None) -> Blobs | TenantBlobs:
        blobs = S3Blobs(client_of(self.s3), self.bucket, run_id=run_id)
        return blobs if user_id is None else TenantBlobs(blobs, user_id)


class JsonlIOManager(ArtefactIOManager):
    """A list of records; the reader's annotation, `list[Chunk]`, says which."""

    extension: ClassVar[str] = "jsonl"

    def encode(self, value: Any) -> bytes:
        return encode_records(value)

    def decode(self, data: bytes, value_type: Any) -> Any:
        return decode_records(data, get_args(value_type)[0])


class JsonIOManager(ArtefactIOManager):
    """One record."""

    extension: ClassVar[str] = "json"

    def encode(self, value: Any) -> bytes:
        return encode_record(value)

    def decode(self, data: bytes, value_type: Any) -> Any:
        return decode_record(data, value_type)


class ParquetIOManager(ArtefactIOManager):
    """An embedding table."""

    extension: ClassVar[str] = "parquet"

    def encode(self, value: Any) -> bytes:
        return encode_table(value)

    def decode(self, data: bytes, value_type: Any) -> Any:
        return decode_table(data)
