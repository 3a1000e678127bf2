"""Adapters in GGUF as small as can be, sound and unsound.

Belongs here: writing them. Does not belong here: tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lpm_kernel.L2.gguf_writer import BASE_SHA256_KEY

MODULE = "blk.0.attn_q.weight"


def matrices(rows: int = 4, columns: int = 4, rank: int = 2, kind: Any = np.float16) -> dict[str, np.ndarray]:
    return {f"{MODULE}.lora_a": np.ones((rank, columns), kind), f"{MODULE}.lora_b": np.ones((rows, rank), kind)}


def write_adapter(path: Path, tensors: Mapping[str, np.ndarray], base_sha256: str = "6" * 64, **more: Any) -> Path:
    """`more`: further keys, or others of the same name; dots are written as two underscores."""
    import gguf

    values = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0, BASE_SHA256_KEY: base_sha256}
    values |= {name.replace("__", "."): value for name, value in more.items()}
    types = {str: gguf.GGUFValueType.STRING, float: gguf.GGUFValueType.FLOAT32, int: gguf.GGUFValueType.UINT32}
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in values.items():
        writer.add_key_value(key, value, types[type(value)])
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def adapter_bytes(number: int) -> bytes:
    """Of a sound one; each number's are others."""
    with TemporaryDirectory() as folder:
        return write_adapter(Path(folder) / "adapter.gguf", matrices(rows=4 + number)).read_bytes()
