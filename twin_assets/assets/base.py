"""Assets about whole models: the base that all users share, and one user's merged model.

Belongs here: what is made of a base besides the user's adapter.
Does not belong here: the chain from rows to a release (`l2_model.py`, `release.py`).
"""

from dataclasses import asdict

import dagster as dg

from lpm_kernel.artefacts import encode_record
from lpm_kernel.L2.base_model import describe_base, prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.merge import keep_merged
from lpm_kernel.L2.records import Adapter
from lpm_kernel.L2.skill import have_skill
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import load_settings
from twin_assets.failures import dagster_failures
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, progress_of, stage


@dg.asset(group_name="l2", code_version="1", kinds={"gguf", "huggingface"}, owners=["team:twin"])
def base_model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """The base model of the settings, made ready on this machine under TWIN_CACHE: an f16 GGUF, the served quantisation, and
    what training loads. One for all users, so it has no partition and no user's run waits for it: each stage prepares the base
    where it finds none. Materialized again it only looks whether all is there. Run it by `base_job`."""
    settings = load_settings()
    with dagster_failures(context.retry_number, settings.retries):
        told = describe_base(prepare_base(settings.models, cache_folder(), progress_of(context)))
    return dg.MaterializeResult(
        metadata={
            "base": told.name,
            "revision": told.revision,
            "weights_sha256": told.sha256,
            "weights_size_bytes": told.weights_size_bytes,
            "architecture": told.architecture,
            "vocabulary": told.vocabulary,
            "f16_size_bytes": told.f16.size_bytes,
            "f16_sha256": told.f16.sha256,
            "served_file": told.served.name,
            "served_size_bytes": told.served.size_bytes,
            "served_sha256": told.served.sha256,
        },
        data_version=dg.DataVersion(told.sha256),
    )


@dg.asset(group_name="l2", code_version="1", kinds={"pytorch", "huggingface"}, owners=["team:twin"], pool="training")
def skill_adapter(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """An adapter about nobody that taught the base to answer from shown lines; every user's training begins there. One for all
    users, so it has no partition. The project brings one for the base and shape of its settings; for others it is trained here,
    by `skill_job`: hours on a CPU, minutes on a GPU. Read by `lora_adapter`."""
    settings = load_settings()
    progress = progress_of(context)
    with dagster_failures(context.retry_number, settings.retries):
        base = prepare_base(settings.models, cache_folder(), progress)
        skill = have_skill(base, settings.training, settings.skill, cache_folder(), progress).skill
    return dg.MaterializeResult(
        metadata={**asdict(skill), "targets": ", ".join(skill.targets)}, data_version=dg.DataVersion(skill.sha256)
    )


@stage(group="l2", io_manager_key="json", code_version="1", kinds={"s3", "gguf"}, automatic=False, pool="training")
def merged_model(context: dg.AssetExecutionContext, stores: StoresResource, lora_adapter: Adapter) -> Made:
    """Base and adapter as one model, as Q8_0 and Q4_K_M in the blob store under the adapter's hash. For programs that load one
    file; the twin is served from `gguf_adapter`. Made only when a person asks for it; read by nobody here."""
    port = stores.stores
    progress = progress_of(context)
    base = prepare_base(port.settings.models, cache_folder(), progress)
    merged = keep_merged(port.blobs, context.partition_key, lora_adapter.sha256, base, port.settings.training.threads, progress)
    sizes = {f"{file.quantisation}_size_bytes": file.size_bytes for file in merged.files}
    keys = {f"{file.quantisation}_key": file.key for file in merged.files}
    return Made(merged, metadata={**sizes, **keys}, version=sha256_hex(encode_record(merged)))
