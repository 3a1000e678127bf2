"""What every embedder guarantees: unit vectors, in order, the same for the same text whatever it was embedded beside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.addresses import OpenAiAddress, read_openai_address
from lpm_kernel.stores.embedder import Embedder, MiniLmEmbedder
from lpm_kernel.stores.openai_client import open_openai
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder
from tests.fakes import FakeEmbedder
from tests.openai_server import OpenAiServer

HERE = ["embedded", "fake", "openai stand-in"]
CLOUD = ["openai"] if os.environ.get("OPENAI_API_KEY") else []

TEXTS = [
    "What is your cat called?",
    "Our cat Pilchard turned six today.",
    "The pellet extruder needs a new heater band, and nobody has ordered one yet, although it was on the list in March.",
    "£184,000 for a metal printer — äöü 😀",
    "x",
    "Row C.\n\n- belts\n- bearings\n",
    "?!",
    "He said that the sea at Clevedon was 5.8 °C and that four minutes were enough for anybody. " * 4,
    "Tern",
    "Kestrel is a racing bicycle.",
]


@pytest.fixture(scope="module")
def mini_lm() -> MiniLmEmbedder:
    return MiniLmEmbedder()


@pytest.fixture(scope="module")
def openai_stand_in() -> Iterator[OpenAiEmbedder]:
    with OpenAiServer() as server, open_openai(OpenAiAddress(server.api_key, server.base_url)) as client:
        yield OpenAiEmbedder(lambda: client)


@pytest.fixture(scope="module")
def openai_itself() -> Iterator[OpenAiEmbedder]:
    with open_openai(read_openai_address(load_settings())) as client:
        yield OpenAiEmbedder(lambda: client)


@pytest.fixture(params=[*HERE, *CLOUD])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param.startswith("openai"):
        return request.getfixturevalue("openai_stand_in" if "stand-in" in request.param else "openai_itself")
    return FakeEmbedder() if request.param == "fake" else request.getfixturevalue("mini_lm")


def test_vectors_are_float32_rows_of_norm_one(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() <= 1e-3


def test_vectors_come_in_the_order_of_their_texts(embedder: Embedder) -> None:
    forward, backward = embedder.embed(TEXTS), embedder.embed(TEXTS[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-4)
    assert len({vector.tobytes() for vector in np.round(forward, 3)}) == len(TEXTS)


def test_a_text_has_one_vector_whatever_stands_beside_it(embedder: Embedder) -> None:
    """Padding and quantisation by batch would make a stored vector depend on the other documents of its run."""
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("embedder", HERE, indirect=True)
def test_the_same_texts_give_the_same_bytes(embedder: Embedder) -> None:
    assert embedder.embed(TEXTS).tobytes() == embedder.embed(TEXTS).tobytes()


def test_no_texts_are_no_rows(embedder: Embedder) -> None:
    vectors = embedder.embed([])
    assert vectors.shape == (0, embedder.dim)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("texts", [[""], [" \n\t"], ["a cat", "", "a dog"]])
def test_an_empty_text_is_refused(embedder: Embedder, texts: list[str]) -> None:
    with pytest.raises(UserInputError) as caught:
        embedder.embed(texts)
    assert caught.value.code == "text_empty"


def test_texts_of_one_meaning_are_nearer_than_others(embedder: Embedder) -> None:
    asked, answer, other = embedder.embed(
        ["What is your cat called?", "your cat is called Pilchard", "a printer's heater band"]
    )
    assert asked @ answer > asked @ other + 0.2


def test_tokens_are_those_that_the_model_reads(embedder: Embedder) -> None:
    counts = embedder.tokens_read(TEXTS)
    assert len(counts) == len(TEXTS)
    assert all(count >= 1 for count in counts)
    assert counts[7] == max(counts), "the longest text"
    assert embedder.tokens_read([]) == []


def test_the_fingerprint_names_the_dimension(embedder: Embedder) -> None:
    assert str(embedder.dim) in embedder.fingerprint.split("/")


def test_two_threads_get_what_one_would(embedder: Embedder) -> None:
    alone = embedder.embed(TEXTS)
    with ThreadPoolExecutor(3) as pool:
        for vectors in pool.map(embedder.embed, [TEXTS] * 3):
            np.testing.assert_allclose(vectors, alone, atol=1e-4)


def test_the_real_model_reads_up_to_its_limit_and_no_further(mini_lm: MiniLmEmbedder) -> None:
    long = "the quick brown fox " * 100
    first, second, other = mini_lm.embed([long, f"{long} and a cat", f"a cat and {long}"])
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert np.abs(first - other).max() > 1e-3
    assert mini_lm.tokens_read([long]) == [mini_lm.max_tokens]


def test_the_fake_counts_what_it_embedded() -> None:
    fake = FakeEmbedder()
    fake.embed(["a cat", "a dog"])
    fake.embed(["a cat"])
    assert fake.texts == ["a cat", "a dog", "a cat"]
