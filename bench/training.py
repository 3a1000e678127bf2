"""Training: ours beside the plain transformers Trainer and TRL's SFTTrainer, on the person's own rows: speed, memory, and what
the adapters then know. `python -m bench.training --rows 40` is a short run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.curve_model import Loss, encode_any, load_base, measure_loss
from bench.engines import on_engines
from bench.peer_packages import TRL, trl_folder
from bench.people import silent
from bench.training_bundle import bundle_person
from bench.training_curve import Share, prompt_of, row_of, wilson
from lpm_kernel.artefacts import encode_records
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel, prepare_base
from lpm_kernel.L2.engine import cache_folder, open_llm
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.stores.llm import AdapterFile, Llm
from lpm_kernel.stores.open import Stores

PEERS = {"ours": "ours", "transformers Trainer": "trainer", TRL: "trl", "ours, no skill": "nothing"}
YARDSTICK = "transformers Trainer"
USER = "1"


def run(stores: Stores, max_rows: int | None = None) -> None:
    """Each in a process of its own, so that memory is its own too. Peak memory holds libraries and the base."""
    training, answer_tokens = stores.settings.training, stores.settings.evaluation.answer_tokens
    count = max_rows or training.max_rows
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    llm = open_llm(stores.settings, silent)
    try:
        person = bundle_person(stores, llm, USER, tuple(sorted({count, training.max_rows})))
        train = [row for row in map(row_of, person["rows"][str(count)]) if row.split == "train"]
        # Always those of the settings: a short run is measured on as much as a long one.
        held_out = [row for row in map(row_of, person["rows"][str(training.max_rows)]) if row.split == "held_out"]
        print(
            f"  {len(train)} rows, {training.epochs} epoch(s), rank {training.rank}, batches of {training.batch_rows}, seed "
            f"{training.seed}, fp32, {training.threads} threads; 'wall' holds loading and saving"
        )
        print(
            f"  {'':22}{'train s':>8}{'tokens/s':>9}{'ratio':>7}{'wall s':>8}{'peak MB':>9}"
            f"{'train nats':>12}{'held-out nats':>16}   {'golden with retrieval':21}"
        )
        with tempfile.TemporaryDirectory(prefix="twin-bench-training-") as folder:
            path = Path(folder) / "rows.jsonl"
            path.write_bytes(encode_records(train))
            # Speed first, while nothing else of this benchmark is in memory; then what each has learned.
            figures = {name: _train(name, path, Path(folder)) for name in PEERS}
            for name, found in figures.items():
                if isinstance(found, str):
                    print(f"  {name:22} {found}")
                else:
                    _tell(
                        name, found, figures, base, llm, [*train, *held_out], person["questions"], answer_tokens, Path(folder)
                    )
            bare = _right(llm, person["questions"], None, answer_tokens)
            print(f"  {'base, no adapter':87} {bare}")
    finally:
        llm.close()


def _train(name: str, rows: Path, folder: Path) -> dict[str, float] | str:
    """What the process says of its training; words where it cannot be had here."""
    environment = dict(os.environ)
    if name == TRL:
        packages = trl_folder()
        if packages is None:
            return "not installed and not to be had here: pip install -e .[bench]"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), str(packages))))
    command = [sys.executable, "-m", "bench.training_run", PEERS[name], str(rows), str(folder)]
    began = time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{name} failed: {ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1]) | {"wall": time.perf_counter() - began}


def _tell(
    name: str,
    found: dict[str, float],
    figures: dict[str, Any],
    base: BaseModel,
    llm: Llm,
    rows: Sequence[TrainingRow],
    questions: Sequence[dict[str, Any]],
    answer_tokens: int,
    folder: Path,
) -> None:
    adapter = folder / PEERS[name]
    train, held_out = _losses(adapter, base, rows)
    gguf = adapter / "adapter.gguf"
    convert_adapter(adapter / "adapter_model.safetensors", adapter / "adapter_config.json", base, gguf)
    right = _right(llm, questions, AdapterFile(gguf, file_sha256(gguf), base.sha256), answer_tokens)
    ratio = found["tokens_per_second"] / figures[YARDSTICK]["tokens_per_second"]
    print(
        f"  {name:22}{found['seconds']:8.1f}{found['tokens_per_second']:9.0f}{ratio:6.2f}x{found['wall']:8.1f}"
        f"{found['peak_mb']:9.0f}{train.mean:12.3f}{held_out.mean:9.3f} ±{held_out.half_width:5.3f}   {right}",
        flush=True,
    )


def _losses(adapter: Path, base: BaseModel, rows: Sequence[TrainingRow]) -> tuple[Loss, Loss]:
    """Of the train and of the held-out rows, by one and the same function whoever trained."""
    from peft import PeftModel

    loaded = load_base(base.hf_dir, "cpu", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # as in `train.with_adapter`
            model = PeftModel.from_pretrained(loaded.model, str(adapter)).merge_and_unload().eval()
        by_split = [
            measure_loss(model, encode_any([row for row in rows if row.split == split], base.hf_dir), "cpu", 4)
            for split in ("train", "held_out")
        ]
        return by_split[0], by_split[1]
    finally:
        loaded = model = None
        gc.collect()


def _right(llm: Llm, questions: Sequence[dict[str, Any]], adapter: AdapterFile | None, answer_tokens: int) -> Share:
    """Answerable golden questions whose fact is in the answer, all of them put to the model, through llama.cpp."""
    known = sorted((q for q in questions if q["answerable"]), key=lambda q: len(str(q["with_notes"])))
    right = 0
    for start in range(0, len(known), 8):
        part = known[start : start + 8]
        prompts = [prompt_of(question["with_notes"]) for question in part]
        answers = llm.answer_batch(prompts, tenant=USER, adapter=adapter, max_tokens=answer_tokens)
        right += sum(holds_fact(answer, q["expected"]) for q, answer in zip(part, answers, strict=True))
    return wilson(right, len(known))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training")
    parser.add_argument("--rows", type=int, help="at most so many rows; else as many as the settings say")
    chosen = parser.parse_args()
    on_engines(lambda stores: run(stores, chosen.rows))


if __name__ == "__main__":
    main()
