"""`twin`: everything of a person as one file, back again, and gone.

Belongs here: the commands about the whole of a user.
Does not belong here: the rest of the command line (`cli.py`), and work.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from lpm_kernel.settings import Settings
from twin_assets.cli_home import opened_stores, with_engines


@click.command("export")
@click.argument("user_id")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The zip file to write.")
@with_engines
def export(settings: Settings, home: Path, user_id: str, out: Path) -> None:
    """Write everything of a person into one zip file: documents, chats, memories, artefacts, adapters, facts."""
    from lpm_kernel.archive.write import open_export

    if not out.absolute().parent.is_dir():
        raise click.ClickException(f"there is no folder {out.absolute().parent}")
    part = out.with_name(f"{out.name}.part")
    with opened_stores(settings) as stores:
        made = open_export(stores, user_id)
        try:
            with part.open("wb") as file:
                for piece in made.pieces():
                    file.write(piece)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    _tell(made.counts)
    click.echo(f"{out.stat().st_size / 1e6:.1f} MB in {out}")


@click.command("import")
@click.argument("user_id")
@click.argument("archive", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_engines
def restore(settings: Settings, home: Path, user_id: str, archive: Path) -> None:
    """Make a new person what an exported zip file holds. It is looked through before anything is written."""
    from lpm_kernel.archive.restore import import_user

    with opened_stores(settings) as stores, archive.open("rb") as file:
        done = import_user(stores, user_id, file)
    _tell(done.counts)
    serves = "its release serves" if done.serves else "no release serves until one is built"
    click.echo(f"user {user_id} is what {done.was} was; {serves}")


@click.command("delete-user")
@click.argument("user_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_engines
def delete_user(settings: Settings, home: Path, user_id: str, yes: bool) -> None:
    """Delete a person from every store, with everything that was made of them; and their runs from Dagster."""
    from lpm_kernel import erase
    from lpm_kernel.L2.engine import adapter_folder
    from lpm_kernel.stores.deletions import find_deletion
    from twin_assets.deletions import settle_deletion
    from twin_assets.instance import open_instance

    if not yes:
        click.confirm(f"delete everything of user {user_id} for good?", abort=True)
    with opened_stores(settings) as stores:
        done = erase.delete_user(stores, user_id, adapter_folder())
        with stores.tables.transaction(user_id) as connection:
            left = find_deletion(connection, user_id)
        if not done.existed and left is None:
            click.echo(f"there is no user {user_id}")
            return
        click.echo(f"user {user_id} is deleted: {done.blobs} objects, {done.memories} memories, and every row")
        if left is not None:
            with open_instance(home, settings, os.environ) as instance:
                if not settle_deletion(instance, stores, left, adapter_folder()):
                    click.echo("a run of theirs is under way; what Dagster knows of them goes when it has ended")


COMMANDS = (export, restore, delete_user)


def _tell(counts: dict[str, int]) -> None:
    for name, count in counts.items():
        click.echo(f"{count:7} {name}")
