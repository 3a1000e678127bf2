"""What the blob store should hold of one user, beside what it holds.

Belongs here: the pure decision.
Does not belong here: reading objects (`read_blobs.py`), and putting any back (`repair.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from lpm_kernel.layout import (
    assets_prefix,
    golden_key,
    import_mark_key,
    lora_config_key,
    lora_key,
    quarantine_key,
    raw_key,
    staging_prefix,
    tenant_prefix,
    text_key,
    weight_prefixes,
    written_prefix,
)
from lpm_kernel.reconcile.findings import Cause, Finding, Kind, Outcome, Repair
from lpm_kernel.reconcile.inventory import BlobInventory, Truth
from lpm_kernel.records import is_sha256

UPLOAD = timedelta(hours=1)
"""Younger bytes without a row are perhaps of an upload that is under way: it puts them before it says so."""
STRAY = "bytes without a document"
KEPT = ("received", "read", "replaced")
BUILD_ANEW, SEND_AGAIN = "`twin backfill` builds the twin anew", "send the file again"
STAGE_FILE = re.compile(r"[a-z0-9_]+\.(json|jsonl|parquet)")
WRITTEN_FILE = re.compile(r"[\w-]+/[\w-]+\.txt")


@dataclass(frozen=True, slots=True)
class _Wanted:
    key: str
    what: str
    size_bytes: int | None = None
    remake: Repair | None = None
    cure: str = BUILD_ANEW
    """What a person can do where nothing is left that it could be made from."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: Kind
    what: str
    explained_by: Cause
    repair: Repair | None = None
    outcome: Outcome = "reported"
    by: str = ""


def decide_blobs(truth: Truth, found: BlobInventory, now: datetime) -> list[Finding]:
    """Objects that are named and lacking or damaged, and objects that nothing names."""
    sizes = {item.key: item.size_bytes for item in found.objects}
    wanted = {want.key: want for want in _wanted(truth, found, sizes)}
    verdicts: dict[_Verdict, list[str]] = {}

    def judge(verdict: _Verdict, key: str) -> None:
        verdicts.setdefault(verdict, []).append(key)

    for want in wanted.values():
        if want.key not in sizes:
            judge(_Verdict("lacking", want.what, "lost", want.remake, by="" if want.remake else want.cure), want.key)
        elif want.key in found.damaged or want.size_bytes not in (None, sizes[want.key]):
            judge(_Verdict("damaged", want.what, "lost", want.remake, by="" if want.remake else want.cure), want.key)
    for item in found.objects:
        if item.key not in wanted and (verdict := _surplus(truth, found, sizes, item.key, now - item.changed_at < UPLOAD)):
            judge(verdict, item.key)
    return [
        Finding(
            truth.user_id, "blobs", v.kind, v.what, v.explained_by, tuple(sorted(keys)), "", v.repair, v.outcome, v.by
        )
        for v, keys in verdicts.items()
    ]  # fmt: skip


def _wanted(truth: Truth, found: BlobInventory, sizes: dict[str, int]) -> Iterator[_Wanted]:
    user_id = truth.user_id
    for document in truth.documents.values():
        raw = raw_key(user_id, document.sha256)
        whole = sizes.get(raw) == document.size_bytes and raw not in found.damaged
        if document.status in KEPT:
            yield _Wanted(raw, "raw documents", document.size_bytes, cure=SEND_AGAIN)
        if document.status in ("read", "replaced") and document.text_size_bytes is not None:
            text = text_key(user_id, document.sha256)
            yield _Wanted(text, "stored texts", document.text_size_bytes, "reread_text" if whole else None, SEND_AGAIN)
        if document.status == "refused" and document.quarantined:
            yield _Wanted(quarantine_key(user_id, document.sha256), "files in quarantine", document.size_bytes, cure=SEND_AGAIN)
    for release in truth.releases:
        if not release.stale or release.status == "live":
            copy = "restore_copy" if release.gguf_sha256 in found.copies else None
            yield _Wanted(release.gguf_key, "adapters that releases serve", remake=copy)
        if release.stale:
            continue
        if release.communities_key is not None:
            same = release.communities_sha256 == found.communities_sha256
            again = "restore_communities" if same else None
            yield _Wanted(release.communities_key, "communities of releases", remake=again)
        yield _Wanted(lora_key(user_id, release.adapter_sha256), "adapters as they were trained")
        yield _Wanted(lora_config_key(user_id, release.adapter_sha256), "adapters as they were trained")
        if learned := (found.learned or {}).get(release.adapter_sha256):
            yield _Wanted(learned, "lists of learned rows")


def _surplus(truth: Truth, found: BlobInventory, there: Collection[str], key: str, young: bool) -> _Verdict | None:
    """What to say of an object that no row and no manifest asks for; None where it has another good reason to be there."""
    user_id = truth.user_id
    folder, _, name = key.removeprefix(tenant_prefix(user_id)).partition("/")
    if folder in ("raw", "text", "quarantine"):
        sha256 = name.removesuffix(".txt") if folder == "text" else name
        verdict = _of_a_document(truth, folder, sha256, young)
        untold = folder == "raw" and not (text_key(user_id, sha256) in there or quarantine_key(user_id, sha256) in there)
        if verdict is not None and verdict.what == STRAY and not young and untold and key not in found.damaged:
            # whoever sent it was never told that it is here: a row comes before that, and a text comes after the row
            by = "an upload that broke off; the same file sent again takes it up"
            return _Verdict("surplus", STRAY, "broken-off write", outcome="kept", by=by)
        return verdict
    if key in (golden_key(user_id), import_mark_key(user_id)):
        return None
    if key.startswith(staging_prefix(user_id)):
        return None  # has an age of its own at which it is swept
    if key.startswith(assets_prefix(user_id)) and STAGE_FILE.fullmatch(name):
        return None
    if key.startswith(written_prefix(user_id)) and WRITTEN_FILE.fullmatch(name):
        return None
    if key.startswith(weight_prefixes(user_id)):
        return _of_training(truth, found, folder, name)
    return _Verdict("surplus", "objects that nothing names", "unexplained")


def _of_a_document(truth: Truth, folder: str, sha256: str, young: bool) -> _Verdict | None:
    if sha256 in truth.deleted:
        return _Verdict("surplus", "objects of deleted documents", "deletion", "go_on_deleting")
    document = truth.documents.get(sha256)
    if document is not None and document.status == "refused" and folder != "text":
        return _Verdict("surplus", "copies of refused files", "refusal", "drop_copies")
    if document is not None:
        # a text that was stored and not yet marked, or of a file that was refused since, or a copy of what left quarantine
        return None
    if young:
        return _Verdict("surplus", STRAY, "pending change", outcome="waits", by="the upload they are of")
    return _Verdict("surplus", STRAY, "unexplained")


def _of_training(truth: Truth, found: BlobInventory, folder: str, name: str) -> _Verdict | None:
    hashes = re.findall(r"[0-9a-f]{64}", name)
    named = {*found.weights}
    for release in truth.releases:
        named |= {release.gguf_sha256, release.adapter_sha256, release.communities_sha256 or ""}
    if folder == "checkpoints" or "recipe-" in name or any(each in named for each in hashes):
        return None
    if hashes and is_sha256(hashes[0]):
        by = "the work of a run that published nothing"
        return _Verdict("surplus", "weights that no release names", "unreleased", outcome="kept", by=by)
    return _Verdict("surplus", "objects that nothing names", "unexplained")
