"""A value under its own version, without Dagster's remark that this parameter is in beta."""

from __future__ import annotations

import warnings

import dagster as dg

from twin_assets.versioned import versioned_output


def test_a_version_is_given_and_nothing_is_said_of_it() -> None:
    """The demo's vote printed two warnings of Dagster's own."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = versioned_output([1], "v1", {"rows": 1})
    assert said == []
    assert made.value == [1]
    assert made.data_version == dg.DataVersion("v1")
    assert set(made.metadata) == {"rows"}
