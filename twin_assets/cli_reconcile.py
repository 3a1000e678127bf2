"""`twin reconcile`: stores compared with the tables, now and by hand.

Belongs here: the command, and what a person sees of its report.
Does not belong here: comparing (`lpm_kernel/reconcile`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from lpm_kernel.settings import Settings
from twin_assets.cli_home import opened_stores, with_engines

COLOURS = {"repaired": "green", "waits": "yellow", "kept": None, "reported": "red"}


@click.command()
@click.argument("user_id", required=False)
@with_engines
def reconcile(settings: Settings, home: Path, user_id: str | None) -> None:
    """Compare every store with the tables and repair what can be explained: of one user, or of all and what they share."""
    import os
    from functools import partial

    from lpm_kernel.L2.engine import adapter_folder
    from lpm_kernel.reconcile.findings import Report, out_of_step
    from lpm_kernel.reconcile.report import row_of
    from lpm_kernel.reconcile.run import describe, reconcile_all, reconcile_user
    from lpm_kernel.stores.users import get_user
    from twin_assets.assets.reconciliation import run_under_way
    from twin_assets.instance import open_instance
    from twin_assets.purge_day import purged_on

    with opened_stores(settings) as stores, open_instance(home, settings, os.environ) as instance:
        busy, day = partial(run_under_way, instance), purged_on(instance)
        if user_id is None:
            report = reconcile_all(stores, adapter_folder(), busy, click.echo, purged_on=day)
        else:
            with stores.tables.transaction(user_id) as connection:
                get_user(connection, user_id)
            found = reconcile_user(stores, user_id, adapter_folder(), busy, purged_on=day)
            report = Report(datetime.now(UTC), found.seconds, (found,))
            click.echo(describe(found))
    for finding in report.findings:
        user, store, kind, what, how_many, why, action, which = row_of(finding)
        state = click.style(f"{finding.outcome:8}", fg=COLOURS[finding.outcome])
        click.echo(f"{state} {user} {store}: {how_many} {kind}, {what} ({why})")
        click.secho(f"{'':9}{action}{'; ' if which else ''}{which}", dim=True)
    if not report.findings and not any(each.skipped for each in report.users):
        click.echo("every store agrees with the tables")
    if error := out_of_step(report.findings):
        raise error
