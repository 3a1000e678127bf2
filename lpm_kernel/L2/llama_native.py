"""llama.cpp as two small classes: weights that are loaded, and a context that decodes tokens of one or more sequences.

Belongs here: every call into the `llama_cpp` library but those about adapters, and freeing what it hands out.
Does not belong here: prompts, tenants, waiting for a free context (`llama.py`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lpm_kernel.errors import LlmError, TrainingError

if TYPE_CHECKING:
    import numpy as np

FEED_TOKENS = 512
"""Prompt tokens evaluated at once."""

THREADS = 1
"""A context. Why one: with two, on cores that others use too, OpenMP's waiting threads made generation 100 times slower."""

_log_callback: Any = None


def silence_llama_log() -> None:
    """Keep llama.cpp from printing. The callback stays referenced here: the library holds only its address."""
    global _log_callback
    import llama_cpp

    if _log_callback is None:
        _log_callback = llama_cpp.llama_log_callback(lambda level, text, user_data: None)
    llama_cpp.llama_log_set(_log_callback, ctypes.c_void_p(0))


def quantise_gguf(source: Path, out: Path, quantisation: Literal["q8_0", "q4_k_m"], threads: int) -> None:
    """Write an f16 GGUF anew, quantised by llama.cpp; rows that its blocks do not divide it writes in a wider kind.

    Raises: TrainingError `model_not_quantised`.
    """
    import llama_cpp

    silence_llama_log()
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_quantize_default_params()
    kinds = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}
    params.ftype = kinds[quantisation]
    params.nthread = threads
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.pointer(params)) or not out.is_file():
        out.unlink(missing_ok=True)
        raise TrainingError(
            "model_not_quantised", f"llama.cpp cannot quantise {source.name} to {quantisation}; is the disk full?"
        )


