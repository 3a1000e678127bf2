"""The decorator that makes a function a check.

Belongs here: what every check has in common.
Does not belong here: any one claim (a module a layer beside this one).
"""

import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import dagster as dg

from lpm_kernel.settings import load_settings
from twin_assets.failures import dagster_failures
from twin_assets.partitions import users


def claim(asset: dg.AssetsDefinition, *, blocking: bool = True, reads: Sequence[str] = (), partitioned: bool = True) -> Any:
    """A check of one asset, a partition a user unless not `partitioned`; `reads` names other assets whose values it takes.

    The function gets `(context, **resources and values)`. A store that does not answer is asked again, as in the stages.
    """

    def decorate(function: Callable[..., dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
        @wraps(function)
        def run(context: dg.AssetCheckExecutionContext, **inputs: Any) -> dg.AssetCheckResult:
            with dagster_failures(context.retry_number, load_settings().retries):
                return function(context, **inputs)

        with warnings.catch_warnings():
            # Partitions on checks are marked as a preview; without them a check cannot know whose data it sees.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.asset_check(
                asset=asset,
                blocking=blocking,
                partitions_def=users if partitioned else None,
                additional_ins={name: dg.AssetIn(name) for name in reads},
            )(run)

    return decorate
