"""Where it is kept: every storage key, in one place. User first, so that one prefix is one tenant.

Belongs here: pure functions from ids to keys.
Does not belong here: reading or writing what lies there.
"""

from __future__ import annotations

import re

from lpm_kernel.errors import StoreError
from lpm_kernel.records import check_user_id


def tenant_prefix(user_id: str) -> str:
    return f"tenant/{check_user_id(user_id)}/"


def shared_key(name: str) -> str:
    """What belongs to no user; `name` never leads into a tenant's prefix."""
    if not re.fullmatch(r"shared/[\w.-]+(/[\w.-]+)*", name) or ".." in name.split("/"):
        raise StoreError("foreign_key", f"{name} does not lie under shared/", retryable=False)
    return name


def raw_key(user_id: str, sha256: str) -> str:
    return f"{tenant_prefix(user_id)}raw/{sha256}"


def text_key(user_id: str, sha256: str) -> str:
    """The stored text: UTF-8, what every byte range of a chunk points into. `sha256` is the raw file's."""
    return f"{tenant_prefix(user_id)}text/{sha256}.txt"


def quarantine_key(user_id: str, sha256: str) -> str:
    """The bytes of a file that was refused, until it can be read or is deleted."""
    return f"{tenant_prefix(user_id)}quarantine/{sha256}"


def staging_prefix(user_id: str) -> str:
    """Of files that are sent to the blob store itself, until they are taken in or their time is over."""
    return f"{tenant_prefix(user_id)}staging/"


def staging_key(user_id: str, upload_id: str) -> str:
    return f"{staging_prefix(user_id)}{upload_id}"


def staging_record_key(user_id: str, upload_id: str) -> str:
    """What was promised of such a file, and what became of it."""
    return f"{staging_prefix(user_id)}{upload_id}.json"


def import_mark_key(user_id: str) -> str:
    """There while an archive is being taken in: which one."""
    return f"{tenant_prefix(user_id)}import.json"


def document_keys(user_id: str, sha256: str) -> tuple[str, ...]:
    """Everywhere that something of one document's own may lie; deleting it deletes these."""
    return raw_key(user_id, sha256), text_key(user_id, sha256), quarantine_key(user_id, sha256)


def asset_key(user_id: str, asset: str, extension: str) -> str:
    return f"{tenant_prefix(user_id)}assets/{asset}.{extension}"


def shared_asset_key(asset: str, extension: str) -> str:
    """Of an asset of no user: what all members of the DAO have in common."""
    return shared_key(f"shared/assets/{asset}.{extension}")


def lora_key(user_id: str, sha256: str) -> str:
    return f"{tenant_prefix(user_id)}lora/{sha256}.safetensors"


def lora_config_key(user_id: str, sha256: str) -> str:
    return f"{tenant_prefix(user_id)}lora/{sha256}.config.json"


def lora_recipe_key(user_id: str, recipe: str) -> str:
    """The record of the adapter that this recipe (rows, base, settings) already gave."""
    return f"{tenant_prefix(user_id)}lora/recipe-{recipe}.json"


def lora_rows_key(user_id: str, sha256: str) -> str:
    """The checksums of the rows that this adapter has learned."""
    return f"{tenant_prefix(user_id)}lora/{sha256}.rows.json"


def checkpoint_prefix(user_id: str, recipe: str = "") -> str:
    """Of one training, or of all of a user's."""
    return f"{tenant_prefix(user_id)}checkpoints/{recipe}/" if recipe else f"{tenant_prefix(user_id)}checkpoints/"


def checkpoint_key(user_id: str, recipe: str, step: int) -> str:
    """Numbered so that the order of keys is the order of steps."""
    return f"{checkpoint_prefix(user_id, recipe)}{step:08d}.safetensors"


def gguf_key(user_id: str, sha256: str) -> str:
    return f"{tenant_prefix(user_id)}lora/{sha256}.gguf"


def merged_key(user_id: str, adapter_sha256: str, sha256: str) -> str:
    """A whole model with the adapter in it, under the adapter's hash: where the adapter goes, its folder goes."""
    return f"{tenant_prefix(user_id)}merged/{adapter_sha256}/{sha256}.gguf"


def written_key(user_id: str, purpose: str, call: str) -> str:
    """What a writer answered to one request, by the hash of the request."""
    return f"{tenant_prefix(user_id)}written/{purpose}/{call}.txt"


def dpo_key(user_id: str, sha256: str) -> str:
    """An adapter that learnt from preference pairs; beside `lora/`, since no release serves it."""
    return f"{tenant_prefix(user_id)}dpo/{sha256}.safetensors"


def dpo_config_key(user_id: str, sha256: str) -> str:
    return f"{tenant_prefix(user_id)}dpo/{sha256}.config.json"


def golden_key(user_id: str) -> str:
    return f"{tenant_prefix(user_id)}golden.yaml"


def communities_key(user_id: str, sha256: str) -> str:
    """The communities of a release, kept under their own hash while the asset's file goes on changing."""
    return f"{tenant_prefix(user_id)}communities/{sha256}.jsonl"


def weight_prefixes(user_id: str) -> tuple[str, ...]:
    """Everything that training leaves, and the communities that releases keep: what must be gone with what it was made from."""
    prefix = tenant_prefix(user_id)
    return tuple(f"{prefix}{kind}/" for kind in ("lora", "dpo", "checkpoints", "merged", "communities"))


def assets_prefix(user_id: str) -> str:
    """What stages leave for each other, words of documents among it."""
    return f"{tenant_prefix(user_id)}assets/"


def asked_for_keys(user_id: str) -> tuple[str, ...]:
    """What stages left that run only when somebody asks: no run makes it anew without a document that was deleted."""
    left = (("preference_pairs", "jsonl"), ("dpo", "json"), ("merged_model", "json"))
    return tuple(asset_key(user_id, asset, extension) for asset, extension in left)


def written_prefix(user_id: str) -> str:
    """What a language model wrote about the user's texts, kept so that it is not asked twice."""
    return f"{tenant_prefix(user_id)}written/"
