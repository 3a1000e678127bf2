"""`/v1/models` and `/v1/embeddings` through OpenAI's own client: who sees which twin, and vectors in both encodings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from fastapi import FastAPI
from openai import OpenAI

from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release, retire_live
from tests.twin_serving.api_server import serve
from twin_serving.auth import Principal, principal_of

MODEL = "all-MiniLM-L6-v2-int8"
TEXTS = ["What is your cat called?", "The spare key — äöü 😀"]


@pytest.fixture
def sdk(app: FastAPI) -> Iterator[OpenAI]:
    with serve(app) as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_each_twin_that_serves_is_a_model(sdk: OpenAI, twin: str, user_id: str, stores: Stores) -> None:
    listed = {model.id: model for model in sdk.models.list()}
    assert f"twin-{twin}" in listed
    assert f"twin-{user_id}" not in listed, "it has no release"
    with stores.tables.transaction(twin) as connection:
        release = live_release(connection, twin)
    assert release is not None
    found = sdk.models.retrieve(f"twin-{twin}")
    assert (found.object, found.created) == ("model", int(release.created_at.timestamp()))
    assert found == listed[f"twin-{twin}"]
    with stores.tables.transaction(twin) as connection:
        retire_live(connection, twin)
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve(f"twin-{twin}")


def test_a_user_sees_their_own_twin_and_no_trace_of_another(app: FastAPI, sdk: OpenAI, twin: str, user_id: str) -> None:
    app.dependency_overrides[principal_of] = lambda: Principal(twin)
    assert [model.id for model in sdk.models.list()] == [f"twin-{twin}"]
    app.dependency_overrides[principal_of] = lambda: Principal(user_id)
    assert list(sdk.models.list()) == []
    messages = []
    for name in (twin, "nobody-here"):
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.models.retrieve(f"twin-{name}")
        messages.append(caught.value.message.replace(name, "X"))
    assert messages[0] == messages[1]
    app.dependency_overrides[principal_of] = lambda: Principal(user_id, operator=True)
    assert f"twin-{twin}" in [model.id for model in sdk.models.list()]


def test_vectors_are_those_of_the_stores_in_either_encoding(sdk: OpenAI, stores: Stores) -> None:
    own = stores.embedder.embed(TEXTS)
    by_default = sdk.embeddings.create(model=MODEL, input=TEXTS)
    as_floats = sdk.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float", dimensions=384, user="u-1")
    for answer in (by_default, as_floats):
        assert [item.index for item in answer.data] == [0, 1]
        np.testing.assert_allclose(np.array([item.embedding for item in answer.data]), own, atol=1e-6)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(stores.embedder.tokens_read(TEXTS))
    alone = sdk.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="base64")
    assert isinstance(alone.data[0].embedding, str)
    assert by_default.model == alone.model == MODEL


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"dimensions": 64}, "dimensions", "unsupported_parameter"),
        ({"input": ""}, "input", "text_empty"),
        ({"input": ["cat", " "]}, "input[1]", "text_empty"),
        ({"input": []}, "input", "request_invalid"),
        ({"input": [1, 2, 3]}, "input", "tokens_unsupported"),
        ({"input": [[1], [2, 3]]}, "input", "tokens_unsupported"),
        ({"input": ["cat"] * 257}, "input", "batch_too_large"),
        ({"input": "x" * 40_000}, "input", "text_too_long"),
        ({"input": {"text": "cat"}}, "input", "request_invalid"),
        ({"encoding_format": "hex"}, "encoding_format", "request_invalid"),
        ({"extra_body": {"truncate": True}}, "truncate", "unknown_parameter"),
    ],
)
def test_what_has_no_vector_is_named(sdk: OpenAI, asked: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(**{"model": MODEL, "input": "cat", **asked})
    assert (caught.value.param, caught.value.code) == (param, code)


def test_an_embedding_model_of_another_name_is_not_found(sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL):
        sdk.embeddings.create(model="text-embedding-3-small", input="cat")
