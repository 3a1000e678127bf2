"""`twin`: accounts on Telegram and X, and what people said there.

Belongs here: the commands about them, and what a person sees of each.
Does not belong here: the rest of the command line (`cli.py`), and work.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lpm_kernel.settings import Settings
from twin_assets.cli_home import opened_stores, with_engines

if TYPE_CHECKING:
    from lpm_kernel.social.documents import MadeCounts
    from lpm_kernel.social.records import Counts

NETWORK = click.Choice(["telegram", "x"])
NAMED = 10


@click.group()
def accounts() -> None:
    """Which account on Telegram or X is whose. What an account of nobody says is taken for nobody's words."""


@accounts.command("list")
@click.argument("user_id", required=False)
@with_engines
def list_of_accounts(settings: Settings, home: Path, user_id: str | None) -> None:
    """Every account, or those of one user, with how many of its messages are stored."""
    from lpm_kernel.stores.social_accounts import list_accounts
    from lpm_kernel.stores.social_messages import count_messages

    with opened_stores(settings) as stores:
        with stores.tables.operator_transaction() as connection:
            found = [account for account in list_accounts(connection) if user_id in (None, account.user_id)]
        for account in found:
            with stores.tables.transaction(account.user_id) as connection:
                counts = count_messages(connection, account.user_id)
            number = counts.get((account.network, account.account_id), 0)
            click.echo(f"{account.user_id:20} {account.network:8} {account.account_id:20} {number:7} messages")
    if not found:
        click.echo("no account is known")


@accounts.command("add")
@click.argument("user_id")
@click.argument("network", type=NETWORK)
@click.argument("account_id", metavar="NUMBER")
@with_engines
def add(settings: Settings, home: Path, user_id: str, network: str, account_id: str) -> None:
    """Make an account known as a user's: its number, since names change hands. Groups are read anew for what it said before."""
    from lpm_kernel.social.store import link_account

    with opened_stores(settings) as stores:
        new = link_account(stores.tables, user_id, network, account_id, datetime.now(UTC))
    click.echo(f"the {network} account {account_id} is {user_id}'s{'' if new else ' already'}")


@accounts.command("remove", context_settings={"ignore_unknown_options": True})
@click.argument("user_id")
@click.argument("network", type=NETWORK)
@click.argument("account_id", metavar="NUMBER")
@click.option("--withdraw", is_flag=True, help="All that it said goes too, with what was made of it.")
@with_engines
def remove(settings: Settings, home: Path, user_id: str, network: str, account_id: str, withdraw: bool) -> None:
    """Take nothing more from an account."""
    from lpm_kernel.L2.engine import adapter_folder
    from lpm_kernel.social.documents import make_documents
    from lpm_kernel.social.file_import import EVERYTHING
    from lpm_kernel.social.store import unlink_account

    with opened_stores(settings) as stores:
        gone = unlink_account(stores.tables, user_id, network, account_id, datetime.now(UTC), withdraw=withdraw)
        click.echo(f"the {network} account {account_id} is {user_id}'s no more; {gone} messages are withdrawn")
        if withdraw:
            _tell_made(make_documents(stores, user_id, adapter_folder(), EVERYTHING))


@click.command("import-telegram")
@click.argument("user_id")
@click.argument("file", type=click.Path(path_type=Path))
@with_engines
def import_telegram(settings: Settings, home: Path, user_id: str, file: Path) -> None:
    """Take in what a person said in a result.json of Telegram Desktop: one chat, or all of an account. No key needed."""
    from lpm_kernel.L2.engine import adapter_folder
    from lpm_kernel.social import file_import

    with opened_stores(settings) as stores:
        done = file_import.import_telegram(stores, user_id, file, adapter_folder(), datetime.now(UTC))
    click.echo(f"{done.chats:7} chats")
    _tell(done.counts)
    _tell_made(done.made)


@click.command("import-x-archive")
@click.argument("user_id")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public", is_flag=True, help="The account is not protected: others may hear of its posts.")
@with_engines
def import_x_archive(settings: Settings, home: Path, user_id: str, file: Path, public: bool) -> None:
    """Take in a person's posts from the archive that X sends: the zip file, its folder, or its tweets.js. No key needed. They
    are for the person alone without --public, since the archive does not say whether the account is protected."""
    from lpm_kernel.L2.engine import adapter_folder
    from lpm_kernel.social import file_import

    with opened_stores(settings) as stores:
        done = file_import.import_x_archive(stores, user_id, file, adapter_folder(), datetime.now(UTC), public=public)
    _tell(done.counts)
    _tell_made(done.made)


@click.command("import-x")
@click.argument("user_id")
@with_engines
def import_x(settings: Settings, home: Path, user_id: str) -> None:
    """Read what a person posted on X since the last time. Where X asks for a pause, the next call goes on."""
    from lpm_kernel.L2.engine import adapter_folder
    from lpm_kernel.social import x
    from lpm_kernel.social.x_client import open_x

    with opened_stores(settings) as stores, closing(open_x(settings, breakers=stores.breakers)) as reader:
        done = x.import_x(stores, user_id, reader, adapter_folder(), datetime.now(UTC))
    _tell(done.counts)
    _tell_made(done.made)
    for account_id, reason in sorted(done.failed.items()):
        click.secho(f"account {account_id} could not be read: {reason}", fg="yellow")
    if done.not_before is not None:
        when = done.not_before.astimezone(UTC)
        click.secho(f"X asks for a pause until {when:%Y-%m-%d %H:%M:%S} UTC: ask again then for the rest", fg="yellow")


COMMANDS = (accounts, import_telegram, import_x_archive, import_x)


def _tell(counts: Counts) -> None:
    told = {
        "messages are new": counts.new,
        "are edited": counts.edited,
        "are deleted": counts.deleted,
        "were known": counts.known,
        "were said in another chat too": counts.repeated,
        "came with media, which was not taken": counts.media,
        "are forwarded, reposted or a bot's": counts.not_own,
        "are of accounts of nobody here": counts.of_others.total(),
    }
    for words, number in told.items():
        if number or words == "messages are new":
            click.echo(f"{number:7} {words}")
    for account_id, number in counts.of_others.most_common(NAMED):
        click.secho(f"{'':7} account {account_id}: {number}", dim=True)


def _tell_made(made: MadeCounts) -> None:
    click.echo(f"{made.made:7} documents were made; with `twin up` running the twin learns them by itself")
    if made.withdrawn:
        click.echo(f"{made.withdrawn:7} contents were withdrawn")
    for code, number in sorted(made.refused.items()):
        click.secho(f"{number:7} were refused: {code}; `twin documents USER --refused` tells why", fg="yellow")
