"""`twin dao`: proposals, votes and delegations from a shell, and the ledger looked through.

Belongs here: the commands about the DAO, and how they print.
Does not belong here: the rest of the command line (`cli.py`), and rules of any kind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lpm_kernel.dao.ballot_draft import CHOICES
from lpm_kernel.dao.records import STATUSES, Scope
from lpm_kernel.settings import Settings
from twin_assets import cli_dao_twins
from twin_assets.cli_home import opened_stores, with_engines

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.dao.records import Delegation, Resolution
    from lpm_kernel.dao.service import Dao, Standing

COLOURS = {"passed": "green", "implemented": "green", "failed": "red", "voting": "yellow"}


@click.group()
def dao() -> None:
    """Proposals, votes and delegations of everybody on this platform."""


@contextmanager
def opened_dao(settings: Settings) -> Iterator[Dao]:
    from lpm_kernel.dao.service import open_dao

    with opened_stores(settings) as stores:
        yield open_dao(stores)


@dao.command()
@click.argument("member")
@click.argument("title")
@click.argument("text", required=False)
@click.option("--text-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The text, from a file.")
@click.option("--topic", default="general", show_default=True, help="What it is about; delegations may be for one topic.")
@click.option("--amends", metavar="PROPOSAL", help="The proposal whose text it would change.")
@click.option("--draft", is_flag=True, help="Keep it to be opened later.")
@click.option("--key", help="Names this request: sent twice, it is one proposal.")
@with_engines
def propose(
    settings: Settings,
    home: Path,
    member: str,
    title: str,
    text: str | None,
    text_file: Path | None,
    topic: str,
    amends: str | None,
    draft: bool,
    key: str | None,
) -> None:
    """Put something to the vote."""
    if (text is None) == (text_file is None):
        raise click.UsageError("give the text as an argument or by --text-file")
    words = text_file.read_text(encoding="utf-8") if text_file else text or ""
    with opened_dao(settings) as of:
        proposal = of.propose(member, title, words, topic=topic, amends=amends, open=not draft, key=key)
        _tell_proposal(proposal)


@dao.command("open")
@click.argument("member")
@click.argument("proposal_id")
@with_engines
def open_(settings: Settings, home: Path, member: str, proposal_id: str) -> None:
    """Open a draft to everybody."""
    with opened_dao(settings) as of:
        _tell_proposal(of.open_proposal(member, proposal_id))


@dao.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that stand so.")
@with_engines
def list_(settings: Settings, home: Path, status: Any) -> None:
    """Every proposal, the newest last."""
    with opened_dao(settings) as of:
        found = of.proposals(status)
        for proposal in found:
            _tell_proposal(proposal)
    if not found:
        click.echo("there is no such proposal")


@dao.command()
@click.argument("proposal_id")
@with_engines
def show(settings: Settings, home: Path, proposal_id: str) -> None:
    """One proposal: its text, how the vote stands, each ballot, and where everybody's weight went."""
    from lpm_kernel.dao.heard import heard, shared_by

    with opened_dao(settings) as of:
        proposal = of.proposal(proposal_id)
        _tell_proposal(proposal)
        click.echo(proposal.text)
        click.secho(f"proposed by {proposal.proposer}, topic {proposal.topic}, rules {proposal.rules.version}", dim=True)
        if not proposal.electorate:
            return
        standing = of.standing(proposal_id)
        _tell_standing(standing)
        shared: dict[str, frozenset[str]] = {}
        for ballot, words in of.ballots(proposal_id):
            twin = (
                f" by their twin ({ballot.consent}, confidence {ballot.confidence or 0:.2f})"
                if ballot.cast_by == "twin"
                else ""
            )
            state = ", vetoed" if ballot.ballot_id in proposal.vetoed else ""
            click.echo(f"  {ballot.cast_at:%Y-%m-%d %H:%M} {ballot.voter}: {ballot.choice}{twin}{state}")
            if ballot.voter not in shared:
                shared[ballot.voter] = shared_by(of.tables, ballot.voter)
            told = heard(words, shared[ballot.voter])
            if told:
                click.secho(f"    {told}", dim=True)
            elif ballot.reasons_sha256:
                click.secho(f"    (withdrawn, sha256 {ballot.reasons_sha256})", dim=True)
        for counted in standing.counted:
            through = "" if counted.through in (None, counted.member) else f", through {counted.through}"
            click.secho(f"  {counted.member}: weight {counted.weight} {counted.choice or 'not voted'}{through}", dim=True)


