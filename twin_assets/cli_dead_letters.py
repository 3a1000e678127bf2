"""`twin dead-letters`: what failed for good is listed, tried once more, or discarded.

Belongs here: arguments, and what a person or a program sees.
Does not belong here: what is tried (`replay.py`).
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lpm_kernel.settings import Settings
from twin_assets.cli_home import opened_stores, with_engines

if TYPE_CHECKING:
    from lpm_kernel.stores.dead_letters import DeadLetter
    from lpm_kernel.stores.open import Stores
    from twin_assets.replay import Wanted


class ListsByDefault(click.Group):
    """Without the name of a command its arguments are those of `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *self.get_help_option_names(ctx)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("dead-letters", cls=ListsByDefault)
def dead_letters() -> None:
    """What failed for good and waits for a person or a later run. Without a command it is listed."""


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that choose letters."""
    for option in (
        click.option("--id", "ids", multiple=True, help="Of this id, or the beginning of it; may be repeated."),
        click.option("--stage", "stages", multiple=True, help="Of this stage; may be repeated."),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@click.argument("user_id", required=False)
@click.option("--resolved", is_flag=True, help="Those too that a later run has mended, or somebody has discarded.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@_chosen
@with_engines
def list_command(
    settings: Settings,
    home: Path,
    user_id: str | None,
    resolved: bool,
    as_json: bool,
    stages: tuple[str, ...],
    ids: tuple[str, ...],
) -> None:
    """Of one user, or of all: since when, how often it was tried, and why it failed."""
    from twin_assets.replay import find_letters

    with opened_stores(settings) as stores:
        if user_id:
            from lpm_kernel.stores.users import get_user

            with stores.tables.transaction(user_id) as connection:
                get_user(connection, user_id)
        letters = find_letters(stores, _wanted(stores, user_id, stages, ids), resolved=resolved)
    if as_json:
        click.echo(json.dumps([_as_json(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        _show(letter)
    if not letters:
        click.echo("nothing has failed for good")


@dead_letters.command("replay")
@click.argument("user_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Whatever there is, of everybody.")
@_chosen
@with_engines
def replay(
    settings: Settings, home: Path, user_id: str | None, everything: bool, stages: tuple[str, ...], ids: tuple[str, ...]
) -> None:
    """Try once more: a change is due at once, of a stage a run is queued. The letter stays until that succeeds."""
    from twin_assets.instance import open_instance
    from twin_assets.replay import find_letters, replay_letters

    _check_named(user_id, everything, stages, ids)
    with opened_stores(settings) as stores, open_instance(home, settings, os.environ) as instance:
        letters = find_letters(stores, _wanted(stores, user_id, stages, ids))
        count = replay_letters(stores, instance, letters, click.echo)
    click.echo(f"{count} are tried again")


@dead_letters.command("discard")
@click.argument("user_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Whatever there is, of everybody.")
@click.option("--reason", required=True, help="Why it needs no mending. It stays on record.")
@click.option("--by", default=getpass.getuser, help="Who says so; else the account at this machine.")
@_chosen
@with_engines
def discard(
    settings: Settings,
    home: Path,
    user_id: str | None,
    everything: bool,
    reason: str,
    by: str,
    stages: tuple[str, ...],
    ids: tuple[str, ...],
) -> None:
    """Take it off the list for good. Who did it, and why, stays on record (`list --resolved`)."""
    from twin_assets.replay import discard_letters, find_letters

    _check_named(user_id, everything, stages, ids)
    with opened_stores(settings) as stores:
        letters = find_letters(stores, _wanted(stores, user_id, stages, ids))
        click.echo(f"{discard_letters(stores, letters, by=by, reason=reason)} discarded")


def _check_named(user_id: str | None, everything: bool, stages: tuple[str, ...], ids: tuple[str, ...]) -> None:
    if everything == bool(user_id or stages or ids):
        raise click.UsageError("name a user, a --stage or an --id; or --all")


def _wanted(stores: Stores, user_id: str | None, stages: tuple[str, ...], ids: tuple[str, ...]) -> Wanted:
    from lpm_kernel.stores.dead_letters import SHARED
    from lpm_kernel.stores.users import list_user_ids
    from twin_assets.replay import Wanted

    if user_id:
        return Wanted((user_id,), frozenset(stages), ids)
    with stores.tables.operator_transaction() as connection:
        known = list_user_ids(connection)
    return Wanted((*known, SHARED), frozenset(stages), ids)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    told = {"id": letter.letter_id, **asdict(letter)}
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in told.items()}


def _show(letter: DeadLetter) -> None:
    state = "open     "
    if letter.resolved_at:
        state = "discarded" if letter.discarded_by else "resolved "
    where = f"change {letter.change_id[:8]}" if letter.change_id else f"run {letter.run_id[:8]}"
    coloured = click.style(state, fg="green" if letter.resolved_at else "red")
    told = f"{letter.user_id} {letter.stage}: {letter.attempts} attempts, {where}"
    click.echo(f"{coloured} {letter.letter_id} {letter.created_at:%Y-%m-%d %H:%M} {told}")
    click.secho(f"{'':10}{letter.code}: {letter.message}", dim=True)
    if letter.discarded_by:
        click.secho(f"{'':10}discarded by {letter.discarded_by}: {letter.discard_reason}", dim=True)
