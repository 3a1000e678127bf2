"""A stored value under the version of its content, so that one that has not changed does not count as a change.

Belongs here: that one call, and the remark of Dagster's that it costs.
Does not belong here: what a version is made of.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import dagster as dg

Value = TypeVar("Value")


def versioned_output(value: Value, version: str, metadata: Mapping[str, Any]) -> dg.Output[Value]:
    with warnings.catch_warnings():
        # `data_version` is marked as beta; without it an unchanged result would count as a change
        warnings.filterwarnings("ignore", r"Parameter `data_version` of initializer `Output", dg.BetaWarning)
        return dg.Output(value, metadata=metadata, data_version=dg.DataVersion(version))
