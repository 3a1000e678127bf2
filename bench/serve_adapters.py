"""Adapters of `bench.serve`: making them, what attaching and loading one costs, how often one is in memory when asked for."""

from __future__ import annotations

import os
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.L2.llama_native import Context, Weights
from lpm_kernel.L2.skill import find_skill
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings, TrainingSettings
from lpm_kernel.stores.llm import AdapterFile

SPREAD = 0.02
"""Of a matrix's own spread: so much each tenant's adapter differs from the skill adapter it began with."""

PER_TENANT = 3
"""Questions of each trace, for every registered tenant."""


def make_adapters(base: BaseModel, training: TrainingSettings, folder: Path, count: int) -> list[tuple[Path, str]]:
    """As many as wanted, each the skill adapter with a little noise of its own; its file and sha256."""
    import json

    from safetensors.numpy import load_file, save_file

    skill = find_skill(base, training, cache_folder())
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": skill.skill.rank, "lora_alpha": skill.skill.alpha}))
    weights, made = load_file(skill.path), []
    for number in range(count):
        chance = np.random.default_rng(number)
        source, out = folder / f"{number}.safetensors", folder / f"{number}.gguf"
        moved = {
            name: (values + values.std() * SPREAD * chance.standard_normal(values.shape)).astype(values.dtype)
            for name, values in sorted(weights.items())
        }
        save_file(moved, source)
        convert_adapter(source, config, base, out)
        source.unlink()
        made.append((out, file_sha256(out)))
    return made


def adapter_figures(base: BaseModel, adapters: Sequence[tuple[Path, str]], asks: Sequence[Any], turns: int) -> None:
    """What changing the adapter of a context costs, and loading one whose file is not in the system's memory."""
    import llama_cpp

    weights = Weights(base.gguf_path)
    context = Context(weights, 1, 512)
    loaded = [llama_cpp.llama_adapter_lora_init(weights.pointer, str(path).encode()) for path, _ in adapters[:2]]
    ids = asks[0][0]["ids"][:64]
    attach, same, switched = [], [], []
    try:
        for turn in range(turns):
            attach.append(_timed(lambda turn=turn: context.attach(loaded[turn % 2])))
            context.forget()
            context.extend(0, 0, ids)  # the first decode after the change
            context.extend(0, len(ids), ids[:1])
            same.append(_timed(lambda: context.extend(0, len(ids) + 1, ids[:1])))
            context.attach(loaded[(turn + 1) % 2])
            switched.append(_timed(lambda: context.extend(0, len(ids) + 2, ids[:1])))
    finally:
        context.close()
        for pointer in loaded:
            llama_cpp.llama_adapter_lora_free(pointer)
        weights.close()
    extra = np.median(switched) - np.median(same)
    print("  adapters in memory:")
    print(f"    attaching {np.median(attach) * 1000:.3f} ms; its first decode {extra * 1000:.1f} ms longer than the next")

    llm = LlamaCpp(base, slots=1, context_tokens=512)
    try:
        cold, warm, worked = [], [], []
        for path, sha256 in adapters:
            adapter = AdapterFile(path, sha256, base.sha256)
            _drop_from_memory(path)
            began = time.process_time()
            cold.append(_timed(lambda adapter=adapter: _take(llm, adapter)))
            worked.append(time.process_time() - began)
            warm.append(_timed(lambda adapter=adapter: _take(llm, adapter)))
        size = adapters[0][0].stat().st_size / 2**20
        print(
            f"    loading one of {size:.1f} MB from disk, its hash checked: median {np.median(cold) * 1000:.1f} ms, worst "
            f"{max(cold) * 1000:.1f} ms, of the processor {np.median(worked) * 1000:.1f} ms; taking one that is there "
            f"{np.median(warm) * 1000:.2f} ms"
        )
    finally:
        llm.close()


def trace_figures(base: BaseModel, adapter: tuple[Path, str], folder: Path, settings: Settings, tenants: int) -> None:
    """How often an adapter is in memory when its tenant asks: some tenants ask much more than others, then each asks once."""
    budget = settings.serving.adapters_mb * 2**20
    content = adapter[0].read_bytes()
    size = len(content) + 8
    known: dict[int, AdapterFile] = {}

    def file_of(tenant: int) -> AdapterFile:
        if tenant not in known:
            path = folder / f"tenant-{tenant}.gguf"
            path.write_bytes(content + tenant.to_bytes(8, "little"))  # another content, and so another adapter
            known[tenant] = AdapterFile(path, file_sha256(path), base.sha256)
        return known[tenant]

    llm = LlamaCpp(base, slots=1, context_tokens=512, adapters_bytes=budget)
    plain = OrderedDict[int, None]()
    print(f"  {tenants} registered tenants, room for {budget // size} of their adapters ({budget >> 20} MB):")
    try:
        for name, trace in _traces(tenants).items():
            before, in_plain, count, began = llm.adapters.figures(), 0, 0, time.perf_counter()
            for tenant in trace:
                with llm.adapters.borrow(file_of(tenant)):
                    pass
                in_plain += _longest_unused_first(plain, tenant, budget // size)
                count += 1
            after = llm.adapters.figures()
            loads, seconds = after.misses - before.misses, after.load_seconds - before.load_seconds
            took = time.perf_counter() - began
            print(
                f"    {name:34}{count:6} asks, in memory {(after.hits - before.hits) / count:6.1%} (longest unused first: "
                f"{in_plain / count:6.1%}), {seconds / max(loads, 1) * 1000:5.1f} ms a load, {took:5.1f} s",
                flush=True,
            )
        print(f"    memory of this process: {psutil.Process().memory_info().rss / 2**20:.0f} MB")
    finally:
        llm.close()


def _traces(tenants: int) -> dict[str, list[int]]:
    chance = random.Random(7)
    shares = [1 / rank for rank in range(1, tenants + 1)]

    def zipf() -> list[int]:
        return chance.choices(range(tenants), shares, k=tenants * PER_TENANT)

    return {
        "Zipf (1/rank), from empty": zipf(),
        "Zipf": zipf(),
        "each tenant once, in order": list(range(tenants)),
        "Zipf after that": zipf(),
    }


def _longest_unused_first(kept: OrderedDict[int, None], tenant: int, room: int) -> bool:
    found = tenant in kept
    kept[tenant] = None
    kept.move_to_end(tenant)
    if len(kept) > room:
        kept.popitem(last=False)
    return found


def _take(llm: LlamaCpp, adapter: AdapterFile) -> Iterator[str]:
    """Have the adapter ready, as for an answer; the answer itself is not begun."""
    return llm.stream([Message("user", "Hello")], tenant="bench", adapter=adapter, max_tokens=1)


def _drop_from_memory(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
