"""The demo's end: a proposal on which two twins vote, and a human who overrides their own.

Belongs here: the order of that vote, what it prints, and its own checks.
Does not belong here: voting; it calls what the API and `twin dao` call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from lpm_kernel.artefacts import decode_table
from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.events import Event, kind_of, proposal_of
from lpm_kernel.dao.evidence import Memory, memory_of
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.report import in_words, resolved_vote
from lpm_kernel.dao.service import Dao, open_dao
from lpm_kernel.dao.tally import counting_ballots
from lpm_kernel.dao.twin_ballots import TwinBallot, cast_twin_ballot, reason_lines
from lpm_kernel.errors import RetrievalError, UserInputError
from lpm_kernel.L0.embed import generation_of
from lpm_kernel.L2.engine import open_llm
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.layout import asset_key
from lpm_kernel.records import User
from lpm_kernel.stance_settings import StanceSettings
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.dao_consent import Consent, get_consent, set_consent
from lpm_kernel.stores.documents import deleted_documents, shared_documents
from lpm_kernel.stores.open import Stores
from twin_assets.definitions import build_defs
from twin_assets.in_process import QUIET, was_interrupted
from twin_assets.people import receive_folder, register_user

Say = Callable[[str], None]

REFERENCE = "P-09"
"""How the people's own documents, and the golden opinions, name it."""
TITLE = "P-09: the metal printer"
TEXT = "The works buys the Aurora M2 for £184,000: a printer that makes parts of metal powder, and with it a room to put it in."
OVERRIDE: Choice = "against"
"""Of two equal voices one against is enough, so the vote is over with this ballot and nobody waits for its 72 hours."""
MEMORY = ("raw_documents", "chunks", "embeddings")


@dataclass(frozen=True, slots=True)
class Voter:
    """One demo person. `stance`: what they wrote of the proposal, as the golden opinions say, to check their twin by."""

    user_id: str
    name: str
    documents: Path
    golden: Path
    stance: str


def read_voters(people: Mapping[str, Mapping[str, Any]], data: Path) -> list[Voter]:
    voters: list[Voter] = []
    for user_id, about in people.items():
        golden = data / about["golden"]
        (side,) = [
            stance.side for stance in parse_golden(golden.read_bytes()).stances if stance.about.startswith(f"{REFERENCE},")
        ]
        voters.append(Voter(user_id, about["name"], data / about["documents"], golden, str(side)))
    return voters


def vote_in_demo(stores: Stores, instance: dg.DagsterInstance, voters: list[Voter], say: Say) -> bool:
    """Whether the vote went its way and its ledger is whole. The twins vote first, and then one person against their own."""
    settings = stores.settings
    stores = replace(stores, settings=settings.model_copy(update={"dao": settings.dao.model_copy(update={"veto_hours": 0})}))
    dao = open_dao(stores)
    memories = {voter.user_id: _memory(stores, instance, voter, say) for voter in voters}
    proposal = dao.propose(voters[0].user_id, TITLE, TEXT, topic="machines")
    say(f"  {voters[0].name} proposes {TITLE}\n    {TEXT}\n    proposal {proposal.proposal_id}, rules {proposal.rules.version}")
    say(
        f"  for this vote alone dao.veto_hours is 0 in place of {settings.dao.veto_hours}, so that twins' ballots count at once"
    )
    twins: dict[str, TwinBallot] = {}
    llm = open_llm(settings, lambda share, words: None)
    try:
        for voter in voters:
            user_id, own = voter.user_id, memories[voter.user_id]
            with _letting_vote(stores, user_id):
                twins[user_id] = cast_twin_ballot(dao, stores, llm, user_id, proposal.proposal_id, memory=own)
            _print_twin(voter, twins[user_id], settings.stance, say)
    finally:
        llm.close()
    _print_tally(dao, proposal.proposal_id, say)
    human = next(voter for voter in voters if voter.stance != OVERRIDE)
    began = time.perf_counter()
    dao.vote(human.user_id, proposal.proposal_id, OVERRIDE, reasons="I have slept on it: the orders first.")
    took_s = time.perf_counter() - began
    say(f"  {human.name} votes in person, {OVERRIDE}: it takes the place of their twin's ballot")
    return _conclude(dao, stores, instance, proposal.proposal_id, voters, twins, human, took_s, say)


def _memory(stores: Stores, instance: dg.DagsterInstance, voter: Voter, say: Say) -> Memory:
    """Of the live release; of who has none their documents are read, cut and embedded, and no adapter is trained."""
    try:
        return memory_of(stores, voter.user_id)[0]
    except UserInputError as error:
        if error.code not in ("twin_not_found", "no_release"):
            raise
    user_id = voter.user_id
    register_user(stores, instance, User(user_id, voter.name), voter.golden)
    received = sum(result.status in ("stored", "duplicate") for result in receive_folder(stores, user_id, voter.documents))
    job = build_defs(stores.settings).resolve_job_def("twin_job")
    chosen = [dg.AssetKey(name) for name in MEMORY]
    result = job.execute_in_process(
        instance=instance, partition_key=user_id, asset_selection=chosen, raise_on_error=False, run_config=QUIET
    )
    if was_interrupted(result):
        raise KeyboardInterrupt
    if not result.success:
        raise RetrievalError("memory_not_built", f"the documents of {voter.name} could not be made a memory: see the run")
    table = decode_table(TenantBlobs(stores.blobs, user_id).get(asset_key(user_id, "embeddings", "parquet")))
    say(
        f"  {voter.name} has no twin here: {received} documents become a memory, and no adapter ({len(table.chunk_ids)} chunks)"
    )
    with stores.tables.transaction(user_id) as connection:
        shared, deleted = shared_documents(connection, user_id), deleted_documents(connection, user_id)
    return Memory(user_id, generation_of(table), table.fingerprint, deleted, shared)


