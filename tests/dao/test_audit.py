"""The audit finds whatever somebody with all rights changed, and nothing where nobody did."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from lpm_kernel.dao import audit as module
from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.events import ProposalResolved, decode, encode, hash_of, kind_of
from lpm_kernel.dao.records import Resolution, Scope
from lpm_kernel.dao.rules import COUNTING, UNNUMBERED
from lpm_kernel.dao.service import CLOCK, Dao
from lpm_kernel.dao.tally import verdict
from lpm_kernel.stores.dao_ledger import Entry
from tests.dao.ledgers import Clock, Ledger

SIX = ("ada", "ben", "cleo", "dan", "eve", "fay")


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Dao:
    """A ledger with something of everything: decided, failed, cancelled, under way, weighed, delegated, extended, vetoed."""
    ledger.join(*SIX)
    dao = ledger.dao(clock, weights={"founder": 1})
    passed = dao.propose("ada", "Benches", "The park needs its benches back.", topic="parks").proposal_id
    dao.delegate("fay", "ada", Scope("topic", "parks"))
    for voter in SIX[:4]:
        clock.moves(minutes=1)
        dao.vote(voter, passed, "for", reasons=f"{voter} sits")
    dao.implement("ben", passed)
    dao.set_attributes(CLOCK, "ada", {"founder": 2})
    failed = dao.propose("ben", "Lamps", "More light.").proposal_id
    dao.vote("eve", failed, "for", cast_by="twin", confidence=0.75, consent="autonomous")
    dao.veto("eve", failed)
    given = dao.delegate("dan", "ben", Scope("all"), standing=True)
    dao.vote("ben", failed, "against")
    for _ in range(20):
        clock.moves(hours=6)
        for name in dao.due():
            dao.advance(name)
    dao.revoke("dan", given.delegation_id)
    dao.cancel("cleo", dao.propose("cleo", "Trees", "Plant some.").proposal_id, "planted")
    clock.moves(minutes=1)
    dao.vote("ada", dao.propose("ada", "Paths", "Pave them.").proposal_id, "abstain")
    assert [each.status for each in dao.proposals()] == ["implemented", "failed", "cancelled", "voting"]
    return dao


def ids(dao: Dao) -> dict[str, str]:
    return {each.title: each.proposal_id for each in dao.proposals()}


def test_nothing_is_found_where_nobody_changed_anything(dao: Dao) -> None:
    report = audit(dao)
    assert report.broken == ()
    assert report.ok
    assert (report.proposals, report.resolutions, report.ballots) == (4, 2, 7)
    last = dao.events_after(0, 1000)[-1]
    assert (report.events, report.last_seq, report.last_hash) == (last.seq, last.seq, last.hash)


def test_a_large_ledger_is_read_in_batches(dao: Dao, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audit(dao)
    monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setattr(module, "CHECKPOINTS", 2)
    assert audit(dao) == whole


def test_an_empty_ledger_is_whole(ledger: Ledger) -> None:
    assert audit(ledger.dao()).ok


def seq_of(dao: Dao, kind: str, title: str) -> int:
    from lpm_kernel.dao.events import proposal_of

    of = ids(dao)[title]
    return next(e.seq for e in dao.events_after(0, 1000) if kind_of(e.happening) == kind and proposal_of(e.happening) == of)


def forge(ledger: Ledger, seq: int, change: Callable[[dict[str, object]], None]) -> None:
    """Change one event and every hash from there on, so that the chain is whole."""
    with ledger.tables.operator_transaction() as connection:
        query = text("select seq, at, actor, kind, payload, previous_hash from dao_event where seq >= :seq order by seq")
        rows = connection.execute(query, {"seq": seq}).all()
    previous = rows[0].previous_hash
    for row in rows:
        payload = dict(row.payload)
        if row.seq == seq:
            change(payload)
        happening = decode(row.kind, payload)
        digest = hash_of(row.seq, row.at, row.actor, happening, previous)
        ledger.tampers(
            "update dao_event set payload = cast(:payload as jsonb), previous_hash = :previous, hash = :hash where seq = :seq",
            payload=json.dumps(encode(happening)),
            previous=previous,
            hash=digest,
            seq=row.seq,
        )
        previous = digest


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "update dao_event set payload = jsonb_set(payload, '{ballot,choice}', '\"against\"') where seq = {ballot}",
            "other content",
        ),
        ("update dao_event set actor = 'eve' where seq = {ballot}", "other content"),
        ("update dao_event set at = at + interval '1 second' where seq = {ballot}", "other content"),
        ("update dao_event set payload = payload || '{{\"more\": 1}}' where seq = {ballot}", "cannot be read"),
        ("update dao_event set kind = 'unheard_of' where seq = {ballot}", "cannot be read"),
        ("update dao_event set proposal_id = 'p-other' where seq = {ballot}", "beside what was hashed"),
        ("update dao_event set previous_hash = 'x' where seq = {ballot}", "does not hold the hash"),
        ("delete from dao_event where seq = {ballot}", "there is a gap"),
    ],
)
def test_a_changed_event_is_named(dao: Dao, ledger: Ledger, statement: str, found: str) -> None:
    ballot = seq_of(dao, "ballot_cast", "Benches")
    statement = statement.replace("{ballot}", str(ballot)).replace("{{", "{").replace("}}", "}")
    assert ledger.tampers(statement) == 1
    broken = audit(dao).broken
    named = ballot + 1 if "delete" in statement else ballot
    assert any(line.startswith(f"event {named}:") and found in line for line in broken), broken


def test_whoever_makes_all_hashes_anew_is_found_by_the_count(dao: Dao, ledger: Ledger) -> None:
    def other_choice(payload: dict[str, object]) -> None:
        payload["ballot"] = {**payload["ballot"], "choice": "against"}  # type: ignore[dict-item]

    forge(ledger, seq_of(dao, "ballot_cast", "Lamps"), lambda _: None)
    assert audit(dao).ok, "hashes made anew of the same are the same"
    forge(ledger, seq_of(dao, "ballot_cast", "Benches"), other_choice)
    broken = audit(dao).broken
    assert any(ids(dao)["Benches"] in line and "the ballots are" in line for line in broken), broken
    assert not any("hash" in line for line in broken)


def test_a_forged_resolution_is_found_by_its_outcome_its_rules_and_its_row(dao: Dao, ledger: Ledger) -> None:
    def passes(payload: dict[str, object]) -> None:
        payload["resolution"] = {**payload["resolution"], "outcome": "passed", "rules_version": "other"}  # type: ignore[dict-item]

    forge(ledger, seq_of(dao, "proposal_resolved", "Lamps"), passes)
    broken = [line for line in audit(dao).broken if ids(dao)["Lamps"] in line]
    for words in ("says passed", "other rules", "row of its resolution", "status"):
        assert any(words in line for line in broken), (words, broken)


def test_a_forged_electorate_is_found_by_its_weights(dao: Dao, ledger: Ledger) -> None:
    def heavier(payload: dict[str, object]) -> None:
        payload["electorate"] = {**payload["electorate"], "ada": 99}  # type: ignore[dict-item]

    seq = seq_of(dao, "voting_started", "Paths")
    forge(ledger, seq, heavier)
    assert any(f"event {seq}: weighs ada as 99" in line for line in audit(dao).broken)


def test_a_vote_that_was_put_off_against_the_rules_is_found(dao: Dao, ledger: Ledger) -> None:
    def for_longer(payload: dict[str, object]) -> None:
        payload["ends_at"] = (dao.clock() + timedelta(days=99)).isoformat()

    seq = seq_of(dao, "voting_extended", "Lamps")
    forge(ledger, seq, for_longer)
    assert any(f"event {seq}: voting_extended is not what the rules asked for" in line for line in audit(dao).broken)


@pytest.mark.parametrize(
    ("statement", "title", "found"),
    [
        ("update dao_proposal set status = 'passed' where proposal_id = :id", "Lamps", "status"),
        ("update dao_proposal set ends_at = ends_at + interval '1 hour' where proposal_id = :id", "Lamps", "ends_at"),
        ("update dao_proposal set next_due_at = next_due_at + interval '1 hour' where proposal_id = :id", "Paths", "is due at"),
        ("update dao_proposal set next_due_at = null where proposal_id = :id", "Paths", "is due at"),
        ("delete from dao_proposal where proposal_id = :id", "Paths", "has no row"),
        ("update dao_proposal set proposal_id = 'p-x' where proposal_id = :id", "Paths", "has no row"),
        ("update dao_resolution set outcome = 'passed' where proposal_id = :id", "Lamps", "row of its resolution says other"),
        ("delete from dao_resolution where proposal_id = :id", "Lamps", "no row of its resolution"),
        ("update dao_resolution set proposal_id = 'p-x' where proposal_id = :id", "Lamps", "no row of its resolution"),
    ],
)
def test_a_changed_row_beside_the_ledger_is_named(dao: Dao, ledger: Ledger, statement: str, title: str, found: str) -> None:
    name = ids(dao)[title]
    assert ledger.tampers(statement, id=name) == 1
    broken = audit(dao).broken
    assert any(f"proposal {name}" in line and found in line for line in broken), broken
    if "'p-x'" in statement:
        assert any("proposal p-x" in line and "knows nothing" in line for line in broken)


def test_changed_words_are_named_and_erased_ones_are_not(dao: Dao, ledger: Ledger) -> None:
    ledger.tampers("delete from dao_ballot_words where user_id = 'ben'")
    assert audit(dao).ok
    assert [words and words.text for _, words in dao.ballots(ids(dao)["Benches"])][:3] == ["ada sits", None, "cleo sits"]
    assert ledger.tampers("update dao_ballot_words set words = 'ada lies' where user_id = 'ada'") == 1
    assert any("words of ada" in line for line in audit(dao).broken)


def test_a_list_of_differences_has_an_end(dao: Dao, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BROKEN", 5)
    ledger.tampers("update dao_event set at = at + interval '1 second'")
    assert len(audit(dao).broken) == 5


def test_a_veto_that_came_when_there_was_nothing_to_veto_any_more_is_found(dao: Dao, ledger: Ledger) -> None:
    def at_once(payload: dict[str, object]) -> None:
        payload["ballot"] = {**payload["ballot"], "counts_from": payload["ballot"]["cast_at"]}  # type: ignore[dict-item, index]

    cast, vetoed = seq_of(dao, "ballot_cast", "Lamps"), seq_of(dao, "ballot_vetoed", "Lamps")
    forge(ledger, cast, at_once)
    broken = audit(dao).broken
    assert any(f"event {cast}: its ballot counts from" in line for line in broken), broken
    assert any(f"event {vetoed}: a veto that the rules refuse (veto_too_late)" in line for line in broken), broken


def test_a_veto_by_somebody_else_is_found(dao: Dao, ledger: Ledger) -> None:
    seq = seq_of(dao, "ballot_vetoed", "Lamps")
    forge(ledger, seq, lambda payload: payload.update(voter="dan"))
    broken = audit(dao).broken
    assert any(f"event {seq}: eve vetoed a ballot of dan" in line for line in broken), broken
    assert any(f"event {seq}: a veto that the rules refuse (ballot_unknown)" in line for line in broken), broken


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"delegator": "cleo"}, "fay gave a delegation of cleo"),
        ({"given_at": "2026-02-01T00:00:00+00:00"}, "a delegation of 2026-02-01 00:00:00+00:00 that was given at"),
        ({"delegate": "fay"}, "fay delegates to themself"),
        ({"ends_at": "2026-02-01T00:00:00+00:00"}, "was over when it was given"),
        ({"revoked_at": "2026-04-01T00:00:00+00:00"}, "was revoked when it was given"),
    ],
)
def test_a_forged_delegation_is_found(dao: Dao, ledger: Ledger, changed: dict[str, object], found: str) -> None:
    seq = next(event.seq for event in dao.events_after(0, 1000) if kind_of(event.happening) == "delegated")

    def other(payload: dict[str, object]) -> None:
        payload["delegation"] = {**payload["delegation"], **changed}  # type: ignore[dict-item]

    forge(ledger, seq, other)
    broken = audit(dao).broken
    assert any(line.startswith(f"event {seq}:") and found in line for line in broken), broken


def test_an_end_of_a_delegation_by_who_has_no_part_in_it_is_found(dao: Dao, ledger: Ledger) -> None:
    seq = next(event.seq for event in dao.events_after(0, 1000) if kind_of(event.happening) == "delegation_revoked")
    forge(ledger, seq, lambda payload: payload.update(delegator="cleo"))
    assert any(f"event {seq}: ends a delegation of cleo that the ledger does not know" in line for line in audit(dao).broken)


def test_a_close_by_the_deadline_before_it_is_found(dao: Dao, ledger: Ledger) -> None:
    """A vote that somebody ended at a moment that suited them, with the right count of that moment, was found whole."""
    name = ids(dao)["Paths"]
    with dao.session() as session:
        session.lock()
        at = session.moment(name)
        sums, (outcome, reason), _ = verdict(session.proposal(name), session.delegations, at)
        rules, ends_at = session.proposal(name).rules.version, session.proposal(name).ends_at
        early = ProposalResolved(Resolution(name, outcome, reason, "deadline", sums, rules, at))
        (event,) = session.append([Entry(at, CLOCK, early)])
        session.settle(name, at)
    broken = audit(dao).broken
    assert f"proposal {name}: event {event.seq} closes by the deadline, before it at {ends_at}" in broken


def decided_by_code_of_before(ledger: Ledger, dao: Dao, title: str, outcome: str) -> None:
    """As if this proposal were older than the numbers of rules, and its code had come to this outcome."""
    version = replace(dao.proposal(ids(dao)[title]).rules, counting=UNNUMBERED).version

    def unnumbered(payload: dict[str, object]) -> None:
        payload["rules"] = {name: value for name, value in payload["rules"].items() if name != "counting"}  # type: ignore[attr-defined]

    def ends_so(payload: dict[str, object]) -> None:
        payload["resolution"] = {**payload["resolution"], "outcome": outcome, "rules_version": version}  # type: ignore[dict-item]

    name = ids(dao)[title]
    forge(ledger, seq_of(dao, "proposal_drafted", title), unnumbered)
    forge(ledger, seq_of(dao, "proposal_resolved", title), ends_so)
    row = "update dao_resolution set outcome = :outcome, rules_version = :version where proposal_id = :id"
    ledger.tampers(row, outcome=outcome, version=version, id=name)
    ledger.tampers("update dao_proposal set status = :outcome where proposal_id = :id", outcome=outcome, id=name)


def test_what_other_code_decided_otherwise_is_named_and_is_no_broken_ledger(dao: Dao, ledger: Ledger) -> None:
    """A change of how votes are counted, and every ledger of before was told to be broken."""
    decided_by_code_of_before(ledger, dao, "Lamps", "passed")
    report = audit(ledger.dao())
    assert (report.broken, report.ok) == ((), True)
    assert report.other_rules
    assert all(line.startswith(f"decided by older rules ({UNNUMBERED}, here {COUNTING}): ") for line in report.other_rules)
    assert any(ids(dao)["Lamps"] in line and "says passed" in line for line in report.other_rules), report.other_rules


def test_what_other_code_decided_alike_is_whole(dao: Dao, ledger: Ledger) -> None:
    decided_by_code_of_before(ledger, dao, "Lamps", "failed")
    report = audit(ledger.dao())
    assert (report.broken, report.other_rules) == ((), ())


def test_a_ledger_of_other_code_that_was_changed_is_broken_all_the_same(dao: Dao, ledger: Ledger) -> None:
    decided_by_code_of_before(ledger, dao, "Lamps", "passed")
    ledger.tampers("update dao_resolution set reason = 'threshold_met' where proposal_id = :id", id=ids(dao)["Lamps"])
    seq = seq_of(dao, "ballot_cast", "Lamps")
    ledger.tampers("update dao_event set at = at + interval '1 second' where seq = :seq", seq=seq)
    broken = audit(ledger.dao()).broken
    assert any("the row of its resolution" in line for line in broken)
    assert any(f"event {seq}: its hash is of other content" in line for line in broken)