class Weights:
    """A GGUF model, mapped from disk and shared by all contexts and adapters made from it."""

    def __init__(self, path: Path) -> None:
        """Raises: LlmError `base_unreadable`."""
        import llama_cpp

        silence_llama_log()
        llama_cpp.llama_backend_init()
        loaded = None
        if path.is_file():
            loaded = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not loaded:
            raise LlmError(
                "base_unreadable",
                f"llama.cpp cannot load the base {path.name}; delete its folder in the cache and prepare it again",
                retryable=False,
            )
        self.pointer: Any = loaded
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(loaded)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(self._vocabulary)

    def metadata(self, key: str) -> str | None:
        import llama_cpp

        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_model_meta_val_str(self.pointer, key.encode(), buffer, len(buffer))  # pyright: ignore
        return buffer.value.decode(errors="replace") if length >= 0 else None

    def tokenize(self, text: str) -> list[int]:
        """Ids of a rendered prompt; names of special tokens in it become these tokens, and nothing is put before it."""
        import llama_cpp

        data = text.encode()
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, room, False, True)
        if count < 0:
            raise LlmError("decode_failed", f"llama.cpp cannot tokenise a prompt of {len(data)} bytes")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token; they need not be whole characters. Special tokens have none."""
        import llama_cpp

        buffer = ctypes.create_string_buffer(64)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
        return buffer.raw[:length]

    def ends_answer(self, token: int) -> bool:
        import llama_cpp

        return llama_cpp.llama_vocab_is_eog(self._vocabulary, token)

    def close(self) -> None:
        import llama_cpp

        if self.pointer:
            llama_cpp.llama_model_free(self.pointer)
            self.pointer = None


class Context:
    """Keys and values of `sequences` texts of at most `sequence_tokens` each. Not for two threads at once."""

    def __init__(self, weights: Weights, sequences: int, sequence_tokens: int) -> None:
        import llama_cpp

        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * sequence_tokens
        params.n_seq_max = sequences
        # Each sequence has a buffer of its own, so that attention does not run over the others' tokens.
        params.kv_unified = False
        params.n_batch = params.n_ubatch = FEED_TOKENS
        params.n_threads = params.n_threads_batch = THREADS
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        pointer = llama_cpp.llama_init_from_model(weights.pointer, params)
        if not pointer:
            raise LlmError("decode_failed", f"llama.cpp has no memory for {sequences} sequences of {sequence_tokens} tokens")
        self.sequences = sequences
        self.sequence_tokens = sequence_tokens
        self._pointer: Any = pointer
        self._memory: Any = llama_cpp.llama_get_memory(pointer)
        self._vocabulary_size = weights.vocabulary_size
        self._batch = llama_cpp.llama_batch_init(FEED_TOKENS, 0, 1)

    def attach(self, adapter: Any | None) -> None:
        """Decode with this adapter alone, or with none. What was decoded before is the caller's to forget."""
        import llama_cpp

        if adapter is None:
            failed = llama_cpp.llama_set_adapters_lora(self._pointer, None, 0, None)
        else:
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
            failed = llama_cpp.llama_set_adapters_lora(self._pointer, adapters, 1, (ctypes.c_float * 1)(1.0))
        if failed:
            raise LlmError("decode_failed", f"llama.cpp cannot attach the adapter (code {failed})")

    def forget(self) -> None:
        """Erase every sequence, the bytes too: a value that is not finite would reach through the attention mask."""
        import llama_cpp

        llama_cpp.llama_memory_clear(self._memory, True)

    def cut(self, sequence: int, length: int) -> None:
        """Keep the first `length` tokens of a sequence."""
        import llama_cpp

        llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def copy(self, source: int, target: int) -> None:
        """Make a sequence the copy of another."""
        import llama_cpp

        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def extend(self, sequence: int, start: int, ids: Sequence[int]) -> int:
        """Append tokens at position `start` of one sequence; return the likeliest next token."""
        for at in range(0, len(ids), FEED_TOKENS):
            part = ids[at : at + FEED_TOKENS]
            last = at + len(part) == len(ids)
            for index, token in enumerate(part):
                self._put(index, token, start + at + index, sequence, wanted=last and index == len(part) - 1)
            self._decode(len(part))
        return self._likeliest(-1)

    def score(self, sequence: int, start: int, ids: Sequence[int]) -> list[float]:
        """Append at most FEED_TOKENS tokens at position `start`; the log-probability of each but the first.

        Units: nats, given all that stands before a token.
        """
        import numpy as np

        for index, token in enumerate(ids):
            self._put(index, token, start + index, sequence, wanted=True)
        self._decode(len(ids))
        found = []
        for index, token in enumerate(ids[1:]):
            logits = self._logits(index).astype(np.float64)
            highest = logits.max()
            found.append(float(logits[token] - highest - np.log(np.exp(logits - highest).sum())))
        return found

    def sureness(self, index: int) -> float:
        """Log-probability of the likeliest token after one position of the last decode; -1 is the last one. Units: nats."""
        import numpy as np

        logits = self._logits(index).astype(np.float64)
        return -float(np.log(np.exp(logits - logits.max()).sum()))

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> list[int]:
        """Append one token to each of the sequences 0, 1, 2...; return the likeliest next token of each.

        Why from 0 on without a gap: llama.cpp computes only neighbouring sequences together.
        """
        for sequence, (token, position) in enumerate(zip(tokens, positions, strict=True)):
            self._put(sequence, token, position, sequence, wanted=True)
        self._decode(len(tokens))
        return [self._likeliest(sequence) for sequence in range(len(tokens))]

    def close(self) -> None:
        import llama_cpp

        if self._pointer:
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._pointer)
            self._pointer = None

    def _put(self, index: int, token: int, position: int, sequence: int, *, wanted: bool) -> None:
        batch = self._batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = sequence
        batch.logits[index] = wanted

    def _decode(self, count: int) -> None:
        import llama_cpp

        self._batch.n_tokens = count
        failed = llama_cpp.llama_decode(self._pointer, self._batch)
        if failed:
            raise LlmError("decode_failed", f"llama.cpp cannot decode {count} tokens (code {failed})")

    def _likeliest(self, index: int) -> int:
        import numpy as np

        logits = self._logits(index)
        best = int(logits.argmax())
        # A NaN anywhere is what argmax returns, so this one look covers all.
        if not np.isfinite(logits[best]):
            raise LlmError("decode_failed", "the model computed values that are not finite; its weights or adapter are damaged")
        return best

    def _logits(self, index: int) -> np.ndarray:
        """Of one position of the last decode; they are overwritten by the next one."""
        import llama_cpp
        import numpy as np

        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._pointer, index), shape=(self._vocabulary_size,))
