"""The DAO in Dagster and on the command line, on engines of its own: everybody in a home is a member of one DAO."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result

from lpm_kernel.artefacts import decode_records
from lpm_kernel.dao.report import OpenVote, ResolvedVote
from lpm_kernel.dao.service import Dao, open_dao
from lpm_kernel.layout import shared_asset_key
from lpm_kernel.records import User
from lpm_kernel.settings import load_settings, settings_path
from lpm_kernel.stores.graph import SHARED
from lpm_kernel.stores.open import open_stores
from lpm_kernel.stores.users import add_user
from tests.embedded.fixtures import EngineHome, running_engines
from tests.twin_assets.conftest import Workshop, figures
from twin_assets.cli import cli
from twin_assets.dao_sensor import build_dao_sensor
from twin_assets.definitions import build_defs
from twin_assets.home import bring_up
from twin_assets.instance import open_instance
from twin_assets.resources import stores_resource

pytestmark = pytest.mark.slow

Row = TypeVar("Row")
MEMBERS = ("ada", "bo", "cy")
PLAIN = {"veto_hours": 0, "late_quorum_hours": 0, "extend_stalled": False, "remind_at_percent": [], "standing_at_percent": 100}


@pytest.fixture(scope="module")
def engines_of_votes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    with running_engines(tmp_path_factory.mktemp("dao") / "home") as home:
        yield home


@pytest.fixture(scope="module")
def votes(engines_of_votes: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    content = yaml.safe_load(settings_path({}).read_text())
    content["dao"].update(PLAIN)
    path = tmp_path_factory.mktemp("dao-settings") / "dagster_project.yaml"
    path.write_text(yaml.safe_dump(content))
    settings, home, before = load_settings(path), engines_of_votes.path, dict(os.environ)
    os.environ["TWIN_SETTINGS"] = str(path)
    os.environ.update(bring_up(home, settings, services=False, say=lambda words: None))
    os.environ["TWIN_HOME"] = str(home)
    stores = open_stores(settings)
    try:
        for member in MEMBERS:
            with stores.tables.transaction(member) as connection:
                add_user(connection, User(member))
        with open_instance(home, settings, os.environ) as instance:
            yield Workshop(settings, stores, instance)
    finally:
        stores.close()
        os.environ.clear()
        os.environ.update(before)


def twin(*words: str) -> Result:
    return CliRunner().invoke(cli, ["dao", *words])


def run_job(votes: Workshop, run_config: object = None) -> dg.ExecuteInProcessResult:
    job = build_defs(votes.settings).resolve_job_def("dao_job")
    return job.execute_in_process(instance=votes.instance, raise_on_error=False, run_config=run_config)  # type: ignore[arg-type]


def rows_of(votes: Workshop, asset: str, kind: type[Row]) -> list[Row]:
    return decode_records(votes.stores.blobs.get(shared_asset_key(asset, "jsonl")), kind)


def vote_that_ended(votes: Workshop, title: str, *choices: str, seconds_ago: float = 5.0) -> str:
    """One whose time was over so long ago, with a ballot of each member in turn, and that nothing has resolved yet."""
    rules = votes.settings.dao.model_copy(update={"close": "deadline"})
    ends = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    begins = ends - timedelta(hours=rules.voting_hours)
    proposal_id = Dao(votes.stores.tables, rules, lambda: begins).propose("ada", title, "A kettle.").proposal_id
    voting = Dao(votes.stores.tables, rules, lambda: begins + timedelta(hours=1))
    for member, choice in zip(MEMBERS, choices, strict=False):
        voting.vote(member, proposal_id, choice)  # type: ignore[arg-type]
    return proposal_id


def test_the_sensor_sees_a_vote_that_is_over_and_its_run_resolves_it(votes: Workshop) -> None:
    proposal_id = vote_that_ended(votes, "Buy a kettle", "for", "for", "against")
    sensor = build_dao_sensor(votes.settings)
    resources = {"stores": stores_resource(votes.settings)}
    with dg.build_sensor_context(instance=votes.instance, resources=resources) as context:
        request = sensor(context)
        assert isinstance(request, dg.RunRequest)
        assert (request.run_key or "").startswith(
            f"dao-{proposal_id}-{open_dao(votes.stores).proposal(proposal_id).rules.version}-"
        )
        result = run_job(votes, request.run_config)
        assert result.success
        assert isinstance(sensor(context), dg.SkipReason), "nothing is due any longer"
    resolution = open_dao(votes.stores).proposal(proposal_id).resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.reason, resolution.closed_by) == ("passed", "threshold_met", "deadline")
    told = figures(result, "dao_resolutions")
    assert (told["resolved now"], told["passed"], told["newest: for"], told["newest: against"]) == (1, 1, 2, 1)
    assert told["newest: turnout %"] == 100.0
    assert 5.0 <= told["newest: seconds from deciding to resolution"] < 120.0
    assert told["events projected"] > 0, "the graph has heard of it"
    assert "Buy a kettle" in told["sample"]
    (row,) = [each for each in rows_of(votes, "dao_resolutions", ResolvedVote) if each.proposal_id == proposal_id]
    assert (row.for_, row.against, row.abstain, row.electorate, row.voters) == (2, 1, 0, 3, 3)
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "ledger_is_whole": True,
        "no_vote_is_overdue": True,
    }


def test_a_second_run_changes_nothing(votes: Workshop) -> None:
    before = open_dao(votes.stores).events_after(0)
    result = run_job(votes)
    assert result.success
    told = figures(result, "dao_resolutions")
    assert (told["events now"], told["rows read anew"]) == (0, 0)
    assert (told["events that the graph lacks"], told["seconds that the graph is behind"]) == (0, 0)
    assert open_dao(votes.stores).events_after(0) == before


def test_the_state_tells_what_is_open_and_what_stalls(votes: Workshop) -> None:
    rules = votes.settings.dao.model_copy(update={"standing_at_percent": 50})
    long_ago = datetime.now(UTC) - timedelta(hours=40)
    stalled = Dao(votes.stores.tables, rules, lambda: long_ago).propose("bo", "Paint | the shed", "Green.")
    fresh = open_dao(votes.stores).propose("cy", "Sell the lathe", "To whom it may concern.")
    open_dao(votes.stores).vote("ada", fresh.proposal_id, "for")
    result = run_job(votes)
    assert result.success
    told = figures(result, "dao_state")
    assert (told["voting"], told["stalled"], told["members"]) == (2, 1, 3)
    assert told["lowest turnout %"] == 0.0
    assert 30 < told["least hours left"] < 33
    rows = {row.proposal_id: row for row in rows_of(votes, "dao_state", OpenVote)}
    assert rows[stalled.proposal_id].stalled
    assert rows[fresh.proposal_id].turnout_percent == pytest.approx(33.3)
    assert "Paint \\| the shed" in told["sample"]
    for proposal_id, proposer in ((stalled.proposal_id, "bo"), (fresh.proposal_id, "cy")):
        open_dao(votes.stores).cancel(proposer, proposal_id, "only a test")


def test_a_vote_from_proposal_to_resolution_by_commands(votes: Workshop, tmp_path: Path) -> None:
    text = tmp_path / "text.md"
    text.write_text("The works buys a bell.")
    proposed = twin("propose", "ada", "A bell", "--text-file", str(text), "--topic", "gate")
    assert proposed.exit_code == 0, proposed.output
    status, proposal_id, *_ = proposed.output.split()
    assert status == "voting"
    assert proposal_id in twin("list", "--status", "voting").output
    first = twin("vote", "ada", proposal_id, "for", "--reasons", "It rings.")
    assert first.output == "ada votes for\n"
    stands = twin("state").output
    assert "for 1, against 0, abstain 0 of 3: turnout 33 %" in stands
    second = twin("vote", "bo", proposal_id, "for")  # cy alone cannot turn it any more: 2 of 3 is more than 66 %
    assert (
        f"passed      {proposal_id} A bell: threshold_met, for 2, against 0, abstain 0 of 3, closed by decided" in second.output
    )
    shown = twin("show", proposal_id).output
    assert "The works buys a bell." in shown
    assert "It rings." in shown
    assert "cy: weight 1 not voted" in shown
    refused = twin("vote", "cy", proposal_id, "for")
    assert getattr(refused.exception, "code", None) == "voting_closed"
    audited = twin("audit")
    assert audited.exit_code == 0, audited.output
    assert audited.output.startswith("whole ")


def test_the_clock_can_be_turned_by_hand(votes: Workshop) -> None:
    """Before any delegation: nothing that comes after one can be dated before it."""
    proposal_id = vote_that_ended(votes, "A lamp", "against", "for", "abstain")
    done = twin("advance")
    assert done.exit_code == 0, done.output
    assert f"failed      {proposal_id} A lamp: threshold_not_met" in done.output
    assert "0 looked at" in twin("advance").output


def test_a_graph_that_was_emptied_is_told_all_of_it_again_by_a_command(votes: Workshop) -> None:
    graph, of = votes.stores.graph, open_dao(votes.stores)
    of.propose("ada", "A gong", "It is heard from afar.")
    assert twin("project").exit_code == 0
    told = sorted(fact.text for fact in graph.list_facts(SHARED))
    assert any("A gong" in line for line in told)
    graph.forget_facts(SHARED, graph.list_facts(SHARED))
    assert twin("project").output == "0 events told to the graph\n", "it does not know that it was emptied"
    again = twin("project", "--again")
    assert (again.exit_code, again.output) == (0, f"{len(of.events_after(0, 9999))} events told to the graph\n")
    assert sorted(fact.text for fact in graph.list_facts(SHARED)) == told


def test_delegations_by_commands(votes: Workshop) -> None:
    given = twin("delegate", "ada", "bo", "--topic", "gate", "--until", "2099-01-01")
    assert given.exit_code == 0, given.output
    delegation_id = given.output.split()[0]
    assert "ada to bo for topic gate, until 2099-01-01" in given.output
    assert delegation_id in twin("delegations", "bo").output
    assert "revoked" in twin("revoke", "ada", delegation_id).output
    both = twin("delegate", "ada", "bo", "--topic", "gate", "--proposal", "x")
    assert both.exit_code == 2
    to_oneself = twin("delegate", "ada", "ada")
    assert getattr(to_oneself.exception, "code", None) == "delegation_to_self"


def test_consent_is_shown_and_changed_by_commands(votes: Workshop) -> None:
    assert twin("consent", "ada").output == "ada: draft, as for everybody who has said nothing\n"
    said = twin("consent", "ada", "--mode", "autonomous", "--min-confidence", "0.9", "--topic", "gate", "--own-proposals")
    assert said.exit_code == 0, said.output
    assert "ada: autonomous, since " in said.output
    assert "confidence from 0.9, gate, own proposals too" in said.output
    assert "confidence from 0.9, every topic, own proposals too" in twin("consent", "ada", "--every-topic").output
    assert twin("consent", "ada", "--topic", "gate", "--every-topic").exit_code == 2
    nobody = twin("consent", "nobody-here")
    assert getattr(nobody.exception, "code", None) == "twin_not_found"
    assert twin("alignment").output.startswith("all: 0 of 0 the same, nothing to compare")


def test_a_ledger_that_somebody_has_changed_is_found_and_its_figures_are_not_shown(
    votes: Workshop, engines_of_votes: EngineHome
) -> None:
    """As the owner of the tables, past every guard: a ballot for is made one against."""
    import psycopg

    def unguarded(query: str, *values: object) -> list[tuple[int, dict[str, Any]]]:
        with psycopg.connect(engines_of_votes.owner_dsn) as owner:
            owner.execute("alter table dao_event disable trigger only_grows, no force row level security")
            found = owner.execute(query, values).fetchall()  # type: ignore[arg-type]
            owner.execute("alter table dao_event enable always trigger only_grows, force row level security")
        return found

    def write(content: dict[str, Any]) -> None:
        unguarded("update dao_event set payload = %s where seq = %s returning seq, payload", json.dumps(content), seq)

    ((seq, payload),) = unguarded("select seq, payload from dao_event where kind = 'ballot_cast' order by seq limit 1")
    other = "against" if payload["ballot"]["choice"] == "for" else "for"
    write({"ballot": {**payload["ballot"], "choice": other}})
    try:
        audited = twin("audit")
        result = run_job(votes)
    finally:
        write(payload)
    assert audited.exit_code == 1
    assert audited.output.startswith("BROKEN")
    assert not result.success
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert passed["ledger_is_whole"] is False
    assert result.asset_materializations_for_node("dao_resolutions"), "the votes went on"
    assert not [event for event in result.get_asset_materialization_events() if event.asset_key == dg.AssetKey("dao_state")]
