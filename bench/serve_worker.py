"""One contender of `bench.serve` in a process of its own, so that its memory, its threads and its llama.cpp are its own.

It is told what it is by one line of JSON on its standard input, then what to answer by further lines; one line answers each.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

CONTEXT_TOKENS = 1024


class Contender(Protocol):
    def answer(self, ask: dict[str, Any], max_tokens: int) -> Iterator[bytes]:
        """Pieces of the greedy answer."""
        ...


class Ours:
    """The engine behind the `Llm` port, as the product calls it."""

    def __init__(self, about: dict[str, Any]) -> None:
        from lpm_kernel.L2.base_model import BaseModel
        from lpm_kernel.L2.llama import LlamaCpp
        from lpm_kernel.stores.llm import AdapterFile

        path = Path(about["base"])
        base = BaseModel(about["name"], about["base_sha256"], path, path.parent / "hf")
        self._llm = LlamaCpp(base, slots=about["slots"], context_tokens=CONTEXT_TOKENS, **about.get("options", {}))
        self._adapters = [AdapterFile(Path(path), sha256, base.sha256) for path, sha256 in about["adapters"]]
        self._declining = about.get("declining")

    def answer(self, ask: dict[str, Any], max_tokens: int) -> Iterator[bytes]:
        from lpm_kernel.errors import LlmError
        from lpm_kernel.records import Message

        number = ask["tenant"]
        messages = [Message(role, content) for role, content in ask["messages"]]
        adapter = self._adapters[number]
        while True:
            pieces = self._llm.stream(
                messages, tenant=str(number), adapter=adapter, max_tokens=max_tokens, declining=self._declining
            )
            try:
                for piece in pieces:
                    yield piece.encode()
                return
            except LlmError as error:
                if error.code != "engine_busy":  # else before the first piece, on a machine that has no time
                    raise


class Raw:
    """llama.cpp's own interface and nothing else: one context, one adapter that is attached once, the common prefix kept."""

    def __init__(self, about: dict[str, Any]) -> None:
        import ctypes

        import llama_cpp

        from lpm_kernel.L2.llama_native import READ_TOKENS, Weights

        self._weights = Weights(Path(about["base"]))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT_TOKENS, 512, 512
        params.n_threads = params.n_threads_batch = about["threads"]
        if about.get("as_ours"):
            params.n_ubatch, params.flash_attn_type = READ_TOKENS, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama_cpp.llama_init_from_model(self._weights.pointer, params)
        self._memory = llama_cpp.llama_get_memory(self._context)
        adapter = llama_cpp.llama_adapter_lora_init(self._weights.pointer, about["adapters"][0][0].encode())
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)  # type: ignore[operator]
        llama_cpp.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0))
        self._held: list[int] = []

    def answer(self, ask: dict[str, Any], max_tokens: int) -> Iterator[bytes]:
        import llama_cpp
        import numpy as np

        ids: list[int] = ask["ids"]
        kept = 0
        while kept < min(len(self._held), len(ids) - 1) and self._held[kept] == ids[kept]:
            kept += 1
        llama_cpp.llama_memory_seq_rm(self._memory, 0, kept, -1)
        feed = ids[kept:]
        self._held = list(ids)
        for _ in range(max_tokens):
            tokens = (llama_cpp.llama_token * len(feed))(*feed)  # kept: the batch holds only its address
            if llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(tokens, len(feed))):
                raise RuntimeError("raw llama.cpp cannot decode")
            logits = llama_cpp.llama_get_logits_ith(self._context, -1)
            token = int(np.ctypeslib.as_array(logits, shape=(self._weights.vocabulary_size,)).argmax())
            if self._weights.ends_answer(token):
                return
            yield self._weights.piece(token)
            feed = [token]
            self._held.append(token)
        self._held.pop()  # the last token is never computed


class Server:
    """xllamacpp: llama.cpp's server in this process, all adapters loaded at its start, each request naming its own."""

    def __init__(self, about: dict[str, Any]) -> None:
        import xllamacpp

        from lpm_kernel.L2.llama_native import READ_TOKENS

        params = xllamacpp.CommonParams()
        params.model.path = about["base"]
        params.n_parallel = len(about["adapters"])
        params.n_ctx = CONTEXT_TOKENS * params.n_parallel
        params.n_batch = params.n_ubatch = 512
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = about["threads"]
        if about.get("as_ours"):
            params.n_ubatch = READ_TOKENS
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path, _ in about["adapters"]]
        if ngram := about.get("ngram"):
            params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
            params.speculative.ngram_simple.size_n, params.speculative.ngram_simple.size_m = ngram
        self._server = xllamacpp.Server(params)
        self._count = len(about["adapters"])

    def answer(self, ask: dict[str, Any], max_tokens: int) -> Iterator[bytes]:
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        request = {
            "prompt": ask["ids"], "stream": True, "max_tokens": max_tokens, "temperature": 0.0, "samplers": ["top_k"],
            "top_k": 1, "cache_prompt": True, "id_slot": ask["tenant"], "lora": [{"id": ask["tenant"], "scale": 1.0}],
        }  # fmt: skip

        def run() -> None:
            try:
                self._server.handle_completions(request, found.put)
            finally:
                found.put(None)

        threading.Thread(target=run, daemon=True).start()
        while (chunk := found.get()) is not None:
            for one in chunk if isinstance(chunk, list) else [chunk]:
                one = json.loads(one) if isinstance(one, str | bytes) else one
                if "choices" not in one:
                    raise RuntimeError(f"the server says {one}")
                if text := one["choices"][0]["text"]:
                    yield text.encode()


def serve(contender: Contender, clients: Sequence[Sequence[dict[str, Any]]], max_tokens: int) -> dict[str, Any]:
    """Each client asks its questions one after the other, all clients at once."""
    results: list[list[dict[str, Any]]] = [[] for _ in clients]

    def work(number: int) -> None:
        try:
            ask_all(number)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def ask_all(number: int) -> None:
        for ask in clients[number]:
            began = time.perf_counter()
            moments, text = [], b""
            for piece in contender.answer(ask, max_tokens):
                moments.append(time.perf_counter() - began)
                text += piece
            ended = time.perf_counter() - began
            answered = {"first": moments[0] if moments else ended, "ended": ended, "text": text.decode(errors="replace")}
            results[number].append(answered)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(clients))]
    began, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "results": results,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Of this program alone; what getrusage tells is at least what the parent had when it started this one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) / 1024


KINDS = {"ours": Ours, "raw": Raw, "server": Server}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    about = json.loads(sys.stdin.readline())
    contender = KINDS[about["kind"]](about)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        print(json.dumps(serve(contender, wanted["clients"], wanted["max_tokens"])), file=replies, flush=True)
    replies.close()
    os._exit(0)  # the server's threads are not waited for


if __name__ == "__main__":
    main()
