"""Release claims: about the manifest that serving loads.

Belongs here: one check a claim about a release, named as the claim; those that block say so.
Does not belong here: repairing anything.
"""

import dagster as dg

from lpm_kernel.errors import StoreError
from lpm_kernel.L2.release import read_communities
from lpm_kernel.records import Release
from lpm_kernel.stores.blobs import TenantBlobs
from twin_assets.assets import release
from twin_assets.checks.claim import claim
from twin_assets.resources import StoresResource


@claim(release.twin_release)
def release_names_what_is_there(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, twin_release: Release
) -> dg.AssetCheckResult:
    """The adapter and the communities that the manifest names lie where it says, the communities with the hash it says."""
    blobs = stores.stores.blobs
    missing = [] if TenantBlobs(blobs, twin_release.user_id).exists(twin_release.gguf_key) else ["gguf_adapter"]
    try:
        found = read_communities(blobs, twin_release)
    except StoreError as error:
        if error.code not in ("blob_not_found", "artefact_unreadable"):
            raise
        found = None
    missing += ["communities"] if found is None else []
    return dg.AssetCheckResult(passed=not missing, metadata={"release_id": twin_release.release_id, "missing": missing})


@claim(release.twin_release, blocking=False)
def release_passed_its_gates(context: dg.AssetCheckExecutionContext, twin_release: Release) -> dg.AssetCheckResult:
    """The adapter with retrieval was shown to be better than the base with retrieval somewhere, and worse nowhere.

    Why it only warns: whether a release serves that did not pass is for the settings to say, and its reasons stand here.
    """
    return dg.AssetCheckResult(
        passed=not twin_release.reasons,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"status": twin_release.status, "reasons": list(twin_release.reasons)},
    )
