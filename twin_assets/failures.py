"""Failures: the kernel's errors as Dagster's.

Belongs here: the one translation; whether a retry can help is decided by the error itself.
Does not belong here: catching anything to go on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import RetrySettings


class NotHeardYet(dg.DagsterError):
    """Of a sensor of failed runs that could not do with a failure what it is for: the next tick hears of it again.

    Why one of Dagster's own errors: after any other, and after a `SkipReason`, the sensor's cursor goes on behind that failure,
    and nothing ever hears of it. After this one the tick fails as a whole; what it did before it is done again, so it is to be
    idempotent. For what another minute can mend, and nothing else: the failures behind it wait.
    """


@contextmanager
def dagster_failures(retry_number: int, retries: RetrySettings) -> Iterator[None]:
    """Ask for a retry when it can help and some are left, with twice the pause each time; else fail for good.

    Why not a retry policy on the asset: it cannot see the exception, and would read a broken document four times.
    """
    try:
        yield
    except TwinError as error:
        if error.retryable and retry_number < retries.max_retries:
            raise dg.RetryRequested(retries.max_retries, retries.delay_s * 2**retry_number) from error
        raise dg.Failure(
            description=str(error),
            metadata={"code": error.code, "category": error.category, "retryable": error.retryable, "tries": retry_number + 1},
            allow_retries=False,
        ) from error
