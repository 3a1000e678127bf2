"""Partitions: one dynamic partition a user.

Belongs here: partition definitions. Keys live in the Dagster instance, not in code.
Does not belong here: deciding who gets one (`sensors.py`, `cli.py`).
"""

import dagster as dg

users = dg.DynamicPartitionsDefinition(name="users")

PARTITION_TAG = "dagster/partition"
"""On every run of one user's stages: the user id."""
