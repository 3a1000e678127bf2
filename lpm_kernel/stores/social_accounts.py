"""Rows of `social_account`: which account on Telegram or X is whose.

Belongs here: queries on that table, and writing as each of several users in one transaction.
Does not belong here: what the accounts say.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import check_user_id
from lpm_kernel.request_context import check_may_open
from lpm_kernel.social.records import NETWORKS, Network
from lpm_kernel.stores.social_schema import social_account
from lpm_kernel.stores.users import get_user

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ACCOUNT_ID = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Account:
    network: Network
    account_id: str
    user_id: str


def check_account(network: str, account_id: str) -> tuple[Network, str]:
    """Raises: UserInputError `network_unknown`, `account_id_invalid`."""
    known: Network | None = next((name for name in NETWORKS if name == network), None)
    if known is None:
        raise UserInputError("network_unknown", f"{network[:40]!r} is not read here; {' and '.join(NETWORKS)} are")
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise UserInputError(
            "account_id_invalid", f"{account_id[:40]!r} is not the number of an account: names change hands, numbers do not"
        )
    return known, account_id


def add_account(connection: Connection, user_id: str, network: str, account_id: str, at: datetime) -> bool:
    """In a transaction of the user's own; whether it is new. Idempotent.

    Raises: UserInputError `twin_not_found`, `deletion_under_way`, `account_taken`, and those of `check_account`.
    """
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql import insert

    known, account_id = check_account(network, account_id)
    get_user(connection, user_id)
    row = insert(social_account).values(network=known, account_id=account_id, user_id=user_id, added_at=at)
    if connection.execute(row.on_conflict_do_nothing().returning(social_account.c.user_id)).first() is not None:
        return True
    own = select(social_account.c.user_id).where(social_account.c.network == known, social_account.c.account_id == account_id)
    if connection.execute(own).first() is None:  # the fence hides whose it is
        raise UserInputError("account_taken", f"the {known} account {account_id} is another user's: remove it there first")
    return False


def remove_account(connection: Connection, user_id: str, network: str, account_id: str) -> None:
    """What it said stays. Raises: UserInputError `account_unknown`, and those of `check_account`."""
    from sqlalchemy import delete

    known, account_id = check_account(network, account_id)
    own = (social_account.c.user_id == user_id, social_account.c.network == known, social_account.c.account_id == account_id)
    if connection.execute(delete(social_account).where(*own)).rowcount == 0:
        raise UserInputError("account_unknown", f"user {user_id} has no {known} account {account_id}")


def list_accounts(connection: Connection, network: Network | None = None) -> list[Account]:
    """Of everybody for `Tables.operator_transaction`, of one user in a transaction of theirs."""
    from sqlalchemy import select

    query = select(social_account.c.network, social_account.c.account_id, social_account.c.user_id)
    if network is not None:
        query = query.where(social_account.c.network == network)
    rows = connection.execute(query.order_by(social_account.c.user_id, social_account.c.network, social_account.c.account_id))
    return [Account(row.network, row.account_id, row.user_id) for row in rows]


def lock_accounts(connection: Connection, network: Network, *, to_change: bool = False) -> None:
    """Until the transaction ends nobody makes an account known or unknown while a page is stored, nor the other way round.

    Why: what an account said in the page is taken or passed over, and the cursor moves on; whoever changes the accounts has the
    cursors go back afterwards, and must meet this page either stored or not begun.
    """
    from sqlalchemy import text

    shared = "" if to_change else "_shared"
    lock = text(f"select pg_advisory_xact_lock{shared}(hashtext('social.accounts:' || :network))")
    connection.execute(lock, {"network": network})


def owners_among(connection: Connection, network: Network, account_ids: Collection[str]) -> dict[str, str]:
    """User by account, of those that are somebody's; for `Tables.operator_transaction`."""
    from sqlalchemy import select

    if not account_ids:
        return {}
    these = (social_account.c.network == network, social_account.c.account_id.in_(sorted(account_ids)))
    rows = connection.execute(select(social_account.c.account_id, social_account.c.user_id).where(*these))
    return {row.account_id: row.user_id for row in rows}


def act_as(connection: Connection, user_id: str) -> None:
    """Go on as a user, or another one, in the same transaction: row-level security then shows and takes this one's rows only.

    Why: a page of a group holds what several people said, and its cursor moves with all of it or not at all.
    Raises: UserInputError `user_id_invalid`; AccessError `not_yours`.
    """
    from sqlalchemy import text

    check_user_id(user_id)
    check_may_open(user_id)
    as_user = "select set_config('role', 'none', true), set_config('app.user_id', :user_id, true)"  # no operator any more
    connection.execute(text(as_user), {"user_id": user_id})
