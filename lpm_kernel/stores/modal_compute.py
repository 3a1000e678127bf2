"""Compute on Modal: a stage is called there, watched from here, and cancelled when this side ends.

The function that runs is deployed from `twin_assets/modal_app.py`; it runs the same kernel function as `LocalCompute`. Rows and
weights travel through the S3 server that both sides reach, the call and its outcome as JSON, progress through one of Modal's
queues. What the stage had done when a call is lost is in the blobs and is taken up by the next.
Tested with Modal's own client against a server of the tests that speaks its protocol; never yet against Modal itself.

Belongs here: looking up, spawning, polling and cancelling, each within a time, and Modal's errors as the kernel's.
Does not belong here: the deployed side, and what the call says (`L2/stage_calls.py`).
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Coroutine
from typing import Any, NoReturn

from lpm_kernel.errors import SettingsError, TrainingError, TwinError
from lpm_kernel.request_context import transaction_of
from lpm_kernel.settings import ComputeSettings, ModelSettings
from lpm_kernel.stores.background_loop import BackgroundLoop
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.compute import Progress

GPU_STAGES = {"lora_adapter"}
"""What pays for a GPU; the others run on processors."""
FUNCTION_ON_GPU = "run_on_gpu"
FUNCTION_ON_CPU = "run_on_cpu"
BREAKER = 3, 5.0
"""Of calls in a row that Modal did not take, and how long it is then left alone: shorter than the last pause of a stage."""
CANCEL_TIMEOUT_S = 10.0
RESTART_S = 300
"""For the start of a container, at each try."""
PROGRESS_ITEMS = 100
ANSWERED_AT_ONCE_S = 4.0
"""Modal's client waits five seconds for one answer."""

_RUNNING = object()
logger = logging.getLogger(__name__)
# Modal's client is async underneath, and its plain form cannot be left before a minute when the network is away. Signals reach
# the waiting main thread, not this loop.
_loop = BackgroundLoop("modal")


def progress_queue(app: str) -> str:
    return f"{app}-progress"


class ModalCompute:
    """Runs stages as calls of the deployed app, one after another."""

    def __init__(
        self, models: ModelSettings, compute: ComputeSettings, breaker: Breaker | None = None, run_id: str | None = None
    ) -> None:
        """`run_id`: the name of what a stage writes where no request is under way."""
        self._run_id = run_id
        self._breaker = breaker or Breaker(*BREAKER)
        self._models = models
        self.compute = compute

    def run(self, stage: str, request: Any, progress: Progress) -> Any:
        """An interrupt, or what `progress` raises, cancels the call there and goes on up.

        Raises: SettingsError `stage_unknown`, `modal_token_missing`, `modal_refused`, `modal_not_deployed`; TrainingError
        `modal_unreachable`, `compute_timeout`, `compute_lost` (all retryable), `stage_crashed`, `compute_result_invalid`; what
        the stage raises.
        """
        from lpm_kernel.L2.stage_calls import StageCall, decode_outcome, encode_call

        letter = encode_call(StageCall(stage, self._models, request, transaction_of(self._run_id)))
        require_token()
        partition = uuid.uuid4().hex
        resting = TrainingError("modal_unreachable", "Modal gave no answer a moment ago", retryable=True)
        with self._breaker.guarding(lambda: resting, lambda error: error.code == "modal_unreachable"):
            call = self._spawn(FUNCTION_ON_GPU if stage in GPU_STAGES else FUNCTION_ON_CPU, letter, partition)
        try:
            progress(0.0, f"Modal call {call.object_id} of {self.compute.app}")
            outcome = self._watch(call, partition, progress)
        except BaseException as reason:
            self._cancel(call, reason)
            raise
        if isinstance(outcome, TwinError):
            raise outcome
        return decode_outcome(stage, outcome)

    def _spawn(self, function_name: str, letter: str, partition: str) -> Any:
        import modal

        function = modal.Function.from_name(self.compute.app, function_name)
        try:
            self._ask(function.hydrate.aio())
            return self._ask(function.spawn.aio(letter, partition))
        except Exception as error:
            self._raise_translated(error)

    def _watch(self, call: Any, partition: str, progress: Progress) -> Any:
        """What the deployed function gave, whatever it is, or the error that Modal ended it with."""
        import modal

        compute = self.compute
        queue = modal.Queue.from_name(progress_queue(compute.app), create_if_missing=True)
        heard = time.monotonic()
        deadline = heard + (compute.retries + 1) * (compute.timeout_s + RESTART_S)
        share, mute = 0.0, False
        while True:
            try:
                outcome = self._ask(_poll(call))
                heard = time.monotonic()
            except Exception as error:
                # one lost answer is no lost call
                if not is_silence(error) or time.monotonic() - heard > compute.lookup_timeout_s:
                    self._raise_translated(error)
                outcome = _RUNNING
            try:
                told = self._ask(queue.get_many.aio(PROGRESS_ITEMS, block=False, partition=partition))
            except Exception as error:
                if not mute:
                    progress(share, f"the call's progress cannot be read: {type(error).__name__}")
                told, mute = [], True
            for item in told:
                share, words = _read_progress(item)
                progress(share, words)
            if outcome is not _RUNNING:
                return outcome
            if time.monotonic() > deadline:
                raise TrainingError("compute_timeout", f"Modal call {call.object_id} did not end in time", retryable=True)
            time.sleep(compute.poll_s)

    def _cancel(self, call: Any, reason: BaseException) -> None:
        try:
            _loop.run(call.cancel.aio(terminate_containers=True), CANCEL_TIMEOUT_S)
        except Exception as error:
            told = f"Modal call {call.object_id} could not be cancelled ({type(error).__name__}) and may go on there"
            logger.warning(told)
            reason.add_note(told)

    def _ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        return _loop.run(question, self.compute.lookup_timeout_s)

    def _raise_translated(self, error: Exception) -> NoReturn:
        import modal.exception as found

        app = self.compute.app
        if isinstance(error, TwinError):
            raise error
        if isinstance(error, found.AuthError | found.PermissionDeniedError):
            raise SettingsError("modal_refused", f"Modal does not let this token in to {app}: `modal token new`") from error
        if isinstance(error, found.NotFoundError):
            raise SettingsError(
                "modal_not_deployed", f"Modal has no such function of {app}: modal deploy -m twin_assets.modal_app"
            ) from error
        if is_silence(error):
            waited = f"{self.compute.lookup_timeout_s:g} s"
            raise TrainingError(
                "modal_unreachable", f"Modal gave no answer within {waited} ({type(error).__name__})", retryable=True
            ) from error
        raise TrainingError("compute_lost", f"Modal could not run {app}: {type(error).__name__}", retryable=True) from error


