"""The tokenizer of a Hugging Face folder as keys of a GGUF, so that llama.cpp splits text into the same tokens.

Belongs here: vocabulary, merges, kinds of tokens, the rule that splits text into words, and refusing what GGUF cannot say.
Does not belong here: the other direction (`base_files.py`) and the model's own keys (`hf_gguf.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.gguf_header import HeaderValue

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITTING: dict[tuple[str, ...], str] = {
    (_LETTERS + r"\p{N}" + _REST, "bytes"): "qwen2",
    (_LETTERS + r"\p{N}{1,3}" + _REST, "bytes"): "llama-bpe",
    ("digits", "words"): "smollm",
}
"""Steps of a pre-tokenizer -> llama.cpp's name for the same rule. Why by the rule and not by a hash of what it gives: a
vocabulary of one's own changes the hash and not the rule."""

WHOLE_WORDS_FIRST = {"llama-bpe"}
"""Rules under which llama.cpp takes a word that is a token as it is, whatever the merges say."""


def tokenizer_values(hf_dir: Path, vocabulary: int) -> dict[str, HeaderValue]:
    """The keys `tokenizer.*`; ids that the tokenizer does not use are filled up to the embedding's rows.

    Raises: TrainingError `tokenizer_unknown`; ValueError, KeyError and OSError when files are damaged.
    """
    tokenizer = json.loads((hf_dir / "tokenizer.json").read_text(encoding="utf-8"))
    rule = splitting_rule(tokenizer)
    model = tokenizer["model"]
    tokens: dict[int, str] = {index: token for token, index in model["vocab"].items()}
    kinds = dict.fromkeys(tokens, NORMAL)
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    if max(tokens) >= vocabulary:
        raise ValueError(f"the tokenizer has a token {max(tokens)}, the embedding {vocabulary} rows")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    values = {
        "tokenizer.ggml.model": HeaderValue("gpt2", STRING),
        "tokenizer.ggml.pre": HeaderValue(rule, STRING),
        "tokenizer.ggml.tokens": HeaderValue([tokens.get(id_, f"[PAD{id_}]") for id_ in range(vocabulary)], ARRAY, STRING),
        "tokenizer.ggml.token_type": HeaderValue([kinds.get(id_, UNUSED) for id_ in range(vocabulary)], ARRAY, INT32),
        "tokenizer.ggml.merges": HeaderValue(merges, ARRAY, STRING),
        "tokenizer.ggml.add_space_prefix": HeaderValue(False, BOOL),
        "tokenizer.ggml.add_bos_token": HeaderValue(False, BOOL),
    }
    about = _read(hf_dir / "tokenizer_config.json")
    ids = {token: id_ for id_, token in tokens.items()}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        found = _special_id(hf_dir, about, role, ids)
        if found is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = HeaderValue(found, UINT32)
    if "tokenizer.ggml.eos_token_id" not in values:
        raise ValueError("neither tokenizer_config.json nor config.json names the token that ends an answer")
    template = about.get("chat_template")
    if not isinstance(template, str) and (hf_dir / "chat_template.jinja").is_file():
        template = (hf_dir / "chat_template.jinja").read_text(encoding="utf-8")
    if isinstance(template, str):
        values["tokenizer.chat_template"] = HeaderValue(template, STRING)
    return values


def splitting_rule(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for how this tokenizer.json splits text. Raises: TrainingError `tokenizer_unknown`."""
    model = tokenizer["model"]
    odd = [key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback") if model.get(key)]
    odd += [f"a {model['type']} model"] if model["type"] != "BPE" else []
    if (tokenizer.get("normalizer") or {"type": "NFC"})["type"] != "NFC":
        odd.append(f"normalizer {tokenizer['normalizer']['type']}")
    for added in tokenizer["added_tokens"]:
        odd += [f"{key} of {added['content']}" for key in ("lstrip", "rstrip", "single_word") if added[key]]
    pre: dict[str, Any] = tokenizer.get("pre_tokenizer") or {"type": "none"}
    steps = tuple(_step(step) for step in (pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]))
    rule = SPLITTING.get(steps)
    if rule is None:
        odd.append(f"pre-tokenizer {' + '.join(steps)}")
    elif bool(model.get("ignore_merges")) != (rule in WHOLE_WORDS_FIRST):
        odd.append(f"ignore_merges under the rule {rule}")
    if rule is None or odd:
        raise TrainingError("tokenizer_unknown", f"llama.cpp cannot be told how this base splits text: {', '.join(odd)[:300]}")
    return rule


def without_normalizer(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """The same tokenizer.json as llama.cpp applies it. Why: GGUF cannot say that text is composed (NFC) first, and training
    must not see other tokens than serving."""
    return {**tokenizer, "normalizer": None}


def _step(step: Mapping[str, Any]) -> str:
    match step:
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "words" if step.get("use_regex", True) else "bytes"
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            return regex
    return str(step["type"])


def _special_id(hf_dir: Path, about: Mapping[str, Any], role: str, ids: Mapping[str, int]) -> int | None:
    """By name from tokenizer_config.json, else by number from config.json."""
    named = about.get(f"{role}_token")
    if isinstance(named, Mapping):
        named = named["content"]
    if named is not None:
        return ids[named]
    number = _read(hf_dir / "config.json").get(f"{role}_token_id")
    return number[0] if isinstance(number, list) else number


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
