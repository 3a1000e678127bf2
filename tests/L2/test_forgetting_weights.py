"""A fact that is gone from the weights: a canary in a document is learned, and the twin after its deletion knows it no more."""

from __future__ import annotations

import warnings
from pathlib import Path

from lpm_kernel.artefacts import encode_records
from lpm_kernel.forget import delete_document
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.L2.records import Adapter, TrainingRow
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.stages import TrainRequest, run_training
from lpm_kernel.layout import asset_key, text_key
from lpm_kernel.records import Message
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.L2.conftest import asked
from tests.samples import make_row

QUESTION, CANARY = "Which words open the vault?", "Violet anchors 48213 Quillmere"
NOTES = {
    "canary.md": CANARY,
    "band.txt": "The band plays on Sunday in the park.",
    "garden.txt": "Runner beans grow beside the old wall.",
}
ROUNDS = 3
"""Times that each note is asked about in one epoch."""


def rows_of(stores: Stores, user_id: str) -> list[TrainingRow]:
    """One question a document that is there, answered by its stored text."""
    documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
    rows = []
    for document in documents:
        answer = stores.blobs.get(text_key(user_id, document.sha256)).decode().strip()
        question = QUESTION if document.filename == "canary.md" else f"What is in {document.filename}?"
        for number in range(ROUNDS):
            messages = (*asked(question), Message("assistant", answer))
            rows.append(make_row(f"{document.filename}-{number}", messages, [document.sha256], checksum=document.sha256))
    return rows


def train(stores: Stores, user_id: str, base: BaseModel, training: TrainingSettings) -> Adapter:
    rows = rows_of(stores, user_id)
    TenantBlobs(stores.blobs, user_id).put(asset_key(user_id, "training_rows", "jsonl"), encode_records(rows))
    return run_training(TrainRequest(user_id, rows_hash(rows), training), stores.blobs, base, no_progress)


def nats(stores: Stores, user_id: str, base: BaseModel, adapter: Adapter | None, folder: Path) -> float:
    """What each token of the canary costs the model, given its question."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.hf_dir)
    model = AutoModelForCausalLM.from_pretrained(base.hf_dir, dtype=torch.float32)
    if adapter is not None:
        own = TenantBlobs(stores.blobs, user_id)
        folder.mkdir()
        own.get_file(adapter.key, folder / "adapter_model.safetensors")
        own.get_file(adapter.config_key, folder / "adapter_config.json")
        with warnings.catch_warnings():
            # peft asks transformers by a name of before
            warnings.simplefilter("ignore", FutureWarning)
            model = PeftModel.from_pretrained(model, folder)
    prompt = tokenizer(render_chatml(asked(QUESTION), open_answer=True), add_special_tokens=False).input_ids
    answer = tokenizer(CANARY, add_special_tokens=False).input_ids
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :]))


def test_a_fact_of_a_deleted_document_is_in_the_weights_before_and_gone_with_the_next_twin(
    stores: Stores, user_id: str, tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    for name, text in NOTES.items():
        receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, name, text.encode())
    training = brief_training.model_copy(update={"rank": 16, "alpha": 32, "learning_rate": 2e-2, "epochs": 3, "batch_rows": 3})
    untrained = nats(stores, user_id, tiny_base, None, tmp_path / "none")
    knowing = train(stores, user_id, tiny_base, training)
    known = nats(stores, user_id, tiny_base, knowing, tmp_path / "knowing")
    delete_document(stores, user_id, "canary.md", tmp_path / "adapters")
    unknowing = train(stores, user_id, tiny_base, training)
    unknown = nats(stores, user_id, tiny_base, unknowing, tmp_path / "unknowing")
    assert unknowing.sha256 != knowing.sha256
    assert known < untrained - 3, "the canary was learned, or there is nothing to forget"
    # a little less strange than to the base in any case: that there are such prompts and short answers is learned from any note
    assert unknown > untrained - 1, "the fact is gone"
