"""Jobs: selections of assets that a person or a backfill runs by name.

Belongs here: `define_asset_job` calls.
Does not belong here: anything that runs by itself.
"""

import dagster as dg

from twin_assets.automation import WHOLE_CHAIN

twin_job = dg.define_asset_job(
    "twin_job",
    # not `dpo`: the release does not use it, and it is made only when somebody asks for it
    selection=dg.AssetSelection.groups("l0", "l1", "l2", "release") - dg.AssetSelection.assets("dpo"),
    tags=WHOLE_CHAIN,
    description="From a user's documents to their live release, every stage once.",
)
