"""The vote at the end of the demo: its two people, their real documents, the real model, and engines with nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from lpm_kernel.dao.service import open_dao
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.dao_consent import get_consent
from lpm_kernel.stores.open import open_stores
from tests.embedded.fixtures import running_engines
from twin_assets.demo import DATA, PEOPLE_FILE
from twin_assets.demo_vote import OVERRIDE, TEXT, TITLE, read_voters, vote_in_demo
from twin_assets.home import bring_up
from twin_assets.instance import open_instance


def people() -> dict[str, dict[str, str]]:
    return yaml.safe_load((DATA / PEOPLE_FILE).read_text(encoding="utf-8"))


def test_the_two_people_disagree_and_the_text_gives_neither_side_away() -> None:
    voters = read_voters(people(), DATA)
    assert {voter.name.split()[0]: voter.stance for voter in voters} == {"Nora": "against", "Victor": "for"}
    words = f"{TITLE} {TEXT}".lower()
    assert not [
        word for word in ("against", "in favour", "dangerous", "fire", "orders", "aerospace", "dental") if word in words
    ]


@pytest.mark.slow
def test_two_twins_vote_one_person_overrides_and_the_resolution_stands_in_a_whole_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    settings = load_settings()
    said: list[str] = []
    with running_engines(tmp_path / "home") as home:
        os.environ.update(bring_up(home.path, settings, services=False, say=lambda words: None))
        stores = open_stores(settings)
        try:
            with open_instance(home.path, settings, os.environ) as instance:
                voters = read_voters(people(), DATA)
                assert vote_in_demo(stores, instance, voters, said.append), said
            (proposal,) = open_dao(stores).proposals()
            for voter in voters:
                with stores.tables.transaction(voter.user_id) as connection:
                    assert get_consent(connection, voter.user_id).mode == "draft", "as before the demo"
        finally:
            stores.close()
    told = "\n".join(said)
    assert "checks: 7 of 7 passed" in told, told
    assert "votes in person, against: it takes the place" in told
    assert "resolution: failed, threshold_not_met; for 0, against 2, abstain 0 of 2; closed by decided" in told
    assert "1 resolutions recomputed: whole; last hash " in told
    assert "opinions-on-proposals" in told, "what the twins vote by is cited"
    assert [(ballot.voter, ballot.cast_by, ballot.choice) for ballot in proposal.ballots] == [
        ("1", "twin", "against"),
        ("2", "twin", "for"),
        ("2", "human", OVERRIDE),
    ]
