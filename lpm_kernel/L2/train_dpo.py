"""Learning from preference pairs: direct preference optimisation of a user's adapter.

Belongs here: the loss, its loop, and the adapter that comes of it, kept under its own hash.
Does not belong here: which pairs there are (`preference_pairs.py`) and learning from rows (`train.py`).

The reference is the adapter that training starts from: its likelihoods are computed once, before the first step.
"""

from __future__ import annotations

import gc
import json
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_files import BASE_SHA256_KEY
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.preference_pairs import PairRefusal
from lpm_kernel.L2.records import Adapter, PreferenceAdapter, PreferencePair, PreferenceTraining, TrainingRow
from lpm_kernel.L2.torch_model import load_torch_base, torch_threads, with_adapter
from lpm_kernel.L2.train import MAX_GRADIENT_NORM
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS, EncodedRow, encode_rows, row_counter
from lpm_kernel.layout import dpo_config_key, dpo_key
from lpm_kernel.records import Message, sha256_hex
from lpm_kernel.settings import DpoSettings, TrainingSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class DpoResult:
    adapter_path: Path
    config_path: Path
    steps: int
    loss_curve: tuple[float, ...]
    margin: float
    accuracy: float
    seconds: float


def learn_preferences(
    user_id: str,
    pairs: Sequence[PreferencePair],
    refusals: Sequence[PairRefusal],
    start: Adapter,
    blobs: Blobs,
    base: Callable[[], BaseModel],
    training: TrainingSettings,
    dpo: DpoSettings,
    progress: Progress,
) -> PreferenceTraining:
    """Train where there is something to learn from; else say what there was instead. `base` is made ready only then.

    Why a pair that is too long is left out: a prompt of a chat may be longer than a row, and it would keep all others back.
    """
    refused: dict[str, int] = dict(Counter(refusal.reason for refusal in refusals))
    ready = base() if pairs else None
    fitting = _that_fit(pairs, ready) if ready else []
    if len(fitting) < len(pairs):
        refused["too_long"] = len(pairs) - len(fitting)
    by_signal = dict(Counter(pair.signal for pair in fitting))
    if ready is None or not fitting:
        told = ", ".join(f"{number} {reason}" for reason, number in sorted(refused.items()))
        count = sum(refused.values())
        skipped = f"no pair in {count} rated or edited replies: {told}" if told else "nobody rated or edited a reply yet"
        return PreferenceTraining(None, skipped, by_signal, refused)
    adapter = run_dpo(user_id, fitting, start, blobs, ready, training, dpo, progress)
    return PreferenceTraining(adapter, None, by_signal, refused)


def run_dpo(
    user_id: str,
    pairs: Sequence[PreferencePair],
    start: Adapter,
    blobs: Blobs,
    base: BaseModel,
    training: TrainingSettings,
    dpo: DpoSettings,
    progress: Progress,
) -> PreferenceAdapter:
    """An adapter that goes on from `start`, kept under its own hash. Raises: what `train_dpo` raises; StoreError."""
    own = TenantBlobs(blobs, user_id)
    with tempfile.TemporaryDirectory(prefix="twin-dpo-") as name:
        folder = Path(name)
        adapter_path, config_path = folder / "adapter_model.safetensors", folder / "adapter_config.json"
        own.get_file(start.key, adapter_path)
        own.get_file(start.config_key, config_path)
        result = train_dpo(pairs, base, adapter_path, config_path, training, dpo, folder / "out", progress)
        sha256 = file_sha256(result.adapter_path)
        own.put_file(dpo_key(user_id, sha256), result.adapter_path)
        own.put_file(dpo_config_key(user_id, sha256), result.config_path)
        size_bytes = result.adapter_path.stat().st_size
    return PreferenceAdapter(
        sha256=sha256,
        key=dpo_key(user_id, sha256),
        config_key=dpo_config_key(user_id, sha256),
        size_bytes=size_bytes,
        base_sha256=base.sha256,
        parent_sha256=start.sha256,
        pairs_sha256=sha256_hex(encode_records(pairs)),
        pairs=len(pairs),
        steps=result.steps,
        loss_curve=result.loss_curve,
        margin=result.margin,
        accuracy=result.accuracy,
        train_seconds=round(result.seconds, 1),
    )


def train_dpo(
    pairs: Sequence[PreferencePair],
    base: BaseModel,
    adapter_path: Path,
    config_path: Path,
    training: TrainingSettings,
    dpo: DpoSettings,
    out_dir: Path,
    progress: Progress,
) -> DpoResult:
    """Make the chosen answers likelier against the rejected ones, without moving far from the adapter at `adapter_path`.

    Its rank, alpha and targets stay; the same seed and pairs give the same bytes.
    Source: Rafailov et al. 2023, loss −log σ(β · margin), where the margin is how much more log-likelihood the chosen answer
    gained since the start than the rejected one.
    Raises: TrainingError `no_preference_pairs`, `row_too_long`, `adapter_unreadable`, `loss_not_finite`.
    """
    if not pairs:
        raise TrainingError("no_preference_pairs", "there are no preference pairs: nobody rated or edited a reply yet")
    encoded = _encode(pairs, base)
    progress(0.0, f"loading {base.name} and its adapter to learn from {len(pairs)} pairs")
    import torch

    try:
        with torch_threads(training.threads), torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            model = _load(base, adapter_path, config_path)
            curve, margins, steps, seconds = _loop(model, encoded, training, dpo, progress)
            out = _save(model, base, config_path, out_dir)
    finally:
        model = None
        gc.collect()
        give_back_freed_memory()
    accuracy = sum(margin > 0 for margin in margins) / len(margins)
    return DpoResult(out, out.with_name(config_path.name), steps, curve, sum(margins) / len(margins), accuracy, seconds)