@dao.command()
@click.argument("member")
@click.argument("proposal_id")
@click.argument("choice", type=click.Choice(CHOICES))
@click.option("--reasons", help="Why, in words; they can be erased, the ballot cannot.")
@click.option("--key", help="Names this request: sent twice, it is one ballot.")
@with_engines
def vote(
    settings: Settings, home: Path, member: str, proposal_id: str, choice: Any, reasons: str | None, key: str | None
) -> None:
    """Cast a person's own ballot; it takes the place of their twin's."""
    with opened_dao(settings) as of:
        cast = of.vote(member, proposal_id, choice, reasons=reasons, key=key)
    again = " (it was there already)" if cast.repeated else ""
    click.echo(f"{member} votes {cast.ballot.choice}{again}")
    if cast.resolution is not None:
        _tell_resolution(cast.proposal.title, cast.resolution)


@dao.command()
@click.argument("member")
@click.argument("proposal_id")
@with_engines
def veto(settings: Settings, home: Path, member: str, proposal_id: str) -> None:
    """Take back what a person's twin has cast."""
    with opened_dao(settings) as of:
        proposal = of.veto(member, proposal_id)
    click.echo(f"what the twin of {member} cast on {proposal.proposal_id} does not count")


@dao.command()
@click.argument("member")
@click.argument("delegate")
@click.option("--topic", help="Only for proposals of this topic.")
@click.option("--proposal", "proposal_id", help="Only for this proposal.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="In UTC; else until it is revoked.")
@click.option("--standing", is_flag=True, help="Only where a vote stalls and the person has not voted.")
@click.option("--key", help="Names this request: sent twice, it is one delegation.")
@with_engines
def delegate(
    settings: Settings,
    home: Path,
    member: str,
    delegate: str,
    topic: str | None,
    proposal_id: str | None,
    until: datetime | None,
    standing: bool,
    key: str | None,
) -> None:
    """Let somebody else's ballot carry a person's weight; their own ballot goes before it."""
    if topic is not None and proposal_id is not None:
        raise click.UsageError("--topic and --proposal exclude each other")
    scope = Scope("topic", topic) if topic is not None else Scope("proposal", proposal_id) if proposal_id else Scope("all")
    ends_at = until.replace(tzinfo=UTC) if until else None
    with opened_dao(settings) as of:
        _tell_delegation(of.delegate(member, delegate, scope, ends_at=ends_at, standing=standing, key=key))


@dao.command()
@click.argument("member")
@click.argument("delegation_id")
@with_engines
def revoke(settings: Settings, home: Path, member: str, delegation_id: str) -> None:
    """End a delegation."""
    with opened_dao(settings) as of:
        _tell_delegation(of.revoke(member, delegation_id))


@dao.command()
@click.argument("member", required=False)
@with_engines
def delegations(settings: Settings, home: Path, member: str | None) -> None:
    """Who carries whose weight: of one member, or of all."""
    with opened_dao(settings) as of:
        found = of.delegations(member)
        for each in found:
            _tell_delegation(each)
    if not found:
        click.echo("nobody has delegated anything")


@dao.command()
@with_engines
def state(settings: Settings, home: Path) -> None:
    """What is open, how it stands, what stalls, and what was resolved last."""
    from lpm_kernel.dao.report import state_figures

    with opened_dao(settings) as of:
        dashboard = of.dashboard()
        ended = {resolution.proposal_id for resolution in dashboard.resolved}
        titles = {proposal.proposal_id: proposal.title for batch in of.batches(ended) for proposal in batch} if ended else {}
    click.echo(", ".join(f"{words} {number:g}" for words, number in state_figures(dashboard).items()))
    for standing in dashboard.open:
        _tell_proposal(standing.proposal)
        if standing.proposal.electorate:
            _tell_standing(standing)
    for resolution in dashboard.resolved:
        _tell_resolution(titles.get(resolution.proposal_id, ""), resolution)


@dao.command()
@with_engines
def audit(settings: Settings, home: Path) -> None:
    """Recompute hashes, states, tallies and resolutions from the ledger's events. Exit code 1 where something is broken; what
    code of other rules decided is named, and breaks nothing."""
    from lpm_kernel.dao.audit import audit as recompute

    with opened_dao(settings) as of:
        report = recompute(of)
    counted = f"{report.events} events, {report.proposals} proposals, {report.resolutions} resolutions"
    click.secho(f"{'whole ' if report.ok else 'BROKEN'} {counted} recomputed", fg="green" if report.ok else "red")
    for line in (*report.broken, *report.other_rules):
        click.echo(f"       {line}")
    sys.exit(0 if report.ok else 1)


@dao.command()
@click.argument("proposal_ids", nargs=-1)
@with_engines
def advance(settings: Settings, home: Path, proposal_ids: tuple[str, ...]) -> None:
    """Do what the clock asks for, for these proposals and for all that are due, as the sensor does it."""
    from lpm_kernel.dao.clockwork import turn_clock
    from lpm_kernel.dao.service import open_dao

    with opened_stores(settings) as stores:
        of = open_dao(stores)
        turn = turn_clock(of, stores.graph, proposal_ids, click.echo)
        for resolution in turn.resolved:
            _tell_resolution(of.proposal(resolution.proposal_id).title, resolution)
    click.echo(f"{turn.looked_at} looked at, {len(turn.happened)} events, {turn.projected} told to the graph")
    sys.exit(1 if turn.failed or turn.not_projected else 0)


@dao.command()
@click.option("--again", is_flag=True, help="From the first event on: for a graph that was emptied, or is another.")
@with_engines
def project(settings: Settings, home: Path, again: bool) -> None:
    """Tell the graph what has happened since it was told last."""
    from lpm_kernel.dao.projection import project_due, tell_again
    from lpm_kernel.dao.service import open_dao

    with opened_stores(settings) as stores:
        told = (tell_again if again else project_due)(open_dao(stores), stores.graph)
    click.echo(f"{told} events told to the graph")


@dao.command()
@click.argument("member")
@with_engines
def notices(settings: Settings, home: Path, member: str) -> None:
    """What waits for a person: votes, ballots of their twin that they may take back, drafts."""
    from lpm_kernel.dao.report import in_words

    with opened_dao(settings) as of:
        at = of.clock()
        found = of.notices(member, at)
    for each in found:
        what = {"vote_waits": "no vote yet", "twin_cast": "their twin votes", "draft_waits": "their twin drafted"}[each.kind]
        left = in_words((each.until - at).total_seconds())
        click.echo(f"{each.proposal_id} {each.title}: {what}{f' {each.choice}' if each.choice else ''}, {left} left")
    if not found:
        click.echo(f"nothing waits for {member}")


for command in cli_dao_twins.COMMANDS:
    dao.add_command(command)


def _tell_proposal(proposal: ProposalState) -> None:
    status = click.style(f"{proposal.status:11}", fg=COLOURS.get(proposal.status))
    ends = f", until {proposal.ends_at:%Y-%m-%d %H:%M}" if proposal.status == "voting" and proposal.ends_at else ""
    reason = f" ({proposal.ended_why})" if proposal.ended_why else ""
    click.echo(f"{status} {proposal.proposal_id} {proposal.title}{ends}{reason}")


def _tell_standing(standing: Standing) -> None:
    from lpm_kernel.dao.report import in_words

    tally = standing.tally
    left = f", {in_words(standing.time_left_s)} left" if standing.proposal.status == "voting" else ""
    stalls = click.style(", stalls", fg="red") if standing.stalled else ""
    click.echo(
        f"  for {tally.for_}, against {tally.against}, abstain {tally.abstain} of {tally.electorate}: "
        f"turnout {standing.turnout_percent:.0f} %, {tally.voters} voted, {tally.represented} represented{left}{stalls}"
    )


def _tell_resolution(title: str, resolution: Resolution) -> None:
    tally, when = resolution.tally, f"{resolution.resolved_at:%Y-%m-%d %H:%M:%S}"
    outcome = click.style(f"{resolution.outcome:11}", fg=COLOURS[resolution.outcome])
    click.echo(
        f"{outcome} {resolution.proposal_id} {title}: {resolution.reason}, for {tally.for_}, against {tally.against}, "
        f"abstain {tally.abstain} of {tally.electorate}, closed by {resolution.closed_by} {when}"
    )


def _tell_delegation(delegation: Delegation) -> None:
    scope = delegation.scope
    what = "everything" if scope.kind == "all" else f"{scope.kind} {scope.of}"
    until = f", until {delegation.ends_at:%Y-%m-%d %H:%M}" if delegation.ends_at else ""
    how = ", where a vote stalls" if delegation.standing else ""
    ended = f", revoked {delegation.revoked_at:%Y-%m-%d %H:%M}" if delegation.revoked_at else ""
    click.echo(f"{delegation.delegation_id} {delegation.delegator} to {delegation.delegate} for {what}{how}{until}{ended}")
