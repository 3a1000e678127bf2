"""A heavy stage as a program: a call comes in, the stage runs here, its outcome goes out.

    python -m lpm_kernel.L2.run_stage [CALL.json]     a call from a file or standard input, its outcome to standard output

What Modal's functions and a container's entry point both run. The S3 variables that `stores` names must be set. Progress goes
to standard error, a JSON object a line. It ends with 0, with 75 when the same call may succeed later, else with 1.

Belongs here: from the letter to the kernel's function and back.
Does not belong here: any cloud's own interface, and what a stage does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from lpm_kernel.errors import TwinError, UserInputError
from lpm_kernel.L2.base_model import default_cache_dir
from lpm_kernel.L2.stage_calls import decode_call, encode_error, encode_result
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.addresses import read_blob_address
from lpm_kernel.stores.blobs import Blobs, open_s3
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.local_compute import LocalCompute

TRY_LATER = 75
"""What sysexits.h calls EX_TEMPFAIL."""


def open_blobs() -> Blobs:
    """Raises: SettingsError `address_missing`."""
    return open_s3(read_blob_address(load_settings()))


def answer_call(text: str, open_blobs: Callable[[], Blobs], cache_dir: Path, progress: Progress) -> str:
    """Run what the call asks for, where compute is local. A kernel error is an outcome too; any other exception is raised."""
    try:
        call = decode_call(text)
        with within_request(RequestContext(call.transaction_id)) if call.transaction_id else nullcontext():
            result = LocalCompute(open_blobs(), call.models, cache_dir).run(call.stage, call.request, progress)
        return encode_result(call.stage, result)
    except TwinError as error:
        return encode_error(error)


def main(arguments: list[str]) -> int:
    def tell(share: float, words: str) -> None:
        print(json.dumps({"share": round(share, 4), "words": words}), file=sys.stderr, flush=True)

    try:
        text = _read_call(arguments)
    except UserInputError as error:
        outcome = encode_error(error)
    else:
        outcome = answer_call(text, open_blobs, default_cache_dir(os.environ), tell)
    print(outcome, flush=True)
    error = json.loads(outcome).get("error")
    if error is None:
        return 0
    return TRY_LATER if error["retryable"] else 1


def _read_call(arguments: list[str]) -> str:
    if len(arguments) > 1:
        raise UserInputError("call_unreadable", "one file with one call is read, or standard input")
    try:
        return Path(arguments[0]).read_text(encoding="utf-8") if arguments else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError("call_unreadable", f"the call cannot be read: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