def require_token() -> None:
    """Why first: without one Modal's client says so, but with a proxy or a stale profile only after a minute."""
    from modal.config import config

    if config.get("token_id") and config.get("token_secret"):
        return
    if config.get("oauth_refresh_token") and config.get("oauth_client_id"):
        return
    raise SettingsError(
        "modal_token_missing",
        "compute is set to modal and there is no token: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run `modal token new`",
    )


async def _poll(call: Any) -> Any:
    """What the call ended with, be it an error; `_RUNNING` while it runs."""
    import modal.exception as found

    asked = time.monotonic()
    try:
        return await call.get.aio(timeout=0)
    except found.FunctionTimeoutError:
        return TrainingError("compute_timeout", f"Modal call {call.object_id} ran out of compute.timeout_s", retryable=True)
    except (found.InternalFailure, found.OutputExpiredError, found.RemoteError) as error:
        kind = type(error).__name__
        return TrainingError("compute_lost", f"Modal lost or stopped call {call.object_id} ({kind})", retryable=True)
    except (TimeoutError, found.TimeoutError):
        if time.monotonic() - asked > ANSWERED_AT_ONCE_S:
            raise  # of the network: the client tells both alike
        return _RUNNING
    except Exception as error:
        if is_silence(error) or (isinstance(error, found.Error) and not isinstance(error, found.ExecutionError)):
            raise
        # its words may be of a document; they are in the call's log there
        return TrainingError(
            "stage_crashed",
            f"Modal call {call.object_id} ended with {type(error).__name__}, tries used up: see its log on Modal",
        )


def is_silence(error: Exception) -> bool:
    import modal.exception as found
    from grpclib.exceptions import StreamTerminatedError

    mute = (found.ConnectionError, found.ServiceError, found.InternalError, found.ResourceExhaustedError, found.ClientClosed)
    return isinstance(error, (*mute, StreamTerminatedError, OSError, TimeoutError))


def _read_progress(item: str) -> tuple[float, str]:
    share, words = json.loads(item)
    return min(max(float(share), 0.0), 1.0), str(words)
