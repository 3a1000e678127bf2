"""People: making a user known to the tables and to Dagster, with their documents.

Belongs here: what `twin add-user` and the demo do.
Does not belong here: HTTP uploads (`twin_serving`), which use the same intake.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.intake import receive_file
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.layout import golden_key
from lpm_kernel.records import Refusal, User, check_user_id
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user
from twin_assets.partitions import users


def register_user(stores: Stores, instance: dg.DagsterInstance, user: User, golden: Path | None = None) -> None:
    """Add the row and the partition, and keep the golden questions if there are some. Idempotent.

    Raises: UserInputError `user_id_invalid`, `golden_invalid`, `file_unreadable`.
    """
    check_user_id(user.user_id)
    questions = read_file(golden) if golden else None
    if questions is not None:
        parse_golden(questions)
    with stores.tables.transaction(user.user_id) as connection:
        add_user(connection, user)
    if questions is not None:
        TenantBlobs(stores.blobs, user.user_id).put(golden_key(user.user_id), questions)
    instance.add_dynamic_partitions(users.name or "", [user.user_id])


def receive_folder(stores: Stores, user_id: str, folder: Path) -> Iterator[UploadResult]:
    """Take in every file of a folder, by name, one result and one row each; hidden files are passed over.

    A file that this process may not read is refused, with code `file_unreadable`, and the others go on.
    Raises: UserInputError `folder_missing`.
    """
    if not folder.is_dir():
        raise UserInputError("folder_missing", f"{folder} is not a folder")
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        try:
            with _readable(path), path.open("rb") as file:
                result = receive_file(stores.tables, stores.blobs, stores.settings.limits, user_id, path.name, file)
        except UserInputError as error:
            if error.code != "file_unreadable":
                raise
            result = UploadResult(path.name, "refused", None, 0, Refusal(error.code, error.message))
        yield result


def read_file(path: Path) -> bytes:
    with _readable(path):
        return path.read_bytes()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserInputError("file_unreadable", f"cannot read {path}: {error.strerror}") from error