def answer_log_likelihoods(model: Any, rows: Sequence[EncodedRow]) -> torch.Tensor:
    """Of each row the log-likelihood of its answer, in nats. Rows are padded on the right, as in training on rows."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    learned = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        learned[index, row.answer_start : len(row.ids)] = True
    ids, learned = ids.to(model.device), learned.to(model.device)
    causal = model.get_base_model()
    hidden = causal.model(input_ids=ids).last_hidden_state
    logits = causal.lm_head(hidden[:, :-1][learned[:, 1:]]).float()
    losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:][learned[:, 1:]], reduction="none")
    return -torch.stack([part.sum() for part in losses.split([row.answer_tokens for row in rows])])


def _encode(pairs: Sequence[PreferencePair], base: BaseModel) -> list[tuple[EncodedRow, EncodedRow]]:
    """Each pair as its two rows, chosen first, rendered as training and serving render every conversation."""
    rows = [
        TrainingRow(
            row_id=f"{pair.pair_id} {side}",
            kind="preference",
            form="plain",
            person="first",
            messages=conversation,
            sources=pair.sources,
            split="train",
            checksum=pair.pair_id,
        )
        for pair in pairs
        for side, conversation in zip(("chosen", "rejected"), _conversations(pair), strict=True)
    ]
    encoded = encode_rows(rows, base.hf_dir)
    return list(zip(encoded[::2], encoded[1::2], strict=True))


def _that_fit(pairs: Sequence[PreferencePair], base: BaseModel) -> list[PreferencePair]:
    tokens_of = row_counter(base.hf_dir)
    return [pair for pair in pairs if max(map(tokens_of, _conversations(pair))) <= MAX_ROW_TOKENS]


def _conversations(pair: PreferencePair) -> tuple[tuple[Message, ...], ...]:
    return tuple((*pair.prompt, Message("assistant", answer)) for answer in (pair.chosen, pair.rejected))


def _load(base: BaseModel, adapter_path: Path, config_path: Path) -> Any:
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    config = json.loads(config_path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": None, "inference_mode": False}
    model = with_adapter(load_torch_base(base), LoraConfig.from_peft_type(**config))
    weights = {name: weight.float() for name, weight in load_file(adapter_path).items()}
    outcome = set_peft_model_state_dict(model, weights)
    missing = [name for name in outcome.missing_keys if "lora_" in name]
    if missing or outcome.unexpected_keys:
        raise TrainingError("adapter_unreadable", f"{adapter_path.name} and {config_path.name} name other modules")
    return model.train()


def _loop(
    model: Any,
    pairs: Sequence[tuple[EncodedRow, EncodedRow]],
    training: TrainingSettings,
    dpo: DpoSettings,
    progress: Progress,
) -> tuple[tuple[float, ...], list[float], int, float]:
    """Loss of each epoch, the margin of each pair at the end, steps, seconds."""
    import torch

    started = time.perf_counter()
    with torch.no_grad():
        reference = [answer_log_likelihoods(model, pair).tolist() for pair in pairs]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=dpo.learning_rate, weight_decay=0.0)
    chance = random.Random(training.seed)
    steps = dpo.epochs * math.ceil(len(pairs) / training.batch_rows)
    step, curve = 0, []
    for epoch in range(dpo.epochs):
        order = list(range(len(pairs)))
        chance.shuffle(order)
        epoch_loss = 0.0
        for first in range(0, len(order), training.batch_rows):
            batch = order[first : first + training.batch_rows]
            batch_loss = 0.0
            for index in batch:  # one pair at a time: two rows are what a small machine has memory for
                loss = -torch.nn.functional.logsigmoid(dpo.beta * _margin(model, pairs[index], reference[index]))
                batch_loss += loss.item()
                (loss / len(batch)).backward()
            norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
            if not (math.isfinite(batch_loss) and math.isfinite(norm.item())):
                raise TrainingError(
                    "loss_not_finite",
                    f"loss {batch_loss / len(batch)} and gradient norm {norm.item()} in step {step + 1} of {steps} at learning "
                    f"rate {dpo.learning_rate}; lower dpo.learning_rate",
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            epoch_loss += batch_loss
            progress(
                step / steps, f"epoch {epoch + 1} of {dpo.epochs}, step {step} of {steps}, loss {batch_loss / len(batch):.3f}"
            )
        curve.append(epoch_loss / len(pairs))
    with torch.no_grad():
        margins = [_margin(model, pair, before).item() for pair, before in zip(pairs, reference, strict=True)]
    return tuple(curve), margins, step, time.perf_counter() - started


def _margin(model: Any, pair: tuple[EncodedRow, EncodedRow], reference: Sequence[float]) -> torch.Tensor:
    chosen, rejected = answer_log_likelihoods(model, pair)
    return (chosen - reference[0]) - (rejected - reference[1])


def _save(model: Any, base: BaseModel, config_path: Path, out_dir: Path) -> Path:
    """Weights in f16 under PEFT's names, as the adapter that it came from; the config is that one's, byte for byte."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    trained = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: weight.to(torch.float16).contiguous().cpu() for name, weight in trained.items()}
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise TrainingError("loss_not_finite", "the trained weights are not finite in f16; lower dpo.learning_rate")
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "adapter_model.safetensors"
    path.write_bytes(save(weights, metadata={BASE_SHA256_KEY: base.sha256}))
    (out_dir / config_path.name).write_bytes(config_path.read_bytes())
    return path
