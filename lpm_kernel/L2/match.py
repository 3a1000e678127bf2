"""Proof that an adapter survived its conversion: llama.cpp and PEFT in torch give the same greedy tokens.

Belongs here: that one comparison. Does not belong here: whether the answers are good (`evaluate.py`).

torch does not generate: it reads prompt and llama.cpp's answer in one pass and says at each position what it would have
written. While all agree the two greedy answers are the same, and where they first part is where torch's own would part too.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.adapter_cache import AdapterCache
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.gguf import read_adapter_base
from lpm_kernel.L2.llama_native import Context, Weights
from lpm_kernel.L2.train import load_torch_base, torch_threads, with_adapter
from lpm_kernel.stores.llm import AdapterFile

TIE_LOGITS = 0.1
"""Two tokens nearer than this are as good as equal. Source: on one f16 base the two programs' logits differ by up to 0.06."""


@dataclass(frozen=True, slots=True)
class Difference:
    prompt_index: int
    position: int
    """Of the answer's first token that differs."""
    llama_token: int
    torch_token: int
    margin: float
    """How much torch prefers its own token, in logits."""


@dataclass(frozen=True, slots=True)
class MatchReport:
    prompts: int
    equal: int
    ties: int
    """Answers that part at a token where torch had no clear favourite."""
    tokens: int
    """Compared, over all prompts."""
    clearest_difference: Difference | None


def greedy_tokens_match(
    adapter_path: Path | None,
    config_path: Path | None,
    gguf_path: Path | None,
    base: BaseModel,
    prompts: Sequence[str],
    max_tokens: int,
) -> MatchReport:
    """Compare greedy answers to rendered prompts on the f16 base, whatever is served; without an adapter, the base alone.

    Raises: LlmError `adapter_refused`; TrainingError `tokenizers_disagree`, `adapter_unreadable`.
    """
    asked, answers = _llama_answers(gguf_path, base, prompts, max_tokens)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.hf_dir / "tokenizer.json"))
    for index, (prompt, ids) in enumerate(zip(prompts, asked, strict=True)):
        if tokenizer.encode(prompt, add_special_tokens=False).ids != ids:
            raise TrainingError("tokenizers_disagree", f"torch and llama.cpp split prompt {index} into other tokens")
    try:
        # One thread: this runs beside other work, and waiting threads of torch would slow both.
        with torch_threads(1):
            model = _torch_model(adapter_path, config_path, base)
            found = [_first_difference(model, index, *pair) for index, pair in enumerate(zip(asked, answers, strict=True))]
    finally:
        model = None
        gc.collect()
        give_back_freed_memory()
    differences = [difference for difference in found if difference]
    return MatchReport(
        prompts=len(prompts),
        equal=len(prompts) - len(differences),
        ties=sum(difference.margin < TIE_LOGITS for difference in differences),
        tokens=sum(map(len, answers)),
        clearest_difference=max(differences, key=lambda difference: difference.margin, default=None),
    )


def _llama_answers(
    gguf_path: Path | None, base: BaseModel, prompts: Sequence[str], max_tokens: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the prompts, and of their answers with the token that ended each."""
    weights = Weights(base.f16_gguf_path)
    adapters = AdapterCache(weights, base.sha256, 1)
    context = None
    try:
        asked = [weights.tokenize(prompt) for prompt in prompts]
        adapter = None
        if gguf_path:
            adapter = AdapterFile(gguf_path, file_sha256(gguf_path), read_adapter_base(gguf_path))
        context = Context(weights, 1, max(map(len, asked)) + max_tokens)
        answers = []
        with adapters.borrow(adapter) as attached:
            context.attach(attached)
            for ids in asked:
                context.forget()
                answer = [context.extend(0, 0, ids)]
                while len(answer) < max_tokens and not weights.ends_answer(answer[-1]):
                    answer.append(context.extend(0, len(ids) + len(answer) - 1, answer[-1:]))
                answers.append(answer)
            context.attach(None)
        return asked, answers
    finally:
        if context:
            context.close()
        adapters.close()
        weights.close()


def _torch_model(adapter_path: Path | None, config_path: Path | None, base: BaseModel) -> Any:
    model = load_torch_base(base)
    if adapter_path and config_path:
        from peft import LoraConfig, set_peft_model_state_dict
        from safetensors.torch import load_file

        config = json.loads(config_path.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
        model = with_adapter(model, LoraConfig.from_peft_type(**config))
        outcome = set_peft_model_state_dict(model, load_file(adapter_path))
        missing = [name for name in outcome.missing_keys if "lora_" in name]
        if missing or outcome.unexpected_keys:
            raise TrainingError("adapter_unreadable", f"{adapter_path.name} and {config_path.name} name other modules")
    return model.eval()


def _first_difference(model: Any, index: int, asked: list[int], answer: list[int]) -> Difference | None:
    import torch

    with torch.inference_mode():
        ids = torch.tensor([asked + answer[:-1]])
        logits = model(input_ids=ids, logits_to_keep=len(answer), use_cache=False).logits[0]
    preferred = logits.argmax(-1).tolist()
    for position, (written, wanted) in enumerate(zip(answer, preferred, strict=True)):
        if written != wanted:
            margin = float(logits[position, wanted] - logits[position, written])
            return Difference(index, position, written, wanted, margin)
    return None
