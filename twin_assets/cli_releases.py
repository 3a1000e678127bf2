"""`twin`: releases and deletion.

Belongs here: the commands about which twin serves.
Does not belong here: the rest of the command line (`cli.py`), and work.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lpm_kernel.settings import Settings
from twin_assets.cli_home import opened_stores, with_engines

if TYPE_CHECKING:
    from lpm_kernel.records import Release
    from lpm_kernel.stores.open import Stores

COLOURS = {"live": "green", "candidate": "yellow", "retired": None, "stale": "red"}


@click.command()
@click.argument("user_id")
@with_engines
def releases(settings: Settings, home: Path, user_id: str) -> None:
    """Every release of a twin, the newest first: its state, what it scored, and why it does not serve."""
    from lpm_kernel.stores.releases import list_releases
    from lpm_kernel.stores.users import get_user

    with opened_stores(settings) as stores, stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        found = list_releases(connection, user_id)
    if not found:
        click.echo(f"user {user_id} has no release yet")
    for release in found:
        state = "stale" if release.stale_reason and release.status != "live" else release.status
        head = f"{click.style(f'{state:9}', fg=COLOURS[state])} {release.release_id[:12]} {release.created_at:%Y-%m-%d %H:%M}"
        click.echo(f"{head}  {scores_of(release)}")
        for reason in (*release.reasons, *((release.stale_reason,) if release.stale_reason else ())):
            click.secho(f"{'':10}{reason}", dim=True)


@click.command()
@click.argument("user_id")
@click.argument("release_id")
@with_engines
def promote(settings: Settings, home: Path, user_id: str, release_id: str) -> None:
    """Let this release serve, whatever its gates said; the first letters of its id are enough."""
    from lpm_kernel.L2.release import promote_again

    with opened_stores(settings) as stores:
        _tell(stores, promote_again(stores.tables, stores.blobs, stores.vectors, user_id, release_id))


@click.command()
@click.argument("user_id")
@with_engines
def rollback(settings: Settings, home: Path, user_id: str) -> None:
    """Go back to the release that was made before the one that serves."""
    from lpm_kernel.L2.release import roll_back

    with opened_stores(settings) as stores:
        _tell(stores, roll_back(stores.tables, stores.blobs, stores.vectors, user_id))


@click.command("delete-document")
@click.argument("user_id")
@click.argument("sha_or_name")
@with_engines
def delete_document(settings: Settings, home: Path, user_id: str, sha_or_name: str) -> None:
    """Delete a document, by file name or the beginning of its sha256: from memory now, from the weights with the next twin."""
    from lpm_kernel import forget
    from lpm_kernel.L2.engine import adapter_folder

    with opened_stores(settings) as stores:
        done = forget.delete_document(stores, user_id, sha_or_name, adapter_folder())
    for document in done.documents:
        click.echo(f"deleted    {document.sha256[:12]} {document.filename}")
    for release_id in done.stale_releases:
        click.echo(f"stale      release {release_id[:12]} was made from it and cannot be promoted again")
    if done.silent:
        click.echo("the twin does not answer until one is built without it")
    elif done.waiting and done.stale_releases:
        click.echo("its adapter goes on serving, without the document in reach, until a twin without it is built")
    if done.waiting:
        click.echo(f"with `twin up` running that begins by itself; else: `twin backfill {user_id}`")


COMMANDS = (releases, promote, rollback, delete_document)


def scores_of(release: Release) -> str:
    """What its evaluation counted, in a few words."""
    evaluation = release.evaluation
    correct, questions = evaluation.get("correct") or {}, evaluation.get("questions") or 0
    arms = [f"{arm} {correct[arm]}/{questions}" for arm in ("base+retrieval", "adapter+retrieval") if arm in correct]
    better = [gate["measure"] for gate in evaluation.get("gates", ()) if gate["finding"] == "better"]
    return ", ".join([*arms, *([f"better in {', '.join(better)}"] if better else [])])


def _tell(stores: Stores, release: Release) -> None:
    from lpm_kernel.L2.announce import announce_release
    from lpm_kernel.stores.webhook import open_webhook

    click.echo(f"release {release.release_id[:12]} of {release.created_at:%Y-%m-%d %H:%M} serves user {release.user_id} now")
    webhook, by_hand = open_webhook(stores.settings, breakers=stores.breakers), f"by-hand-{uuid.uuid4().hex[:8]}"
    announce_release(
        stores.tables,
        webhook,
        release,
        stores.settings.retries,
        by_hand,
        lambda words: click.secho(words, fg="yellow", err=True),
    )
