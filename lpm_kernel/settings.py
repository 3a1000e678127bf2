"""How it is set: `dagster_project.yaml` as one frozen model.

Belongs here: every number or name a person may want to change, with its bounds.
Does not belong here: secrets (only the names of environment variables) and anything that is opened or started.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from lpm_kernel.access_settings import AccessSettings
from lpm_kernel.automation_settings import SwitchSettings
from lpm_kernel.errors import SettingsError
from lpm_kernel.L2.records import Measure
from lpm_kernel.planner_settings import PlannerSettings
from lpm_kernel.settings_section import Section
from lpm_kernel.social_settings import SocialSettings
from lpm_kernel.stance_settings import StanceSettings
from lpm_kernel.store_settings import StoreSettings, StoresInSettings

SETTINGS_FILE = "dagster_project.yaml"


class ModelSettings(Section):
    base: Literal["SmolLM2-135M-Instruct", "Qwen2.5-0.5B-Instruct"]
    base_revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    base_quantisation: Literal["f16", "q8_0"]
    embedder: Literal["all-MiniLM-L6-v2-int8", "text-embedding-3-small"]
    embedder_usd_per_million_tokens: float = Field(ge=0)
    ner: Literal["en-core-web-md+rules", "en-core-web-sm+rules", "gemini"]
    gemini: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    answerer: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
    answerer_timeout_s: float = Field(gt=0)
    writer: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
    writer_usd_per_million_input_tokens: float = Field(ge=0)
    writer_usd_per_million_output_tokens: float = Field(ge=0)
    context_tokens: int = Field(ge=256, le=8192)
    answer_tokens: int = Field(ge=8, le=2048)
    slots: int = Field(ge=1, le=64)
    conversations: int = Field(ge=0, le=1024)


class ChunkingSettings(Section):
    max_tokens: int = Field(ge=16, le=2000)


class ReadingSettings(Section):
    near_duplicate_share: float = Field(gt=0, le=1)


class TopicSettings(Section):
    min_similarity: float = Field(ge=-1, le=1)
    min_chunks: int = Field(ge=1)
    rebuild_share: float = Field(ge=0, le=1)
    shade_similarity: float = Field(ge=-1, le=1)


class SalienceSettings(Section):
    half_life_days: float = Field(gt=0)
    same_meaning: float = Field(ge=-1, le=1)


class CommunitySettings(Section):
    neighbours: int = Field(ge=1, le=100)
    min_similarity: float = Field(ge=-1, le=1)
    min_chunks: int = Field(ge=1)
    max_communities: int = Field(ge=1)


class RecallSettings(Section):
    lines: int = Field(ge=1, le=50)
    keyword_weight: float = Field(ge=0, le=1)
    neighbour_weight: float = Field(ge=0, le=1)
    history_messages: int = Field(ge=0, le=50)
    memories: int = Field(ge=0, le=50)
    memory_cosine: float = Field(ge=-1, le=1)
    facts: int = Field(ge=0, le=50)
    fact_cosine: float = Field(ge=-1, le=1)
    fact_days: int = Field(ge=1)
    pack_tokens: int = Field(ge=32)
    preference_tokens: int = Field(ge=0)
    salience_weight: float = Field(ge=0, le=1)
    answer_confidence: float = Field(ge=0, le=1)
    store_timeout_s: float = Field(gt=0)


class MemoryRankingSettings(Section):
    """Shares of the fused score of a memory, of whatever sum, and the window of turns around it."""

    words: float = Field(ge=0, le=1)
    meaning: float = Field(gt=0, le=1)
    meaning_around: float = Field(ge=0, le=1)
    speaker: float = Field(ge=0, le=1)
    asking: float = Field(ge=0, le=1)
    neighbours: int = Field(ge=0, le=10)
    neighbour_weight: float = Field(ge=0, le=1)
    index_mb: int = Field(ge=1)


class GateSettings(Section):
    duplicate_cosine: float = Field(ge=-1, le=1)
    min_words: int = Field(ge=1)
    turn_days: int = Field(ge=1)


class ChangeSettings(Section):
    attempts: int = Field(ge=1)
    delay_s: float = Field(ge=0)
    longest_pause_s: float = Field(gt=0)
    poll_s: float = Field(gt=0)
    kept_days: float = Field(ge=0)


LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class MixSettings(Section):
    """Shares of the rows by kind, of whatever sum."""

    self_qa: float = Field(gt=0, le=1)
    preference: float = Field(ge=0, le=1)
    diversity: float = Field(ge=0, le=1)
    context_enhance: float = Field(ge=0, le=1)
    context_critic: float = Field(ge=0, le=1)
    refusal: float = Field(ge=0, le=1)


class TrainingSettings(Section):
    backend: Literal["torch", "mlx"]
    rank: int = Field(ge=1, le=256)
    alpha: int = Field(ge=1)
    targets: tuple[LoraTarget, ...] = Field(min_length=1)
    first_layer: int = Field(ge=0)
    epochs: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    pass_tokens: int = Field(ge=0)
    passes: Literal["packed", "padded"]
    learning_rate: float = Field(gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"]
    warmup_share: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0, lt=1)
    seed: int
    eval_rows: int = Field(ge=0)
    eval_every_steps: int = Field(ge=0)
    patience: int = Field(ge=0)
    checkpoint_every_steps: int = Field(ge=0)
    prefix_cache_mb: int = Field(ge=0)
    incremental: bool
    replay_share: float = Field(ge=0, le=1)
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16"]
    max_rows: int = Field(ge=1)
    salience_weight: float = Field(ge=0, le=1)
    mix: MixSettings
    third_person_share: float = Field(ge=0, le=1)
    held_out_share: float = Field(ge=0, lt=1)
    threads: int = Field(ge=1)


class SkillSettings(Section):
    start: bool
    draws: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    learning_rate: float = Field(gt=0, lt=1)
    seed: int


class WritingSettings(Section):
    workers: int = Field(ge=1, le=64)
    max_tokens: int = Field(ge=16, le=8192)


class DpoSettings(Section):
    beta: float = Field(gt=0)
    learning_rate: float = Field(gt=0, lt=1)
    epochs: int = Field(ge=1)


class EvaluationSettings(Section):
    max_questions: int = Field(ge=1)
    answer_tokens: int = Field(ge=4)
    batch: int = Field(ge=1, le=64)
    third_person_questions: int = Field(ge=0)
    preference_questions: int = Field(ge=0)
    context_questions: int = Field(ge=0)
    foreign_questions: int = Field(ge=0)
    canaries: int = Field(ge=0)
    judge: Literal["none", "writer"]


class ReleaseSettings(Section):
    gates: tuple[Measure, ...] = Field(min_length=1)
    worse_by: float = Field(ge=0, le=1)
    min_questions: int = Field(ge=1)
    promote_without_proof: bool
    first_release_serves: bool
    stop_serving_deleted: bool
    webhook_timeout_s: float = Field(gt=0)


class ComputeSettings(Section):
    """Where each heavy stage runs. All behind the two stages is Modal's; what `modal_app.py` reads needs a deploy."""

    lora_adapter: Literal["local", "modal"]
    gguf_adapter: Literal["local", "modal"]
    app: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")
    gpu: str = Field(pattern=r"^(none|[A-Za-z0-9-]+!?(:[1-8])?)$")
    cpu: float = Field(gt=0, le=64)
    memory_mb: int = Field(ge=512)
    timeout_s: int = Field(ge=1, le=86_400)
    retries: int = Field(ge=0, le=10)
    max_containers: int = Field(ge=1)
    volume: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")
    secret: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")
    poll_s: float = Field(gt=0)
    lookup_timeout_s: float = Field(gt=0)


