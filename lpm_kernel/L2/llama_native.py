"""llama.cpp as two small classes: weights that are loaded, and a context that decodes tokens of one or more sequences.

Belongs here: every call into the `llama_cpp` library but those about adapters, and freeing what it hands out.
Does not belong here: prompts, tenants, waiting for a free context (`llama.py`).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lpm_kernel.errors import LlmError, TrainingError
from lpm_kernel.L2.decoding_threads import DecodingThreads
from lpm_kernel.L2.llama_threads import ThreadChoice
from lpm_kernel.L2.shared_lock import SharedLock

if TYPE_CHECKING:
    import numpy as np

FEED_TOKENS = 512
"""Most tokens of one decode."""

READ_TOKENS = 128
"""Prompt tokens that a stream evaluates at once: attention then runs over what stands so far, which is 5 % less work in all,
and how many threads are free is asked anew after each."""

BESIDE_TOKENS = 64
"""Most tokens of another continuation, which are evaluated with the last ones of a prompt."""

THREADS = 1
"""Of a context that nobody chooses for: with two, on cores that others use, waiting made generation 100 times slower."""

READING_TOKENS = 32
"""From so many tokens in a decode on, it is bound by arithmetic and not by reading the weights."""

TOKEN_WORK = 0.5
"""Of a further token in a decode, against 1 of the first one: measured are 2.3 for 2 tokens, 4.6 for 8, 7 for 16."""

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
        self.path = path
        self.pointer: Any = loaded
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(loaded)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._pieces: dict[int, bytes] = {}
        self.adapter_list = SharedLock()
        """llama.cpp lists the adapters of a model without a lock of its own. It is held alone to load or free one, and shared
        while a context reads the list: to plan its graph, when it is made and when another adapter is attached."""

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

        if (known := self._pieces.get(token)) is not None:
            return known
        buffer = ctypes.create_string_buffer(64)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
        self._pieces[token] = buffer.raw[:length]
        return self._pieces[token]

    def ends_answer(self, token: int) -> bool:
        import llama_cpp

        return llama_cpp.llama_vocab_is_eog(self._vocabulary, token)

    def close(self) -> None:
        import llama_cpp

        if self.pointer:
            llama_cpp.llama_model_free(self.pointer)
            self.pointer = None


@dataclass(slots=True)
class Placed:
    """A token of a tree, in every sequence that runs through it."""

    token: int
    position: int
    sequences: list[int]
    wanted: bool = False
    """Whether it is asked what may follow."""


class Context:
    """Keys and values of `sequences` texts of at most `sequence_tokens` each. Not for two threads at once. It decodes in the
    caller's thread, or in one of `decoders`.

    `branching`: of one text, and for a moment of another one that begins alike; see `extend_beside`. `branches`: of so many
    that share what they begin with, in a buffer of `sequence_tokens` for all; see `place`.
    """

    def __init__(
        self,
        weights: Weights,
        sequences: int,
        sequence_tokens: int,
        *,
        branching: bool = False,
        branches: int = 2,
        threads: ThreadChoice | None = None,
        decoders: DecodingThreads | None = None,
    ) -> None:
        import llama_cpp

        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * sequence_tokens
        params.n_seq_max = branches if branching else sequences
        # Each sequence has a buffer of its own, so that attention does not run over the others' tokens. Branches share one.
        params.kv_unified = branching
        params.n_batch = FEED_TOKENS + BESIDE_TOKENS
        params.n_ubatch = self._feed_tokens = READ_TOKENS if branching else FEED_TOKENS
        params.n_threads = params.n_threads_batch = THREADS
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        with weights.adapter_list.shared():
            pointer = llama_cpp.llama_init_from_model(weights.pointer, params)
        if not pointer:
            raise LlmError("decode_failed", f"llama.cpp has no memory for {sequences} sequences of {sequence_tokens} tokens")
        self.sequences = sequences
        self.sequence_tokens = sequence_tokens
        self._pointer: Any = pointer
        self._memory: Any = llama_cpp.llama_get_memory(pointer)
        self._vocabulary_size = weights.vocabulary_size
        self._batch = llama_cpp.llama_batch_init(FEED_TOKENS + BESIDE_TOKENS, 0, branches)
        self._run_begins = 0
        self._threads = threads
        self._decoders = decoders
        self._adapter_list = weights.adapter_list
        self._plans_next = True  # whether the next decode plans its graph anew

    def attach(self, adapter: Any | None) -> None:
        """Decode with this adapter alone, or with none. What was decoded before is the caller's to forget."""
        import llama_cpp

        if adapter is None:
            failed = llama_cpp.llama_set_adapters_lora(self._pointer, None, 0, None)
        else:
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
            failed = llama_cpp.llama_set_adapters_lora(self._pointer, adapters, 1, (ctypes.c_float * 1)(1.0))
        self._plans_next = True
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
        for at in range(0, len(ids), self._feed_tokens):
            part = ids[at : at + self._feed_tokens]
            last = at + len(part) == len(ids)
            for index, token in enumerate(part):
                self._put(index, token, start + at + index, sequence, wanted=last and index == len(part) - 1)
            self._decode(len(part))
        return self._likeliest(-1)

    def extend_guessed(self, start: int, token: int, guess: Sequence[int]) -> list[int]:
        """Append a token to sequence 0, and of what is guessed to follow it as much as is indeed the likeliest.

        Returns the likeliest tokens: those of the guess that were kept, and the one after them.
        """
        for index, put in enumerate((token, *guess)):
            self._put(index, put, start + index, 0, wanted=True)
        self._decode(1 + len(guess))
        kept = self._follow(0, guess)
        if len(kept) <= len(guess):
            self.cut(0, start + len(kept))
        return kept

    def extend_beside(self, start: int, ids: Sequence[int], other: Sequence[int]) -> tuple[list[int], float]:
        """As `extend` of sequence 0, and the log-likelihood of another continuation, computed with the end of the prompt.

        Returns the likeliest tokens as far as they are those of `other`, and the one after them: sequence 0 holds all but the
        last. Units: nats. Only of a context that is branching, and `other` has at most BESIDE_TOKENS tokens.
        """
        import llama_cpp

        self.copy(0, 1)  # of a shared buffer: nothing is moved
        count = 0
        for at in range(0, len(ids), self._feed_tokens):
            part = ids[at : at + self._feed_tokens]
            count, last = len(part), at + len(part) == len(ids)
            for index, token in enumerate(part):
                self._put(index, token, start + at + index, 0, 1, wanted=last and index == count - 1)
            if last:
                for index, token in enumerate(other[:-1]):
                    self._put(count + index, token, start + len(ids) + index, 1, wanted=True)
            self._decode(count + (len(other) - 1 if last else 0))
        run = self._follow(count - 1, other[:-1])
        likelihood = sum(self._log_probability(count - 1 + index, token) for index, token in enumerate(other))
        end = start + len(ids)
        llama_cpp.llama_memory_seq_rm(self._memory, 1, end + len(run) - 1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, 1, 0, end, -1)
        llama_cpp.llama_memory_seq_rm(self._memory, 1, -1, -1)
        return run, likelihood

    def run_likelihood(self, count: int) -> float:
        """Log-probability of the first tokens of what `extend_guessed` or `extend_beside` returned last. Units: nats."""
        return sum(self.sureness(self._run_begins + index) for index in range(count))

    def score(self, sequence: int, start: int, ids: Sequence[int]) -> list[float]:
        """Append at most FEED_TOKENS tokens at position `start`; the log-probability of each but the first.

        Units: nats, given all that stands before a token.
        """
        for index, token in enumerate(ids):
            self._put(index, token, start + index, sequence, wanted=True)
        self._decode(len(ids))
        return [self._log_probability(index, token) for index, token in enumerate(ids[1:])]

    def place(self, tokens: Sequence[Placed]) -> None:
        """Decode at most READ_TOKENS tokens of a tree, each after all that stand before it in any of its sequences."""
        for index, placed in enumerate(tokens):
            self._put(index, placed.token, placed.position, *placed.sequences, wanted=placed.wanted)
        self._decode(len(tokens))

    def log_probabilities(self, index: int, tokens: Sequence[int]) -> list[float]:
        """Of each token as the next one after a wanted place of the last decode. Units: nats."""
        import numpy as np

        logits = self._logits(index)
        highest = logits.max()
        total = float(highest) + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
        if not np.isfinite(total):
            raise LlmError("decode_failed", "the model computed values that are not finite; its weights or adapter are damaged")
        return [float(logits[token]) - total for token in tokens]

    def sureness(self, index: int) -> float:
        """Log-probability of the likeliest token after one position of the last decode; -1 is the last one. Units: nats."""
        return self._log_probability(index, None)

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

    def _put(self, index: int, token: int, position: int, *sequences: int, wanted: bool) -> None:
        batch = self._batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = len(sequences)
        for number, sequence in enumerate(sequences):
            batch.seq_id[index][number] = sequence
        batch.logits[index] = wanted

    def _decode(self, count: int) -> None:
        import llama_cpp

        self._batch.n_tokens = count
        work = "reading" if count >= READING_TOKENS else "writing"
        threads = self._threads.choose(work) if self._threads else THREADS
        llama_cpp.llama_set_n_threads(self._pointer, threads, threads)
        began = time.perf_counter()
        decode = partial(llama_cpp.llama_decode, self._pointer, self._batch)
        with self._adapter_list.shared() if self._plans_next else nullcontext():
            failed = self._decoders.run(decode) if self._decoders else decode()
        if failed:
            raise LlmError("decode_failed", f"llama.cpp cannot decode {count} tokens (code {failed})")
        self._plans_next = False
        if self._threads:
            self._threads.measured(work, threads, 1 + TOKEN_WORK * (count - 1), time.perf_counter() - began)

    def _follow(self, index: int, guess: Sequence[int]) -> list[int]:
        """The likeliest token after a position, and after each token guessed to follow it, while the guess is right."""
        run = [self._likeliest(index)]
        while len(run) <= len(guess) and run[-1] == guess[len(run) - 1]:
            run.append(self._likeliest(index + len(run)))
        self._run_begins = index
        return run

    def _log_probability(self, index: int, token: int | None) -> float:
        """Of a token after one position of the last decode, None being the likeliest."""
        import numpy as np

        logits = self._logits(index).astype(np.float64)
        highest = logits.max()
        return float((0.0 if token is None else logits[token] - highest) - np.log(np.exp(logits - highest).sum()))

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
