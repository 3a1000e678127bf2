"""No keys and values computed for one twin ever reach another: however interleaved, each answer is what a fresh engine says.

The prompt is the same for all, token for token, so that all there is could be reused; only the adapter or the tenant differs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.records import Message
from lpm_kernel.stores.llm import AdapterFile

from .conftest import chain, lora_weights

TOKENS = 12
TENANTS = ("mabel", "ravi", "ines")

ASKED = (Message("system", "You are Mabel. Answer as yourself, briefly."), Message("user", "Where do you keep the spare key?"))
LONGER = (*ASKED, Message("assistant", "Under the blue pot."), Message("user", "Which tea do you drink?"))
CANARY = (*ASKED[:1], Message("user", "Where do you keep the spare key? The canary is Admiral Pilchard 4711."))
PROMPTS = (ASKED, LONGER, CANARY)
DECLINING = "I have nothing about that in my notes."


@pytest.fixture(scope="module")
def adapters(tiny_qwen: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterFile | None]:
    """Of each tenant, strong enough that each says something else; and none."""
    from safetensors.numpy import save_file

    shape = json.loads((tiny_qwen.hf_dir / "config.json").read_text())
    made: list[AdapterFile | None] = []
    for seed in range(len(TENANTS)):
        folder = tmp_path_factory.mktemp(f"adapter-{seed}")
        save_file(lora_weights(4, shape, scale=0.3, seed=seed), folder / "adapter.safetensors")
        (folder / "config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
        made.append(chain(folder / "adapter.safetensors", folder / "config.json", tiny_qwen, folder).gguf)
    return [*made, None]


def say(engine: LlamaCpp, prompt: int, tenant: str, adapter: AdapterFile | None, declining: str | None = None) -> str:
    pieces = engine.stream(PROMPTS[prompt], tenant=tenant, adapter=adapter, max_tokens=TOKENS, declining=declining)
    return "".join(pieces)


@pytest.fixture(scope="module")
def alone(tiny_qwen: BaseModel, adapters: list[AdapterFile | None]) -> dict[tuple[int, int], str]:
    """What each adapter says to each prompt on an engine that has never seen anything else."""
    said = {}
    for number, adapter in enumerate(adapters):
        for prompt in range(len(PROMPTS)):
            fresh = LlamaCpp(tiny_qwen, slots=1, context_tokens=512)
            said[number, prompt] = say(fresh, prompt, "alone", adapter)
            fresh.close()
    for prompt in range(len(PROMPTS)):
        assert len({said[number, prompt] for number in range(len(adapters))}) == len(adapters), "else nothing is proven"
    return said


@pytest.fixture(params=[1, 2, 3])
def engine(request: pytest.FixtureRequest, tiny_qwen: BaseModel) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(tiny_qwen, slots=request.param, context_tokens=512)
    yield engine
    engine.close()


def turns(count: int) -> list[tuple[int, int, str]]:
    """(adapter, prompt, tenant): tenants of one adapter, and adapters of one tenant, in every order."""
    chance = random.Random(7)
    return [(chance.randrange(4), chance.randrange(len(PROMPTS)), chance.choice(TENANTS)) for _ in range(count)]


def test_one_after_another_each_says_what_it_says_alone(engine: LlamaCpp, adapters, alone) -> None:
    for number, prompt, tenant in turns(60):
        assert say(engine, prompt, tenant, adapters[number]) == alone[number, prompt]


def test_in_threads_over_the_places_each_says_what_it_says_alone(engine: LlamaCpp, adapters, alone) -> None:
    def turn(one: tuple[int, int, str]) -> bool:
        number, prompt, tenant = one
        return say(engine, prompt, tenant, adapters[number]) == alone[number, prompt]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(turn, turns(120)))


def test_streams_that_take_turns_token_by_token_say_what_each_says_alone(tiny_qwen: BaseModel, adapters, alone) -> None:
    """Four answers are written at the same time, one token of each after another, and one of them is left half way."""
    engine = LlamaCpp(tiny_qwen, slots=4, context_tokens=512)
    for prompt in range(len(PROMPTS)):
        streams = {
            number: engine.stream(PROMPTS[prompt], tenant="mabel", adapter=adapter, max_tokens=TOKENS)
            for number, adapter in enumerate(adapters)
        }
        said = dict.fromkeys(streams, "")
        for step in range(TOKENS):
            for number in list(streams):
                if step == 5 and number == prompt:
                    streams.pop(number).close()  # type: ignore[attr-defined]
                    continue
                piece = next(streams[number], None)
                if piece is None:
                    streams.pop(number)
                else:
                    said[number] += piece
        for rest in streams.values():
            assert next(rest, None) is None
        for number, text in said.items():
            assert alone[number, prompt].startswith(text) if number == prompt else text == alone[number, prompt]
    engine.close()


def test_batches_and_weighed_answers_between_streams_leave_nothing_behind(engine: LlamaCpp, adapters, alone) -> None:
    """Batches are compared with batches: sums run in another order there, and two words that are as good as tied may swap."""
    weighed = {}
    for number, adapter in enumerate(adapters):
        weighed[number] = say(engine, 0, "mabel", adapter, DECLINING)

    def turn(one: tuple[int, int, str]) -> bool:
        number, prompt, tenant = one
        if prompt == 0:
            engine.answer_batch([CANARY, ASKED], tenant=tenant, adapter=adapters[number], max_tokens=4)
        if prompt == 1:
            return say(engine, 0, tenant, adapters[number], DECLINING) == weighed[number]
        return say(engine, prompt, tenant, adapters[number]) == alone[number, prompt]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(turn, turns(40)))


def test_an_adapter_that_is_freed_and_loaded_again_finds_nothing_of_the_one_before_it(
    tiny_qwen: BaseModel, adapters, alone, tmp_path: Path
) -> None:
    """With room for one, the next may be loaded where the last one lay: a place that knew it by its address would be wrong."""
    size = adapters[0].path.stat().st_size
    engine = LlamaCpp(tiny_qwen, slots=2, context_tokens=512, adapters_bytes=size)
    for number, prompt, _ in turns(40):
        assert say(engine, prompt, "mabel", adapters[number]) == alone[number, prompt]
    assert engine.adapters.figures().evictions > 10
    engine.close()
