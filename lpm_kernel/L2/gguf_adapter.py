"""What a GGUF file must be before llama.cpp is given it as an adapter.

Belongs here: refusing by the head of a file what is no LoRA such as `gguf.py` writes. llama.cpp believes what a file says of
itself, and computing with a tensor of another kind ends the process for everybody in it.
Does not belong here: the format (`gguf_header.py`), hashes and loading (`llama_adapters.py`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.gguf_header import FLOAT32, STRING, GgufHeader, read_gguf_header
from lpm_kernel.L2.gguf_writer import BASE_SHA256_KEY

KEYS = {
    "general.architecture": STRING,
    "general.type": STRING,
    "adapter.type": STRING,
    "adapter.lora.alpha": FLOAT32,
    BASE_SHA256_KEY: STRING,
}
"""Every key that an adapter made here has, and its type: llama.cpp ends the process at one of another type."""

ITEM_BYTES = {0: 4, 1: 2}
"""Of the kinds of tensors that it may have, f32 and f16."""

Shape = tuple[int, int]
_TENSOR_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")


@dataclass(frozen=True, slots=True)
class AdapterHead:
    """`shapes`: of the base's tensors that it is made to be added to, outermost dimension first."""

    base_sha256: str
    shapes: dict[str, Shape]

    def misfit(self, base: GgufHeader) -> str | None:
        """The first tensor that the base has not, or has in another shape."""
        there = {place.name: place.shape for place in base.tensors}
        return next((name for name, shape in sorted(self.shapes.items()) if there.get(name) != shape), None)


def read_adapter(path: Path) -> AdapterHead:
    """Raises: TrainingError `adapter_unreadable` when there is no such file, or it is no LoRA as they are made here."""
    try:
        header = read_gguf_header(path)
        size_bytes = path.stat().st_size
    except (OSError, ValueError) as error:
        raise TrainingError("adapter_unreadable", f"cannot read adapter {path.name}: {error}; convert it again") from error
    sha256 = header.text(BASE_SHA256_KEY)
    if header.text("general.type") != "adapter" or not sha256:
        raise _none(path, "is no adapter that names its base")
    wrong = [key for key, found in header.values.items() if KEYS.get(key) != found.type]
    if wrong:
        raise _none(path, f"has keys that no adapter has, or of another type: {', '.join(sorted(wrong)[:3])}")
    return AdapterHead(sha256, _shapes(path, header, size_bytes))


def _shapes(path: Path, header: GgufHeader, size_bytes: int) -> dict[str, Shape]:
    sides: dict[str, dict[str, Shape]] = {}
    for place in header.tensors:
        named = _TENSOR_NAME.fullmatch(place.name)
        if not named or len(place.shape) != 2 or min(place.shape) < 1 or place.type not in ITEM_BYTES:
            raise _none(path, f"has a tensor that is no matrix of a LoRA in f32 or f16: {place.name[:80]}")
        if place.offset + math.prod(place.shape) * ITEM_BYTES[place.type] > size_bytes:
            raise _none(path, "ends before its last tensor does")
        sides.setdefault(named["module"], {})[named["side"]] = place.shape[0], place.shape[1]
    shapes: dict[str, Shape] = {}
    for module, pair in sides.items():
        if len(pair) != 2 or pair["a"][0] != pair["b"][1]:
            raise _none(path, f"lacks a matrix of {module[:80]}, or has two of unlike rank")
        shapes[module] = pair["b"][0], pair["a"][1]
    if not shapes:
        raise _none(path, "has no matrix")
    return shapes


def _none(path: Path, why: str) -> TrainingError:
    return TrainingError("adapter_unreadable", f"{path.name} {why}; convert it again")
