"""Adapters in memory: loaded on demand, checked before they are loaded, kept while used, the longest unused freed first.

Belongs here: the calls into `llama_cpp` about adapters, under the one lock they need.
Does not belong here: attaching one to a context (`llama_native.py`), fetching its file from a store.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lpm_kernel.errors import LlmError, TrainingError
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.gguf import read_adapter_base
from lpm_kernel.L2.llama_native import Weights
from lpm_kernel.stores.llm import AdapterFile


@dataclass(slots=True)
class _Loaded:
    pointer: Any
    users: int = 0


class AdapterCache:
    """At most `capacity` adapters stay loaded; more only while more are in use."""

    def __init__(self, weights: Weights, base_sha256: str, capacity: int) -> None:
        self._weights = weights
        self._base_sha256 = base_sha256
        self._capacity = capacity
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        # The library keeps a model's adapters in a set without a lock of its own, so loading and freeing never overlap.
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, adapter: AdapterFile | None) -> Iterator[Any | None]:
        """The loaded adapter, safe from being freed until given back; None for none.

        Raises: LlmError `adapter_refused` (permanent): of another base, missing, damaged, or of another shape.
        """
        if adapter is None:
            yield None
            return
        if adapter.base_sha256 != self._base_sha256:
            raise _refused(adapter, f"it is recorded for base {adapter.base_sha256[:12]}, loaded is {self._base_sha256[:12]}")
        with self._lock:
            loaded = self._loaded.get(adapter.sha256)
            if loaded is None:
                loaded = self._loaded[adapter.sha256] = _Loaded(self._load(adapter))
            self._loaded.move_to_end(adapter.sha256)
            loaded.users += 1
            self._free_unused(self._capacity)
        try:
            yield loaded.pointer
        finally:
            with self._lock:
                loaded.users -= 1
                self._free_unused(self._capacity)

    def __len__(self) -> int:
        return len(self._loaded)

    def close(self) -> None:
        with self._lock:
            self._free_unused(0)

    def _free_unused(self, capacity: int) -> None:
        import llama_cpp

        surplus = len(self._loaded) - capacity
        if surplus <= 0:
            return
        unused = [sha256 for sha256, loaded in self._loaded.items() if not loaded.users]
        for sha256 in unused[:surplus]:
            llama_cpp.llama_adapter_lora_free(self._loaded.pop(sha256).pointer)
        if unused:
            give_back_freed_memory()

    def _load(self, adapter: AdapterFile) -> Any:
        import llama_cpp

        try:
            found = file_sha256(adapter.path)
            trained_on = read_adapter_base(adapter.path)
        except (OSError, TrainingError) as error:
            raise _refused(adapter, f"its file cannot be read: {error}") from error
        if found != adapter.sha256:
            raise _refused(adapter, f"its file has sha256 {found[:12]}")
        if trained_on != self._base_sha256:
            raise _refused(adapter, f"its file is made for base {trained_on[:12]}, loaded is {self._base_sha256[:12]}")
        pointer = llama_cpp.llama_adapter_lora_init(self._weights.pointer, str(adapter.path).encode())
        if not pointer:
            raise _refused(adapter, "llama.cpp cannot load it onto this base")
        return pointer


def _refused(adapter: AdapterFile, why: str) -> LlmError:
    return LlmError("adapter_refused", f"adapter {adapter.sha256[:12]} is refused: {why}; train it again", retryable=False)
