"""One training in a process of its own: `python -m bench.training_run ours|trainer ROWS FOLDER`."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

from bench.people import silent
from bench.training import peak_mb
from lpm_kernel.artefacts import decode_records
from lpm_kernel.L2.base_model import BaseModel, prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.train import TARGETS, train_adapter
from lpm_kernel.settings import TrainingSettings, load_settings


def main() -> None:
    which, rows_path, folder = sys.argv[1:]
    rows = decode_records(Path(rows_path).read_bytes(), TrainingRow)
    settings = load_settings()
    base = prepare_base(settings.models, cache_folder(), silent)
    work = {"ours": ours, "trainer": trainer}[which]
    seconds, tokens_per_second, loss = work(rows, base, settings.training, Path(folder))
    print(f"{seconds:8.1f} {tokens_per_second:9.0f} {loss:10.3f} {peak_mb():8.0f}")


def ours(rows: list[TrainingRow], base: BaseModel, training: TrainingSettings, folder: Path) -> tuple[float, float, float]:
    result = train_adapter(rows, base, training, folder / "ours", silent)
    return result.seconds, result.tokens_per_second, result.loss_curve[-1]


def trainer(rows: list[TrainingRow], base: BaseModel, training: TrainingSettings, folder: Path) -> tuple[float, float, float]:
    """The library's own loop as its documentation shows it: padded batches, labels of -100 on the prompt."""
    warnings.simplefilter("ignore")
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.hf_dir)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base.hf_dir, dtype=torch.float32),
        LoraConfig(r=training.rank, lora_alpha=training.alpha, target_modules=list(TARGETS), task_type="CAUSAL_LM"),
    )
    examples, tokens = [], 0
    for row in rows:
        prompt = tokenizer(render_chatml(row.messages[:-1], open_answer=True), add_special_tokens=False)["input_ids"]
        reply = tokenizer(row.messages[-1].content + "<|im_end|>", add_special_tokens=False)["input_ids"]
        examples.append({"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply})
        tokens += len(prompt) + len(reply)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=training.batch_rows,
        num_train_epochs=training.epochs,
        learning_rate=training.learning_rate,
        seed=training.seed,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    loop = Trainer(model=model, args=arguments, train_dataset=examples, data_collator=collator)  # type: ignore[arg-type]
    began = time.perf_counter()
    result = loop.train()
    seconds = time.perf_counter() - began
    return seconds, training.epochs * tokens / seconds, float(result.training_loss)


if __name__ == "__main__":
    main()
