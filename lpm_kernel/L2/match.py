"""Proof that weights survived their conversion: llama.cpp and torch prefer the same next token, position by position.

Belongs here: that one comparison. Does not belong here: whether the answers are good (`evaluate.py`).

torch does not generate: it reads prompt and llama.cpp's answer in one pass and says at each position what it would have
written. So each position is a comparison of its own, on the same text before it, also behind one where the two differ.

Where they differ and torch has llama.cpp's token within TIE_LOGITS of its own, the two programs' rounding decided and not the
weights: a tie. Ties count neither way, but a share of agreement needs enough positions besides, so a model without clear
favourites proves nothing and does not pass.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.adapter_cache import AdapterCache
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.gguf_adapter import read_adapter
from lpm_kernel.L2.llama_adapters import LlamaAdapters
from lpm_kernel.L2.llama_native import Context, Weights
from lpm_kernel.L2.torch_model import load_torch_base, load_with_adapter, torch_threads
from lpm_kernel.stores.llm import AdapterFile

TIE_LOGITS = 0.1
"""Two tokens nearer than this are as good as equal. Source: on one f16 base the two programs' logits differ by up to 0.06."""


MIN_TOKENS = 200
MIN_AGREEMENT = 0.99


@dataclass(frozen=True, slots=True)
class Difference:
    prompt_index: int
    position: int
    """In the answer."""
    llama_token: int
    torch_token: int
    margin: float
    """How much torch prefers its own token, in logits."""


@dataclass(frozen=True, slots=True)
class MatchReport:
    prompts: int
    equal: int
    """Answers without any difference."""
    tokens: int
    """Positions compared, over all answers."""
    agreeing: int
    ties: int
    """Positions where the two differ and torch had no clear favourite."""
    clearest_difference: Difference | None

    @property
    def agreement(self) -> float:
        """Share of agreeing positions among those that are no ties."""
        return self.agreeing / max(1, self.tokens - self.ties)

    @property
    def holds(self) -> bool:
        return self.tokens - self.ties >= MIN_TOKENS and self.agreement >= MIN_AGREEMENT


def greedy_tokens_match(
    adapter_path: Path | None,
    config_path: Path | None,
    gguf_path: Path | None,
    base: BaseModel,
    prompts: Sequence[str],
    max_tokens: int,
    *,
    past_the_end: bool = False,
    model_path: Path | None = None,
) -> MatchReport:
    """Compare greedy answers to rendered prompts on the f16 base, whatever is served; without an adapter, the base alone.

    `past_the_end`: go on after the token that ends an answer, so that short answers give enough positions.
    `model_path`: what llama.cpp loads instead of the f16 base, such as a merged model.
    Raises: LlmError `adapter_refused`; TrainingError `tokenizers_disagree`, `adapter_unreadable`.
    """
    from tokenizers import Tokenizer

    asked, answers = _llama_answers(model_path or base.f16_gguf_path, gguf_path, base, prompts, max_tokens, past_the_end)
    tokenizer = Tokenizer.from_file(str(base.hf_dir / "tokenizer.json"))
    for index, (prompt, ids) in enumerate(zip(prompts, asked, strict=True)):
        if tokenizer.encode(prompt, add_special_tokens=False).ids != ids:
            raise TrainingError("tokenizers_disagree", f"torch and llama.cpp split prompt {index} into other tokens")
    try:
        # One thread: this runs beside other work, and waiting threads of torch would slow both.
        with torch_threads(1):
            trained = (adapter_path, config_path) if adapter_path and config_path else None
            model = (load_with_adapter(base, *trained) if trained else load_torch_base(base)).eval()
            found = [_differences(model, index, *pair) for index, pair in enumerate(zip(asked, answers, strict=True))]
    finally:
        model = None
        gc.collect()
        give_back_freed_memory()
    tokens = sum(map(len, answers))
    differences = [difference for answer in found for difference in answer]
    return MatchReport(
        prompts=len(prompts),
        equal=sum(not answer for answer in found),
        tokens=tokens,
        agreeing=tokens - len(differences),
        ties=sum(difference.margin < TIE_LOGITS for difference in differences),
        clearest_difference=max(differences, key=lambda difference: difference.margin, default=None),
    )


def _llama_answers(
    model_path: Path, gguf_path: Path | None, base: BaseModel, prompts: Sequence[str], max_tokens: int, past_the_end: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the prompts, and of their answers with the token that ended each. The answers are written side by side."""
    weights = Weights(model_path)
    adapters = AdapterCache(LlamaAdapters(weights), base.sha256, 0)
    context = None
    try:
        asked = [weights.tokenize(prompt) for prompt in prompts]
        adapter = None
        if gguf_path:
            adapter = AdapterFile(gguf_path, file_sha256(gguf_path), read_adapter(gguf_path).base_sha256)
        context = Context(weights, len(asked), max(map(len, asked)) + max_tokens)
        with adapters.borrow(adapter) as attached:
            context.attach(attached)
            answers = [[context.extend(sequence, 0, ids)] for sequence, ids in enumerate(asked)]
            for length in range(1, max_tokens):
                going = [past_the_end or not weights.ends_answer(answer[-1]) for answer in answers]
                if not any(going):
                    break
                positions = [len(ids) + length - 1 for ids in asked]
                # One that has ended is decoded along, and what it says is dropped: only neighbours are decoded together.
                written = context.step([answer[-1] for answer in answers], positions)
                for answer, token, goes_on in zip(answers, written, going, strict=True):
                    answer.append(token if goes_on else answer[-1])
            context.attach(None)
        return asked, [answer if past_the_end else _until_its_end(answer, weights) for answer in answers]
    finally:
        if context:
            context.close()
        adapters.close()
        weights.close()


def _until_its_end(answer: list[int], weights: Weights) -> list[int]:
    for length, token in enumerate(answer, 1):
        if weights.ends_answer(token):
            return answer[:length]
    return answer


def _differences(model: Any, index: int, asked: list[int], answer: list[int]) -> list[Difference]:
    import torch

    with torch.inference_mode():
        ids = torch.tensor([asked + answer[:-1]])
        logits = model(input_ids=ids, logits_to_keep=len(answer), use_cache=False).logits[0]
    preferred = logits.argmax(-1).tolist()
    return [
        Difference(index, position, written, wanted, float(logits[position, wanted] - logits[position, written]))
        for position, (written, wanted) in enumerate(zip(answer, preferred, strict=True))
        if written != wanted
    ]
