"""Writing a model as GGUF, one tensor in memory at a time.

Belongs here: the order of the format's parts, and which tensors are quantised.
Does not belong here: where keys and tensors come from (`base_files.py`, `hf_gguf.py`), and adapters (`gguf.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lpm_kernel.L2.gguf_header import HeaderValue
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import numpy as np

BASE_SHA256_KEY = "twin.base.sha256"
"""Metadata key, in every GGUF made here: of the shipped weights it comes from, or belongs on."""

Quantisation = Literal["f16", "q8_0"]
WRITTEN_HERE = ("general.architecture", "general.file_type", BASE_SHA256_KEY)


def write_model_gguf(
    out: Path,
    values: Mapping[str, HeaderValue],
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, np.ndarray]],
    quantisation: Quantisation,
    base_sha256: str,
    progress: Progress,
) -> None:
    """Write keys and tensors; vectors stay in float32, matrices become f16 or q8_0.

    Shapes: outermost dimension first. `tensors` gives float32 in the order of `shapes`.
    Why f16 even in q8_0 for rows that blocks of 32 do not divide: llama.cpp keeps them so too.
    """
    import gguf
    import numpy as np

    kinds = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
    file_types = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}

    def kind_of(shape: tuple[int, ...]) -> gguf.GGMLQuantizationType:
        block_items, _ = gguf.GGML_QUANT_SIZES[kinds[quantisation]]
        return kinds[quantisation] if shape[-1] % block_items == 0 else gguf.GGMLQuantizationType.F16

    writer = gguf.GGUFWriter(out, values["general.architecture"].value)
    try:
        for key, found in values.items():
            if key not in WRITTEN_HERE:
                item_type = None if found.item_type is None else gguf.GGUFValueType(found.item_type)
                writer.add_key_value(key, found.value, gguf.GGUFValueType(found.type), sub_type=item_type)
        writer.add_file_type(file_types[quantisation])
        writer.add_string(BASE_SHA256_KEY, base_sha256)
        for name, shape in shapes.items():
            if len(shape) == 1:
                writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * shape[0])
            else:
                block_items, block_bytes = gguf.GGML_QUANT_SIZES[kind_of(shape)]
                size_bytes = math.prod(shape) // block_items * block_bytes
                writer.add_tensor_info(name, shape, np.dtype(np.float16), size_bytes, kind_of(shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, ((name, shape), (found_name, tensor)) in enumerate(zip(shapes.items(), tensors, strict=True)):
            if (name, shape) != (found_name, tensor.shape):
                raise ValueError(f"tensor {found_name} of {tensor.shape} stands where {name} of {shape} should")
            writer.write_tensor_data(tensor if len(shape) == 1 else gguf.quants.quantize(tensor, kind_of(shape)))
            progress((done + 1) / len(shapes), f"base weights to {quantisation}")
    finally:
        writer.close()
