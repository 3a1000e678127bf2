"""Resources: the kernel's stores inside Dagster.

Belongs here: thin wrappers that read environment variables when a run starts.
Does not belong here: clients; they are plain classes of `lpm_kernel.stores`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import PrivateAttr

from lpm_kernel.settings import ModelSettings, Settings, load_settings
from lpm_kernel.stores.addresses import read_openai_address
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.compute import Compute
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.local_compute import LocalCompute
from lpm_kernel.stores.modal_compute import BREAKER as MODAL_BREAKER
from lpm_kernel.stores.modal_compute import ModalCompute
from lpm_kernel.stores.open import Stores, build_stores
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.writer import OpenAiWriter


class StoresResource(dg.ConfigurableResource):
    """Tables, blobs, vectors, embedder and compute of one run; opened at its start, closed at its end."""

    s3: S3Resource
    bucket: str
    database_url: str

    _stores: Stores = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[StoresResource]:
        # a look of a sensor is no run, and what it writes is told from that of the next look all the same
        run_id = context.run.run_id if context.run else f"look-{uuid.uuid4().hex}"
        blobs = S3Blobs(client_of(self.s3), self.bucket, run_id=run_id)
        self._stores = build_stores(load_settings(), Tables(self.database_url, run_id=run_id), blobs)
        try:
            yield self
        finally:
            self._stores.close()

    @property
    def stores(self) -> Stores:
        return self._stores

    @contextmanager
    def embedder_in(self, context: dg.AssetExecutionContext) -> Iterator[Embedder]:
        """The embedder of the settings. Of OpenAI's, dagster-openai tells calls and tokens in the asset's metadata.

        Why not a resource of its own: it would want a key in runs that never ask OpenAI.
        """
        if not isinstance(self._stores.embedder, OpenAiEmbedder):
            yield self._stores.embedder
            return
        from dagster_openai import OpenAIResource

        address = read_openai_address(self._stores.settings)
        openai = OpenAIResource(api_key=address.api_key, base_url=address.base_url)
        with openai.yield_for_execution(dg.build_init_resource_context()), openai.get_client(context) as client:
            yield OpenAiEmbedder(lambda: client, self._stores.embedder.breaker)

    def compute(self, where: str) -> Compute:
        """Where a heavy stage runs, by the name that `settings.compute` gives it."""
        settings = self._stores.settings
        if where == "modal":
            breaker = self._stores.breakers.named("modal_compute", *MODAL_BREAKER)
            return ModalCompute(settings.models, settings.compute, breaker, self._stores.tables.run_id)
        return LocalCompute(self._stores.blobs, settings.models)


def client_of(s3: S3Resource) -> Any:
    """The client of this address and key, made once a process: reading boto3's descriptions takes longer than most requests."""
    return _client(s3.endpoint_url, s3.aws_access_key_id, s3.aws_secret_access_key, s3.region_name)


@lru_cache(maxsize=4)
def _client(endpoint_url: str | None, key_id: str | None, secret: str | None, region: str | None) -> Any:
    return S3Resource(
        endpoint_url=endpoint_url, aws_access_key_id=key_id, aws_secret_access_key=secret, region_name=region
    ).get_client()


def embedding_cost(embedder: Embedder, models: ModelSettings) -> dict[str, float]:
    """What an embedder that counts tokens has cost so far, for an asset's metadata; nothing of one in this process."""
    if not isinstance(embedder, OpenAiEmbedder):
        return {}
    price = models.embedder_usd_per_million_tokens
    return {"embedding_tokens": embedder.tokens, "embedding_cost_usd": embedder.tokens * price / 1e6}


def writing_cost(writer: OpenAiWriter | None, models: ModelSettings) -> dict[str, float]:
    """What a writer has cost so far, for an asset's metadata; nothing where there is none."""
    if writer is None:
        return {}
    prices = models.writer_usd_per_million_input_tokens, models.writer_usd_per_million_output_tokens
    return {
        "writer_calls": writer.calls,
        "writer_input_tokens": writer.input_tokens,
        "writer_output_tokens": writer.output_tokens,
        "writer_cost_usd": writer.cost_usd(*prices),
    }


def s3_resource(settings: Settings) -> S3Resource:
    names = settings.stores
    return S3Resource(
        endpoint_url=dg.EnvVar(names.s3_endpoint_url),
        aws_access_key_id=dg.EnvVar(names.s3_access_key_id),
        aws_secret_access_key=dg.EnvVar(names.s3_secret_access_key),
        region_name="us-east-1",
    )


def stores_resource(settings: Settings) -> StoresResource:
    names = settings.stores
    return StoresResource(
        s3=s3_resource(settings), bucket=dg.EnvVar(names.s3_bucket), database_url=dg.EnvVar(names.database_url)
    )
