"""The rules of a vote: each is a setting, and any change of one is another version."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from lpm_kernel.dao.event_codec import as_json, from_json
from lpm_kernel.dao.rules import Rules, rules_of, weight_of
from lpm_kernel.settings import Settings

OTHER: dict[str, Any] = {
    "quorum_percent": 41,
    "abstain_counts_to_quorum": False,
    "threshold_percent": 51,
    "discussion_hours": 24,
    "voting_hours": 48,
    "close": "deadline",
    "late_quorum_hours": 6,
    "extension_hours": 6,
    "remind_at_percent": (25,),
    "standing_at_percent": 90,
    "extend_stalled": False,
    "transitive_delegation": False,
    "max_delegated": 3,
    "veto_hours": 1,
    "weights": {"founder": 2},
}


def test_the_defaults_are_those_of_the_settings_file(settings: Settings) -> None:
    assert rules_of(settings.dao) == Rules()


def test_every_rule_is_a_setting(settings: Settings) -> None:
    assert set(OTHER) == {each.name for each in fields(Rules)} - {"counting"}, "which is the code's"
    assert rules_of(settings.dao.model_copy(update=OTHER)) == Rules(**OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_each_rule_changed_is_another_version(name: str) -> None:
    assert Rules(**{name: OTHER[name]}).version != Rules().version


def test_rules_read_from_the_ledger_are_of_the_same_version() -> None:
    rules = Rules(**OTHER)
    assert from_json(Rules, as_json(rules)).version == rules.version
    assert replace(rules).version == rules.version


def test_a_ballot_is_replaceable_only_where_the_deadline_closes() -> None:
    assert (Rules().replaceable, Rules(close="deadline").replaceable) == (False, True)


@pytest.mark.parametrize(
    ("attributes", "weight"),
    [({}, 1), ({"founder": 1}, 3), ({"founder": 2, "tall": 9}, 5), ({"banned": 1}, 0), ({"banned": 5}, 0)],
)
def test_a_weight_is_one_and_what_attributes_add_and_never_under_none(attributes: dict[str, int], weight: int) -> None:
    assert weight_of(attributes, Rules(weights={"founder": 2, "banned": -1})) == weight
    assert weight_of(attributes, Rules()) == 1