class LimitSettings(Section):
    documents_per_user: int = Field(ge=1)
    social_documents_per_user: int = Field(ge=1)
    document_size_mb: int = Field(ge=1)
    quarantine_mb: int = Field(ge=0)
    pdf_seconds: int = Field(ge=1)
    pdf_memory_mb: int = Field(ge=256)
    runs_per_user: int = Field(ge=1)
    concurrent_runs: int = Field(ge=1)


class RetrySettings(Section):
    max_retries: int = Field(ge=0)
    delay_s: float = Field(ge=0)


class AutomationSettings(SwitchSettings):
    users_sensor_interval_s: int = Field(ge=1)
    catch_up_sensor_interval_s: int = Field(ge=1)
    executor: Literal["in_process", "celery"]
    celery_workers: int = Field(ge=0)


class ServingSettings(AccessSettings):
    api_port: int = Field(ge=1, le=65535)
    ui_port: int = Field(ge=1, le=65535)
    resume_s: float = Field(ge=0)
    turn_life_s: float = Field(gt=0)
    live_turns: int = Field(ge=1)
    upload_valid_s: int = Field(ge=10, le=3600)
    presigned_mb: int = Field(ge=1, le=5000)
    staging_hours: int = Field(ge=1)
    adapters_mb: int = Field(ge=1)
    in_flight_per_user: int = Field(ge=1, le=64)
    waiting_per_user: int = Field(ge=0, le=1000)
    decode_priority: Literal["nice", "idle"] = "nice"
    waiting: int = Field(ge=0, le=10_000)
    wait_s: float = Field(gt=0)
    pinned_users: tuple[str, ...]
    release_poll_s: float = Field(gt=0)
    calibration_pairs: int = Field(ge=1, le=8)
    session_rest_minutes: int = Field(ge=1)
    session_summary_messages: int = Field(ge=1)
    warm_model: bool
    keep_alive_s: int = Field(ge=1)
    max_connections: int = Field(ge=8)
    backlog: int = Field(ge=8)
    stop_grace_s: float = Field(ge=0, le=60)
    engine: Literal["local", "modal"]
    modal_app: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")
    modal_cpu: float = Field(gt=0, le=64)
    modal_memory_mb: int = Field(ge=512)
    modal_min_containers: int = Field(ge=0)
    modal_max_containers: int = Field(ge=1)
    modal_idle_s: int = Field(ge=2, le=3600)
    modal_answer_timeout_s: float = Field(gt=0)
    openai_history_messages: int = Field(ge=0, le=2048)
    openai_embedding_texts: int = Field(ge=1, le=2048)
    archive_mb: int = Field(ge=1)


