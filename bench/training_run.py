"""One training in a process of its own: `python -m bench.training_run ours|trainer|trl|nothing ROWS FOLDER`.

Ours runs first: the others take the shape of the LoRA from the config it leaves, so that all train the same one.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from bench.people import silent
from lpm_kernel.artefacts import decode_records
from lpm_kernel.L2.base_model import BaseModel, prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.prompt import neutralise, render_chatml
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.skill import find_skill
from lpm_kernel.L2.train import train_adapter
from lpm_kernel.L2.training_batches import encode_rows
from lpm_kernel.settings import TrainingSettings, load_settings

NOTHING_RATE = 1e-3
"""Of a training that begins with nothing: at the rate of the settings it would hardly move in one epoch."""

SHAPE = ("r", "lora_alpha", "lora_dropout", "bias", "target_modules", "task_type", "layers_to_transform")


def main() -> None:
    which, rows_path, folder = sys.argv[1:]
    rows = decode_records(Path(rows_path).read_bytes(), TrainingRow)
    settings = load_settings()
    base = prepare_base(settings.models, cache_folder(), silent)
    tokens = settings.training.epochs * sum(len(row.ids) for row in encode_rows(rows, base.hf_dir))
    work = {"ours": ours, "trainer": trainer, "trl": trl, "nothing": nothing}[which]
    seconds = work(rows, base, settings.training, Path(folder))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # All by the same count of tokens: TRL's template adds a line break to each answer.
    print(json.dumps({"seconds": seconds, "tokens_per_second": tokens / seconds, "peak_mb": peak_mb}))


def ours(rows: list[TrainingRow], base: BaseModel, training: TrainingSettings, folder: Path) -> float:
    start = find_skill(base, training, cache_folder()).path if load_settings().skill.start else None
    return train_adapter(rows, base, training, folder / "ours", silent, start_adapter=start).seconds


def nothing(rows: list[TrainingRow], base: BaseModel, training: TrainingSettings, folder: Path) -> float:
    """Ours without the skill adapter, at a rate of its own: whether that adapter pays."""
    alone = training.model_copy(update={"learning_rate": NOTHING_RATE})
    return train_adapter(rows, base, alone, folder / "nothing", silent).seconds


def trainer(rows: list[TrainingRow], base: BaseModel, training: TrainingSettings, folder: Path) -> float:
    """The library's own loop as its documentation shows it: padded batches, labels of -100 on the prompt."""
    from peft import get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model, tokenizer = _start(base, training)
    examples = []
    for row in rows:
        prompt = tokenizer(render_chatml(row.messages[:-1], open_answer=True), add_special_tokens=False)["input_ids"]
        reply = tokenizer(neutralise(row.messages[-1].content) + "<|im_end|>", add_special_tokens=False)["input_ids"]
        examples.append({"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply})
    loop = Trainer(
        model=_begun(get_peft_model(model, _shape(folder)), base, training),
        args=TrainingArguments(**_arguments(rows, training, folder / "trainer")),
        train_dataset=examples,  # type: ignore[arg-type]
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
    )
    return _run(loop, folder / "trainer")


def trl(rows: list[TrainingRow], base: BaseModel, training: TrainingSettings, folder: Path) -> float:
    """Prompt and completion as message lists: TRL then takes the loss of completions only. What it would switch on by
    itself (bf16, which this kind of processor computes slowly, and gradient checkpointing) is off, as it is for the others."""
    from datasets import Dataset  # type: ignore[import-not-found]
    from peft import get_peft_model
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    model, tokenizer = _start(base, training)
    said = [[{"role": m.role, "content": neutralise(m.content)} for m in row.messages] for row in rows]
    examples = Dataset.from_list([{"prompt": messages[:-1], "completion": messages[-1:]} for messages in said])
    arguments = _arguments(rows, training, folder / "trl")
    loop = SFTTrainer(
        model=_begun(get_peft_model(model, _shape(folder)), base, training),
        args=SFTConfig(**arguments, bf16=False, gradient_checkpointing=False, max_length=None, packing=False),
        train_dataset=examples,
        processing_class=tokenizer,
    )
    return _run(loop, folder / "trl")


def _start(base: BaseModel, training: TrainingSettings) -> tuple[Any, Any]:
    warnings.simplefilter("ignore")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    model = AutoModelForCausalLM.from_pretrained(base.hf_dir, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(base.hf_dir)


def _begun(model: Any, base: BaseModel, training: TrainingSettings) -> Any:
    """With the weights that ours begins with too."""
    if load_settings().skill.start:
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(model, load_file(find_skill(base, training, cache_folder()).path))
    return model


def _shape(folder: Path) -> Any:
    from peft import LoraConfig

    config = json.loads((folder / "ours" / "adapter_config.json").read_text(encoding="utf-8"))
    return LoraConfig(**{key: config[key] for key in SHAPE})


def _arguments(rows: list[TrainingRow], training: TrainingSettings, out: Path) -> dict[str, Any]:
    steps = training.epochs * math.ceil(len(rows) / training.batch_rows)
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": training.batch_rows,
        "num_train_epochs": training.epochs,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": max(1, round(training.warmup_share * steps)),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "seed": training.seed,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def _run(loop: Any, out: Path) -> float:
    began = time.perf_counter()
    loop.train()
    seconds = time.perf_counter() - began
    loop.model.save_pretrained(str(out), save_embedding_layers=False)
    return seconds


if __name__ == "__main__":
    main()
