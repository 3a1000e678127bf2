"""Twins that can be asked without a training: demo people under any id, with a release and an adapter nobody trained."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml

from bench.people import DATA, silent
from lpm_kernel.artefacts import encode_record, encode_records
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L0.voice import build_voice_profile
from lpm_kernel.L1.biography import write_biography
from lpm_kernel.L1.shades import make_shades
from lpm_kernel.L1.topic_update import update_topics
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.layout import asset_key, gguf_key
from lpm_kernel.records import Release, User
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user

RANK = 8
SPREAD = 0.01
"""Of the adapter's weights: small, so that the base's words stay sensible."""


def serve_person(stores: Stores, person: str, user_id: str, base: BaseModel, seed: int) -> list[str]:
    """Make this user a copy of a demo person whose twin serves; questions that its documents answer."""
    about = yaml.safe_load((DATA / "users" / "people.yaml").read_text(encoding="utf-8"))[person]
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, about["name"]))
    for path in sorted((DATA / about["documents"]).iterdir()):
        receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, path.name, path.read_bytes())
    documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, silent)
    chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
    texts = fetch_texts(chunks, stores.blobs)
    items = chunk_texts(chunks, texts)
    table, _ = embed_chunks(items, stores.embedder, None, silent)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    topics, _, _ = update_topics(items, table, stores.settings.topics, [], None)
    shades = make_shades(items, table, topics, stores.settings.topics.shade_similarity, documents)
    readable = [document for document in documents if document.sha256 in texts]
    voice = build_voice_profile(user_id, readable, texts, extract_preferences(readable, chunks, texts))
    blobs = TenantBlobs(stores.blobs, user_id)
    blobs.put(asset_key(user_id, "topics", "jsonl"), encode_records(topics))
    blobs.put(asset_key(user_id, "biography", "json"), encode_record(write_biography(user_id, shades)))
    blobs.put(asset_key(user_id, "voice_profile", "json"), encode_record(voice))
    with tempfile.TemporaryDirectory() as folder:
        adapter = make_adapter(base, Path(folder), seed)
        sha256 = file_sha256(adapter)
        blobs.put_file(gguf_key(user_id, sha256), adapter)
    release = Release(
        release_id=f"bench-{user_id}",
        user_id=user_id,
        documents_sha256="d",
        chunker="c",
        embedding_fingerprint=table.fingerprint,
        memory_generation=generation_of(table),
        topics_sha256="t",
        rows_sha256="r",
        adapter_sha256="a",
        gguf_sha256=sha256,
        gguf_key=gguf_key(user_id, sha256),
        base_sha256=base.sha256,
        evaluation={},
        created_at=datetime.now(UTC),
        documents=tuple(document.sha256 for document in documents),
    )
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, release)
    golden = parse_golden((DATA / about["golden"]).read_bytes())
    return [question.question for question in golden.questions]


def make_adapter(base: BaseModel, folder: Path, seed: int) -> Path:
    """A GGUF adapter of small random weights on every attention layer."""
    from safetensors.numpy import save_file

    shape = json.loads((base.hf_dir / "config.json").read_text(encoding="utf-8"))
    hidden = shape["hidden_size"]
    narrow = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    chance = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for layer in range(shape["num_hidden_layers"]):
        for target, rows in (("q_proj", hidden), ("k_proj", narrow), ("v_proj", narrow), ("o_proj", hidden)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            weights[f"{name}.lora_A.weight"] = (SPREAD * chance.standard_normal((RANK, hidden))).astype(np.float32)
            weights[f"{name}.lora_B.weight"] = (SPREAD * chance.standard_normal((rows, RANK))).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    convert_adapter(folder / "adapter_model.safetensors", folder / "adapter_config.json", base, folder / "adapter.gguf")
    return folder / "adapter.gguf"
