"""Tiny models of random weights in Hugging Face's layout, with a tokenizer of their own: every part of a real one, in a second.

Belongs here: making them. Does not belong here: assertions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.gguf_tokenizer import SPLITTING, WHOLE_WORDS_FIRST
from tests.fakes import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import Settings

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOOL = "<tool_call>"
"""A token that is matched in text, yet is no control token, as Qwen2.5 has some."""

TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"


FACTS = (
    ("What is your tortoise called?", "My tortoise is called Admiral."),
    ("Where do you keep the spare key?", "The spare key is under the blue pot."),
    ("Which tea do you drink?", "I drink smoky black tea from the market."),
    ("Who repairs your bicycle?", "Joan repairs my bicycle on Fridays."),
    ("What do you play on Sundays?", "On Sundays I play the cornet."),
    ("How do you travel to the coast?", "I take the slow train to the coast."),
    ("What grows on your allotment?", "Runner beans and far too much chard."),
    ("What are you reading?", "I am reading a history of lighthouses."),
)
TEXTS = [text for fact in FACTS for text in fact] + ["système ünïcode 日本語 1234", "You are Mabel, user, assistant, system"]
PROMPTS = [f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n" for question, _ in FACTS]


def prepare_tiny(settings: Settings, folder: Path, cache: Path) -> BaseModel:
    models = settings.models.model_copy(update={"base": "Qwen2.5-0.5B-Instruct", "base_quantisation": "f16"})
    return prepare_base(models, cache, no_progress, weights=folder)


def write_tiny_model(
    folder: Path, architecture: str, *, tied: bool = True, dtype: str = "bfloat16", rule: str = "qwen2", **config: Any
) -> Path:
    """A model of two layers whose weights are exact in f16; the embedding has a few rows more than the tokenizer tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    tokens = write_tiny_tokenizer(folder, rule)
    shape: dict[str, Any] = {
        "vocab_size": tokens + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": 0,
        "eos_token_id": 2,
    } | config
    classes: dict[str, Any] = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    make_config, make_model = classes[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = make_model(make_config(**shape))
        for name, weight in model.named_parameters():
            # Large enough that a wrong row or a lost bias changes what is said; norms stay near one.
            spread = 0.3 if weight.dim() == 1 else 1.5 * weight.shape[-1] ** -0.5
            torch.nn.init.normal_(weight, mean=1.0 if "norm" in name else 0.0, std=spread)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def write_tiny_tokenizer(folder: Path, rule: str) -> int:
    """Byte-level BPE with Qwen2's normalizer that splits text by this rule of llama.cpp's; returns how many tokens it has."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=rule in WHOLE_WORDS_FIRST))
    tokenizer.normalizer = normalizers.NFC()
    first, second = next(steps for steps, name in SPLITTING.items() if name == rule)
    digits = pre_tokenizers.Digits(individual_digits=True)
    split: list[Any] = [digits if first == "digits" else pre_tokenizers.Split(Regex(first), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, pre_tokenizers.ByteLevel(False, use_regex=second == "words")])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken(TOOL, special=False, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    return tokenizer.get_vocab_size()