class DaoSettings(Section):
    quorum_percent: int = Field(ge=0, le=100)
    abstain_counts_to_quorum: bool
    threshold_percent: int = Field(ge=1, le=100)
    discussion_hours: int = Field(ge=0, le=24 * 365)
    voting_hours: int = Field(ge=1, le=24 * 365)
    close: Literal["decided", "deadline"]
    late_quorum_hours: int = Field(ge=0)
    extension_hours: int = Field(ge=1)
    remind_at_percent: tuple[int, ...]
    standing_at_percent: int = Field(ge=1, le=100)
    extend_stalled: bool
    transitive_delegation: bool
    max_delegated: int = Field(ge=0)
    max_delegations: int = Field(ge=1, le=200)
    veto_hours: int = Field(ge=0)
    weights: dict[str, int]
    max_members: int = Field(ge=1, le=1000)
    sensor_interval_s: int = Field(ge=30)
    worker_poll_s: float = Field(ge=0, le=60)
    twins_per_look: int = Field(ge=0, le=100)
    stream_listeners: int = Field(ge=1, le=10_000)
    stream_life_s: float = Field(gt=0)


class Settings(Section):
    project: str
    profile: Literal["embedded"]
    models: ModelSettings
    reading: ReadingSettings
    chunking: ChunkingSettings
    topics: TopicSettings
    salience: SalienceSettings
    communities: CommunitySettings
    recall: RecallSettings
    memory_ranking: MemoryRankingSettings
    gate: GateSettings
    changes: ChangeSettings
    training: TrainingSettings
    skill: SkillSettings
    writing: WritingSettings
    dpo: DpoSettings
    evaluation: EvaluationSettings
    release: ReleaseSettings
    compute: ComputeSettings
    limits: LimitSettings
    retries: RetrySettings
    automation: AutomationSettings
    serving: ServingSettings
    dao: DaoSettings
    planner: PlannerSettings
    stance: StanceSettings
    social: SocialSettings
    stores_in: StoresInSettings
    stores: StoreSettings


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: the file is read at every stage, and Python's own takes a fifth of a second for it."""


def settings_path(environ: Mapping[str, str] | None = None) -> Path:
    """`TWIN_SETTINGS` if set, else the file in the working directory, else the one beside the packages."""
    named = (os.environ if environ is None else environ).get("TWIN_SETTINGS")
    if named:
        return Path(named)
    here = Path.cwd() / SETTINGS_FILE
    return here if here.exists() else Path(__file__).resolve().parent.parent / SETTINGS_FILE


def load_settings(path: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Read and check the settings file; `overrides` replaces single keys by section.

    Raises: SettingsError `settings_unreadable` (no such file, not YAML) or `settings_invalid` (each wrong key named).
    """
    path = path or settings_path()
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: `2024-13-45` is a date to YAML
        raise SettingsError("settings_unreadable", f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError("settings_invalid", f"{path} is not a mapping of sections")
    for section, values in (overrides or {}).items():
        content[section] = {**content.get(section, {}), **values}
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError("settings_invalid", f"{path}: {wrong}") from error
