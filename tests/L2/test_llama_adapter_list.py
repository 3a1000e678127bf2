"""Adapters come and go while others are attached: llama.cpp guards its list of them with nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.L2.llama_adapters import LlamaAdapters
from lpm_kernel.L2.llama_native import Context, Weights
from lpm_kernel.L2.shared_lock import SharedLock

from .conftest import chain, lora_weights

if TYPE_CHECKING:
    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.stores.llm import AdapterFile

STRESS = """
import sys, threading, time
from pathlib import Path
from lpm_kernel.L2.llama_adapters import LlamaAdapters
from lpm_kernel.L2.llama_native import Context, Weights
from lpm_kernel.stores.llm import AdapterFile

weights = Weights(Path(sys.argv[2]))
files = [AdapterFile(Path(path), "", "") for path in sys.argv[3:]]
adapters, done = LlamaAdapters(weights), [0, 0, 0]
kept = [adapters.load(files[0]) for _ in range(100)]
began = time.monotonic()

def goes_on():
    return time.monotonic() < began + float(sys.argv[1]) or (min(done) <= 10 and time.monotonic() < began + 60)

def come_and_go():
    while goes_on():
        for pointer in [adapters.load(file) for file in files * 8]:
            adapters.free(pointer)
            done[0] += 1
        time.sleep(0.0002)

def decode(number):
    context = Context(weights, 1, 64)
    while goes_on():
        context.attach(kept[0])
        context.forget()
        context.extend(0, 0, [5])
        context.attach(None)
        done[number] += 1
    context.close()

threads = [threading.Thread(target=come_and_go)] + [threading.Thread(target=decode, args=(n,)) for n in (1, 2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*done)
"""


@pytest.fixture
def adapters(tiny_bases: dict[str, BaseModel], tmp_path: Path) -> list[AdapterFile]:
    from safetensors.numpy import save_file

    base = tiny_bases["llama"]
    shape = json.loads((base.hf_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    files = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        save_file(lora_weights(4, shape, seed=number), tmp_path / "adapter.safetensors")
        made = chain(tmp_path / "adapter.safetensors", tmp_path / "config.json", base, tmp_path / str(number))
        files.append(made.gguf)
    return files


def test_adapters_are_loaded_and_freed_while_others_are_attached(
    tiny_bases: dict[str, BaseModel], adapters: list[AdapterFile]
) -> None:
    """A context that planned its graph read the size of an adapter that was freed at that moment, and the process ended."""
    command = [sys.executable, "-c", STRESS, "4", str(tiny_bases["llama"].gguf_path), *(str(file.path) for file in adapters)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert all(int(count) > 10 for count in ended.stdout.split()), ended.stdout


def test_only_the_first_decode_with_another_adapter_waits_for_one_that_is_loaded(
    tiny_bases: dict[str, BaseModel], adapters: list[AdapterFile]
) -> None:
    weights = Weights(tiny_bases["llama"].gguf_path)
    library = LlamaAdapters(weights)
    with ThreadPoolExecutor(2) as pool:
        with weights.adapter_list.alone():
            made = pool.submit(Context, weights, 1, 64)
            with pytest.raises(NotYet):
                made.result(0.2)
        context = made.result(60)
        context.extend(0, 0, [5])
        with weights.adapter_list.alone():
            pool.submit(context.extend, 0, 1, [6]).result(60)
        with weights.adapter_list.shared():
            loading = pool.submit(library.load, adapters[0])
            with pytest.raises(NotYet):
                loading.result(0.2)
        pointer = loading.result(60)
        context.attach(pointer)
        with weights.adapter_list.alone():
            first = pool.submit(context.extend, 0, 2, [7])
            with pytest.raises(NotYet):
                first.result(0.2)
        first.result(60)
        context.attach(None)
        with weights.adapter_list.shared():
            freeing = pool.submit(library.free, pointer)
            with pytest.raises(NotYet):
                freeing.result(0.2)
        freeing.result(60)
    context.close()
    weights.close()


def test_who_wants_it_alone_goes_before_those_who_come_later() -> None:
    lock, order = SharedLock(), []
    with ExitStack() as held, ThreadPoolExecutor(2) as pool:
        held.enter_context(lock.shared())
        held.enter_context(lock.shared())

        def alone() -> None:
            with lock.alone():
                order.append("alone")

        def later() -> None:
            with lock.shared():
                order.append("later")

        first = pool.submit(alone)
        waiting = threading.Event()
        while not lock._waiting:
            waiting.wait(0.001)
        second = pool.submit(later)
        with pytest.raises(NotYet):
            second.result(0.2)
        assert order == []
        held.close()
        first.result(30)
        second.result(30)
    assert order == ["alone", "later"]
