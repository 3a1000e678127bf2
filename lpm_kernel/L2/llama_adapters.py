"""Adapters and llama.cpp: checking a file, loading it onto the base, freeing it.

Belongs here: the calls into `llama_cpp` about adapters, and what a cache of them needs of any library.
Does not belong here: which are kept (`cache_policy.py`) and who waits for whom (`adapter_cache.py`).
"""

from __future__ import annotations

from typing import Any, Protocol

from lpm_kernel.errors import LlmError, TrainingError
from lpm_kernel.L2.adapter_files import known_sha256
from lpm_kernel.L2.gguf_adapter import read_adapter
from lpm_kernel.L2.gguf_header import read_gguf_header
from lpm_kernel.L2.llama_native import Weights
from lpm_kernel.stores.llm import AdapterFile


class AdapterLibrary(Protocol):
    """What loads adapters. `check` may run beside anything; `load` and `free` never run beside one another."""

    def check(self, adapter: AdapterFile, base_sha256: str) -> int:
        """Its size in memory, in bytes. Raises: LlmError `adapter_refused`."""
        ...

    def load(self, adapter: AdapterFile) -> Any:
        """Raises: LlmError `adapter_refused`."""
        ...

    def free(self, pointer: Any) -> None: ...


class LlamaAdapters:
    """`AdapterLibrary` on llama.cpp. What an adapter takes of memory is the size of its file."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._base = read_gguf_header(weights.path)

    def check(self, adapter: AdapterFile, base_sha256: str) -> int:
        try:
            found = known_sha256(adapter.path)
            if found is None:
                raise refused(adapter, "its file is gone")
            head = read_adapter(adapter.path)
            size_bytes = adapter.path.stat().st_size
        except (OSError, TrainingError) as error:
            raise refused(adapter, f"its file cannot be read: {error}") from error
        if found != adapter.sha256:
            raise refused(adapter, f"its file has sha256 {found[:12]}")
        if head.base_sha256 != base_sha256:
            raise refused(adapter, f"its file is made for base {head.base_sha256[:12]}, loaded is {base_sha256[:12]}")
        misfit = head.misfit(self._base)
        if misfit is not None:
            raise refused(adapter, f"its matrices for {misfit[:80]} fit nothing of this base")
        return size_bytes

    def load(self, adapter: AdapterFile) -> Any:
        import llama_cpp

        with self._weights.adapter_list.alone():
            pointer = llama_cpp.llama_adapter_lora_init(self._weights.pointer, str(adapter.path).encode())
        if not pointer:
            raise refused(adapter, "llama.cpp cannot load it onto this base")
        return pointer

    def free(self, pointer: Any) -> None:
        import llama_cpp

        with self._weights.adapter_list.alone():
            llama_cpp.llama_adapter_lora_free(pointer)


def refused(adapter: AdapterFile, why: str) -> LlmError:
    return LlmError("adapter_refused", f"adapter {adapter.sha256[:12]} is refused: {why}; train it again", retryable=False)
