"""Jobs: selections of assets that a person or a backfill runs by name.

Belongs here: `define_asset_job` calls.
Does not belong here: anything that runs by itself.
"""

import dagster as dg

from twin_assets.automation import ON_REQUEST, WHOLE_CHAIN

# not what is of no user, or made only when somebody asks for it
CHAIN = dg.AssetSelection.groups("l0", "l1", "l2", "release") - dg.AssetSelection.assets(
    "base_model", "skill_adapter", *ON_REQUEST
)

twin_job = dg.define_asset_job(
    "twin_job",
    selection=CHAIN,
    tags=WHOLE_CHAIN,
    description="From a user's documents to their live release, every stage once.",
)

training_job = dg.define_asset_job(
    "training_job",
    selection=dg.AssetSelection.assets("lora_adapter"),
    description="A user's adapter alone, from the rows that are there; what is made from it follows by itself.",
)

base_job = dg.define_asset_job(
    "base_job",
    selection=dg.AssetSelection.assets("base_model"),
    description="Makes the shared base model ready on this machine and compares it with its weights. A job of its own, "
    "because the base has no partition: a run for one user would materialize it for all.",
)

skill_job = dg.define_asset_job(
    "skill_job",
    selection=dg.AssetSelection.assets("skill_adapter"),
    description="The adapter that every user's training begins with: found, or trained where none fits the settings.",
)
