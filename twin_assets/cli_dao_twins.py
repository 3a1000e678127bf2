"""`twin dao`: what twins do in votes.

Belongs here: the commands about consent, and about what twins cast.
Does not belong here: the other commands of votes (`cli_dao.py`), and deciding anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lpm_kernel.settings import Settings
from lpm_kernel.stores.dao_consent import MODES
from twin_assets.cli_home import opened_stores, with_engines


@click.command()
@click.argument("member")
@click.option(
    "--mode", type=click.Choice(MODES), help="never: not at all; draft: only drafts; autonomous: under the conditions."
)
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Under it the twin only drafts.")
@click.option("--topic", "topics", multiple=True, help="Only on this topic; may be given several times.")
@click.option("--every-topic", is_flag=True, help="On any topic again.")
@click.option("--own-proposals/--no-own-proposals", default=None, help="Whether on what its person proposed.")
@click.option("--max-weight", type=click.IntRange(min=0), help="With more weight the twin only drafts.")
@with_engines
def consent(
    settings: Settings,
    home: Path,
    member: str,
    mode: Any,
    min_confidence: float | None,
    topics: tuple[str, ...],
    every_topic: bool,
    own_proposals: bool | None,
    max_weight: int | None,
) -> None:
    """What a person lets their twin do in votes; without an option, what they have said."""
    from dataclasses import replace

    from lpm_kernel.stores.dao_consent import get_consent, set_consent
    from lpm_kernel.stores.users import get_user

    if topics and every_topic:
        raise click.UsageError("--topic and --every-topic exclude each other")
    asked = {"mode": mode, "min_confidence": min_confidence, "own_proposals": own_proposals, "max_weight": max_weight}
    changed: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if topics or every_topic:
        changed["topics"] = topics or None
    with opened_stores(settings) as stores, stores.tables.transaction(member) as connection:
        get_user(connection, member)
        said = get_consent(connection, member)
        if changed:
            said = set_consent(connection, replace(said, **changed), datetime.now(UTC))
    since = f"since {said.changed_at:%Y-%m-%d %H:%M}" if said.changed_at else "as for everybody who has said nothing"
    click.echo(f"{member}: {said.mode}, {since}")
    if said.mode == "autonomous":
        on = ", ".join(said.topics) if said.topics is not None else "every topic"
        own = "own proposals too" if said.own_proposals else "no proposal of their own"
        weight = f", weight up to {said.max_weight}" if said.max_weight is not None else ""
        click.echo(f"  confidence from {said.min_confidence:g}, {on}, {own}{weight}")


@click.command("twin-vote")
@click.argument("member")
@click.argument("proposal_id")
@with_engines
def twin_vote(settings: Settings, home: Path, member: str, proposal_id: str) -> None:
    """Let a person's twin weigh a proposal by their memory, and cast or draft a ballot as its person allows."""
    from lpm_kernel.dao.service import open_dao
    from lpm_kernel.dao.twin_ballots import cast_twin_ballot, reason_lines
    from lpm_kernel.L2.engine import open_llm

    with opened_stores(settings) as stores:
        llm = open_llm(settings, lambda share, words: None)
        try:
            told = cast_twin_ballot(open_dao(stores), stores, llm, member, proposal_id)
        finally:
            llm.close()
    weighed = f": {told.stance.choice}, confidence {told.stance.confidence:.2f}" if told.stance else ""
    click.echo(f"{told.outcome}{weighed} ({told.why})")
    for line in reason_lines(told.stance, settings.stance, for_others=False) if told.stance else ():
        click.secho(f"  {line.leans} {line.weight:.2f}: {line.said} ({line.line.source})", dim=True)


@click.command()
@with_engines
def alignment(settings: Settings, home: Path) -> None:
    """How often twins chose as their people did, where both have chosen."""
    from lpm_kernel.dao.alignment import measure_alignment
    from lpm_kernel.dao.service import open_dao

    with opened_stores(settings) as stores:
        report = measure_alignment(open_dao(stores), stores.tables)
    for name, found in (("all", report.overall), *report.by_user.items()):
        low, high = found.interval
        share = "nothing to compare" if found.share is None else f"{found.share:.0%} [{low:.0%}, {high:.0%}]"
        click.echo(
            f"{name}: {found.same} of {found.compared} the same, {share}, {found.opposed} opposed, {found.vetoed} vetoed"
        )


COMMANDS = (consent, twin_vote, alignment)
