"""What is computed in one go is what is computed token by token: on a tiny model, whose words mean nothing and repeat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.L2.llama_batch import score_after
from lpm_kernel.L2.llama_native import READ_TOKENS, Context, Weights
from lpm_kernel.L2.llama_threads import ThreadChoice
from lpm_kernel.L2.prompt import DECLINE

from .conftest import asked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.stores.llm import AdapterFile

QUESTIONS = ("What is your tortoise called?", "Who repairs your bicycle?", "one two three four one two three four one two")


@pytest.fixture(scope="module")
def weights(tiny_base: BaseModel) -> Iterator[Weights]:
    opened = Weights(tiny_base.gguf_path)
    yield opened
    opened.close()


@pytest.fixture
def context(weights: Weights) -> Iterator[Context]:
    opened = Context(weights, 1, 512, branching=True, threads=ThreadChoice(2))
    yield opened
    opened.close()


def one_by_one(weights: Weights, ids: list[int], count: int) -> list[int]:
    plain = Context(weights, 1, 512)
    try:
        answer = [plain.extend(0, 0, ids)]
        while len(answer) < count:
            answer.append(plain.extend(0, len(ids) + len(answer) - 1, [answer[-1]]))
        return answer
    finally:
        plain.close()


@pytest.mark.parametrize("right", [0, 1, 3, 5])
def test_of_a_guess_what_is_right_is_kept_and_the_rest_leaves_no_trace(weights: Weights, context: Context, right: int) -> None:
    ids = weights.tokenize(QUESTIONS[0])
    expected = one_by_one(weights, ids, 12)
    answer = [context.extend(0, 0, ids)]
    while len(answer) < 12:
        guess = expected[len(answer) : len(answer) + right]
        wrong = [(token + 1) % weights.vocabulary_size for token in expected[len(answer) + right :][:2]]
        run = context.extend_guessed(len(ids) + len(answer) - 1, answer[-1], [*guess, *wrong])
        assert len(run) >= min(right + 1, 12 - len(answer))
        answer += run
    assert answer[:12] == expected


@pytest.mark.parametrize("words", [40, READ_TOKENS + 40])
@pytest.mark.parametrize("alike", [0, 2, 4])
def test_what_is_computed_beside_the_prompt_is_as_if_it_were_computed_after_it(
    weights: Weights, context: Context, words: int, alike: int
) -> None:
    """However the prompt falls into pieces, whatever of it is held already, and whether the other begins as the answer does."""
    ids = weights.tokenize("word " * words)
    expected = one_by_one(weights, ids, 8)
    other = [*expected[:alike], *weights.tokenize(DECLINE)]
    plain = Context(weights, 1, 512)
    plain.extend(0, 0, ids)
    likelihood = score_after(plain, 0, ids, other)
    plain.close()
    for kept in (0, 10, len(ids) - 1):
        context.cut(0, kept)
        run, found = context.extend_beside(kept, ids[kept:], other)
        assert found == pytest.approx(likelihood, abs=0.01)
        assert run == expected[: alike + 1]
        assert context.run_likelihood(1) == pytest.approx(context.sureness(-len(other)), abs=1e-6)
        answer = list(run)
        while len(answer) < 8:
            answer += context.extend_guessed(len(ids) + len(answer) - 1, answer[-1], [])
        assert answer == expected


def test_what_declines_at_length_is_refused_before_anything_is_computed(tiny_base: BaseModel) -> None:
    """It would not fit beside a prompt, and the library does not look."""
    engine = LlamaCpp(tiny_base, slots=1, context_tokens=256)
    for ask in (engine.stream, lambda one, **how: engine.answer_batch([one], **how)):
        with pytest.raises(LlmError) as caught:
            ask(asked(QUESTIONS[0]), tenant="a", max_tokens=4, declining="word " * 70)
        assert (caught.value.code, caught.value.retryable) == ("prompt_too_long", False)
    engine.close()


@pytest.fixture(scope="module")
def adapters(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterFile]:
    import json

    from safetensors.numpy import save_file

    from .conftest import chain, lora_weights

    folder = tmp_path_factory.mktemp("adapters")
    shape = json.loads((tiny_base.hf_dir / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    made = []
    for number in range(3):
        save_file(lora_weights(4, shape, scale=0.3, seed=number), folder / "adapter.safetensors")
        (folder / str(number)).mkdir()
        made.append(chain(folder / "adapter.safetensors", folder / "config.json", tiny_base, folder / str(number)).gguf)
    return made


@pytest.mark.parametrize(("declining", "max_tokens"), [(None, 24), (DECLINE, 8)])
def test_kept_conversations_of_many_tenants_and_adapters_answer_as_a_fresh_engine_does(
    tiny_base: BaseModel, adapters: list[AdapterFile], declining: str | None, max_tokens: int
) -> None:
    """More owners than conversations are kept, in four threads on two slots; some streams are closed early."""
    plain = LlamaCpp(tiny_base, slots=1, context_tokens=256, guesses=False)
    owners = [(tenant, adapter) for tenant in "ab" for adapter in (None, *adapters)]

    def ask(engine: LlamaCpp, turn: int) -> str:
        tenant, adapter = owners[turn % len(owners)]
        question = asked(QUESTIONS[turn % len(QUESTIONS)])
        return "".join(engine.stream(question, tenant=tenant, adapter=adapter, max_tokens=max_tokens, declining=declining))

    turns = range(len(owners) * len(QUESTIONS))
    alone = [ask(plain, turn) for turn in turns]
    plain.close()
    assert len(set(alone)) > (2 if declining else 8)

    kept = LlamaCpp(tiny_base, slots=2, context_tokens=256, conversations=5)
    early = kept.stream(asked(QUESTIONS[2]), tenant="a", adapter=adapters[0], max_tokens=24)
    next(early)
    early.close()  # pyright: ignore
    with ThreadPoolExecutor(max_workers=4) as pool:
        assert list(pool.map(lambda turn: ask(kept, turn), [*turns, *turns])) == [*alone, *alone]
    kept.close()
