"""`twin settings`: what is set, for a person to read and to send on.

Belongs here: how it is printed.
Does not belong here: what of it may be shown (`lpm_kernel/masking.py`).
"""

from __future__ import annotations

import click
import yaml


@click.command("settings")
@click.argument("section", required=False)
def show_settings(section: str | None) -> None:
    """Print the settings, or one section of them, and which variables are set; no secret is in it."""
    from lpm_kernel.masking import masked_settings
    from lpm_kernel.settings import load_settings, settings_path
    from lpm_kernel.stores.addresses import connection_environment, twin_home

    shown = masked_settings(load_settings(), connection_environment())
    if section is not None and section not in shown:
        raise click.ClickException(f"there is no section {section}: {', '.join(shown)}")
    click.echo(f"# {settings_path()}, home {twin_home()}")
    chosen = shown if section is None else {section: shown[section]}
    click.echo(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=120), nl=False)
