"""Large files by way of the blob store: sent there by whoever has a signed form, then taken in like any other file.

Belongs here: promising such an upload, taking it in, and clearing away what nobody came back for.
Does not belong here: what is taken in and what is refused (`intake.py`).

What was promised lies beside the file, in the store: an upload is finished by any process, and is swept by its age alone.

A form that was signed cannot be taken back: S3 knows no use of it but until its time is over, and its policy none that looks at
what is there. So it may be sent with again after its upload was taken in. Nothing reads what comes then; it is removed when the
upload is finished again, at the next promise of its user, and with whatever is swept.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lpm_kernel.artefacts import decode_record, encode_record
from lpm_kernel.errors import AccessError, IngestionError, StoreError, UserInputError
from lpm_kernel.L0.intake import check_filename, receive_file
from lpm_kernel.L0.read import mime_of
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.layout import staging_key, staging_prefix, staging_record_key
from lpm_kernel.records import check_user_id
from lpm_kernel.settings import LimitSettings
from lpm_kernel.stores.blobs import DirectUpload, TenantBlobs
from lpm_kernel.stores.deletions import check_not_going
from lpm_kernel.stores.locks import Lease
from lpm_kernel.stores.open import Stores

MAX_OPEN = 20
"""Promises of one user at a time: each is room in the store that nobody has looked at yet."""
OPEN_TIMES = 2
"""Of the largest file that may be sent: as much room all of them have together."""
WAIT_S = 5.0
"""How long one who finishes an upload waits for another who is taking it in, before they are told to ask again."""
LEASE_S = 600.0
"""After which one who finishes an upload and says nothing is taken for dead; fetching a large file says nothing for longest."""
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """`result` is None until it was taken in."""

    upload_id: str
    filename: str
    size_bytes: int
    sha256: str | None
    created_at: datetime
    result: UploadResult | None = None


@dataclass(frozen=True, slots=True)
class PromisedUpload:
    upload_id: str
    form: DirectUpload
    expires_at: datetime


def promise_upload(
    stores: Stores, user_id: str, filename: str, size_bytes: int, sha256: str | None = None, now: datetime | None = None
) -> PromisedUpload:
    """A form that one file of at most this size, and `serving.presigned_mb`, may be sent with, for `serving.upload_valid_s`.

    Raises: UserInputError `user_id_invalid`, `filename_invalid`, `sha256_invalid`, `document_empty`, `document_too_large`,
    `deletion_under_way`; AccessError `uploads_open` (retryable); IngestionError `type_unknown`; StoreError.
    """
    check_user_id(user_id)
    name = check_filename(filename)
    mime_of(name)
    max_mb = _limits(stores).document_size_mb
    if size_bytes <= 0:
        raise IngestionError("document_empty", "the file has no bytes")
    if size_bytes > max_mb * 1_000_000:
        raise IngestionError("document_too_large", f"the file has {size_bytes / 1e6:.1f} MB and {max_mb} MB are allowed")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise UserInputError("sha256_invalid", "a sha256 is 64 of 0-9 and a-f")
    with stores.tables.transaction(user_id) as connection:
        check_not_going(connection, user_id)
    now, own = now or datetime.now(UTC), TenantBlobs(stores.blobs, user_id)
    waiting = _sweep(stores, user_id, now)
    room = OPEN_TIMES * max_mb * 1_000_000 - sum(other.size_bytes for other in waiting)
    if len(waiting) >= MAX_OPEN or size_bytes > room:
        lapses = min(other.created_at for other in waiting) + timedelta(hours=stores.settings.serving.staging_hours)
        raise AccessError(
            "uploads_open",
            f"{len(waiting)} uploads wait to be finished already: finish some, or come back when one is given up",
            retryable=True,
            retry_after_s=max(1.0, (lapses - now).total_seconds()),
        )
    valid_s = stores.settings.serving.upload_valid_s
    staged = StagedUpload(uuid.uuid4().hex, name, size_bytes, sha256, now)
    form = own.sign_upload(staging_key(user_id, staged.upload_id), size_bytes, valid_s)
    own.put(staging_record_key(user_id, staged.upload_id), encode_record(staged))
    return PromisedUpload(staged.upload_id, form, now + timedelta(seconds=valid_s))


def take_in_upload(stores: Stores, user_id: str, upload_id: str) -> UploadResult:
    """Take in what was sent, as any other file is, and remove it from where it waited.

    Idempotent: asked again, also at the same time, the answer is the first one. By way of the disk, so that its size is no
    matter for memory.
    Raises: UserInputError `user_id_invalid`, `upload_unknown`, `upload_missing` (nothing has arrived), `upload_damaged` (other
    bytes than were promised; they are removed, and it may be sent again); StoreError, such as `lease_held` (retryable) while
    another caller is taking it in.
    """
    _staged(stores, user_id, upload_id)  # what was never promised leases nothing
    with stores.locks.hold(user_id, f"upload {upload_id}", lease_s=LEASE_S, wait_s=WAIT_S) as lease:
        staged = _staged(stores, user_id, upload_id)
        if staged.result is None:
            staged = replace(staged, result=_take_in(stores, user_id, staged, lease))
            lease.keep()  # whoever took over has put the first answer
            TenantBlobs(stores.blobs, user_id).put(staging_record_key(user_id, upload_id), encode_record(staged))
        TenantBlobs(stores.blobs, user_id).delete(staging_key(user_id, upload_id))
    assert staged.result is not None
    return staged.result


def _take_in(stores: Stores, user_id: str, staged: StagedUpload, lease: Lease) -> UploadResult:
    own, key = TenantBlobs(stores.blobs, user_id), staging_key(user_id, staged.upload_id)
    with tempfile.TemporaryDirectory(prefix="twin-upload-") as folder:
        path = Path(folder) / "file"
        try:
            size_bytes = own.size(key)
            _check(own, key, size_bytes <= staged.size_bytes, "it is larger than was promised")
            own.get_file(key, path)
        except StoreError as error:
            if error.code != "blob_not_found":
                raise
            raise UserInputError("upload_missing", "nothing has been sent to the URL of this upload yet") from None
        _check(own, key, staged.sha256 in (None, _sha256_of(path)), "it has another sha256 than was promised")
        lease.keep()  # it may have taken long
        with path.open("rb") as file:
            return receive_file(stores.tables, stores.blobs, _limits(stores), user_id, staged.filename, file)


def sweep_staging(stores: Stores, user_id: str, now: datetime | None = None) -> int:
    """Remove uploads that are older than `serving.staging_hours`; how many are left that were not taken in.

    A file whose promise is gone goes too, and what was sent again after its upload was taken in.
    Idempotent. Raises: StoreError.
    """
    return len(_sweep(stores, user_id, now))


def _sweep(stores: Stores, user_id: str, now: datetime | None) -> list[StagedUpload]:
    """Those that are left."""
    own, now = TenantBlobs(stores.blobs, user_id), now or datetime.now(UTC)
    oldest = now - timedelta(hours=stores.settings.serving.staging_hours)
    prefix, left = staging_prefix(user_id), list[StagedUpload]()
    keys = set(own.list_keys(prefix))
    ids = {key.removeprefix(prefix).removesuffix(".json") for key in keys}
    for upload_id in sorted(ids):
        try:
            staged = decode_record(own.get(staging_record_key(user_id, upload_id)), StagedUpload)
        except StoreError as error:
            if error.code not in ("blob_not_found", "artefact_unreadable"):
                raise
            staged = None
        if staged is None or staged.created_at < oldest:
            own.delete(staging_key(user_id, upload_id))
            own.delete(staging_record_key(user_id, upload_id))
        elif staged.result is None:
            left.append(staged)
        elif (sent_again := staging_key(user_id, upload_id)) in keys:
            own.delete(sent_again)
    return left


def sweep_every_staging(stores: Stores, now: datetime | None = None) -> int:
    """As `sweep_staging`, of everybody, also of those who are known by nothing else; of how many users.

    Why all keys are looked through: who is known is no operator's to read, and somebody may have asked for a form and gone.
    """
    found = {key.split("/")[1] for key in stores.blobs.list_keys("tenant/") if key.split("/")[2:3] == ["staging"]}
    for user_id in sorted(found):
        sweep_staging(stores, user_id, now)
    return len(found)


def _staged(stores: Stores, user_id: str, upload_id: str) -> StagedUpload:
    check_user_id(user_id)
    unknown = UserInputError("upload_unknown", f"user {user_id} has no such upload, or it was given up since")
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise unknown
    try:
        return decode_record(TenantBlobs(stores.blobs, user_id).get(staging_record_key(user_id, upload_id)), StagedUpload)
    except StoreError as error:
        if error.code == "blob_not_found":
            raise unknown from None
        raise


def _limits(stores: Stores) -> LimitSettings:
    """As of any file, but for the size: what comes this way comes through no body of a request."""
    limits = stores.settings.limits
    return limits.model_copy(update={"document_size_mb": max(limits.document_size_mb, stores.settings.serving.presigned_mb)})


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(own: TenantBlobs, key: str, fits: bool, wrong: str) -> None:
    if not fits:
        own.delete(key)
        raise UserInputError("upload_damaged", f"{wrong}: send it again")