@contextmanager
def _letting_vote(stores: Stores, user_id: str) -> Iterator[None]:
    """Consent as a person gives it by `twin dao consent` or the API; afterwards what they had said before."""
    allowed = Consent(user_id, "autonomous", stores.settings.stance.min_confidence, own_proposals=True)
    with stores.tables.transaction(user_id) as connection:
        before = get_consent(connection, user_id)
        set_consent(connection, allowed, datetime.now(UTC))
    try:
        yield
    finally:
        with stores.tables.transaction(user_id) as connection:
            set_consent(connection, before, datetime.now(UTC))


def _print_twin(voter: Voter, told: TwinBallot, settings: StanceSettings, say: Say) -> None:
    stance = told.stance
    if told.ballot is None or stance is None:
        say(f"  the twin of {voter.name}: {told.outcome} ({told.why})")
        return
    say(f"  the twin of {voter.name} votes {told.ballot.choice}, confidence {stance.confidence:.2f} ({told.why})")
    for line in reason_lines(stance, settings, for_others=False)[:2]:
        say(f"    {line.said}\n      cited: {line.line.source}")


def _print_tally(dao: Dao, proposal_id: str, say: Say) -> None:
    standing = dao.standing(proposal_id)
    tally, left = standing.tally, in_words(standing.time_left_s)
    say(
        f"  so far: for {tally.for_}, against {tally.against}, abstain {tally.abstain} of {tally.electorate}, "
        f"{left} left; while a person may still vote, nothing is decided"
    )


def _conclude(
    dao: Dao,
    stores: Stores,
    instance: dg.DagsterInstance,
    proposal_id: str,
    voters: list[Voter],
    twins: dict[str, TwinBallot],
    human: Voter,
    took_s: float,
    say: Say,
) -> bool:
    proposal = dao.proposal(proposal_id)
    if proposal.resolution is not None:
        ended = resolved_vote(proposal, proposal.resolution)
        tally = f"for {ended.for_}, against {ended.against}, abstain {ended.abstain} of {ended.electorate}"
        say(f"  resolution: {ended.outcome}, {ended.reason}; {tally}; closed by {ended.closed_by}")
        say(f"    on record {1000 * took_s:.0f} ms after the ballot that decided it was sent")
    else:
        say(f"  no resolution yet: others of {len(proposal.electorate)} members in this home may still vote")
    result = (
        build_defs(stores.settings)
        .resolve_job_def("dao_job")
        .execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
    )
    if was_interrupted(result):
        raise KeyboardInterrupt
    report = audit(dao)
    whole = "whole" if report.ok else f"BROKEN: {'; '.join(report.broken[:3])}"
    say(
        f"  audit: {report.events} events, {report.proposals} proposals, {report.resolutions} resolutions recomputed: "
        f"{whole}; last hash {report.last_hash[:16]}"
    )
    checks = {
        **{f"the twin of {v.name} votes as they wrote, {v.stance}": _chose(twins[v.user_id]) == v.stance for v in voters},
        "the human's ballot took the place of their twin's": _counts(proposal, human) == (OVERRIDE, "human"),
        "one resolution": [kind_of(event.happening) for event in _events(dao, proposal_id)].count("proposal_resolved") == 1,
        "the ledger is whole": report.ok,
        **{
            f"{check.check_name} on {check.asset_key.to_user_string()}": check.passed
            for check in result.get_asset_check_evaluations()
        },
    }
    say(f"  checks: {sum(checks.values())} of {len(checks)} passed")
    for claim in [claim for claim, holds in checks.items() if not holds]:
        say(f"    not so: {claim}")
    others = len(proposal.electorate) > len(voters)  # of whom some may still vote: then there is no end yet to show
    return result.success and report.ok and (others or all(checks.values()))


def _chose(told: TwinBallot) -> str | None:
    return told.ballot.choice if told.ballot else None


def _counts(proposal: ProposalState, voter: Voter) -> tuple[str, str] | None:
    counting = counting_ballots(proposal, datetime.now(UTC)).get(voter.user_id)
    return (counting.choice, counting.cast_by) if counting else None


def _events(dao: Dao, proposal_id: str) -> list[Event]:
    found: list[Event] = []
    last = 0
    while events := dao.events_after(last):
        found += [event for event in events if proposal_of(event.happening) == proposal_id]
        last = events[-1].seq
    return found
