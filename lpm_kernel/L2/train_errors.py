"""What can go wrong while numbers are computed, by name.

Belongs here: telling a lack of memory from other errors, and the two errors of the loop with what to do.
Does not belong here: rows that cannot be learned (`training_batches.py`), and trying again (`train.py`).
"""

from __future__ import annotations

from lpm_kernel.errors import TrainingError

LACKS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
"""As torch's allocators say it where they raise a plain RuntimeError."""


def lacks_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in LACKS)


def out_of_memory(pass_tokens: int, batch_rows: int, rank: int, step: int) -> TrainingError:
    """Retryable: what other work held may be free by then, and the training goes on from its last checkpoint."""
    return TrainingError(
        "out_of_memory",
        f"step {step} needs more memory than there is, with {pass_tokens} tokens at once (half of what was tried first), "
        f"training.batch_rows {batch_rows} and rank {rank}; lower training.pass_tokens, batch_rows or rank, or free memory",
        retryable=True,
    )


def pairs_lack_memory() -> TrainingError:
    """Retryable: what other work held may be free by then."""
    return TrainingError(
        "out_of_memory", "one pair of answers needs more memory than there is; free memory and try again", retryable=True
    )


def loss_not_finite(
    loss: float, norm: float, step: int, steps: int, learning_rate: float, rate_setting: str = "training.learning_rate"
) -> TrainingError:
    return TrainingError(
        "loss_not_finite",
        f"loss {loss} and gradient norm {norm} in step {step} of {steps} "
        f"at learning rate {learning_rate}; lower {rate_setting}",
    )


def held_out_loss_not_finite(loss: float, step: int, steps: int, learning_rate: float) -> TrainingError:
    return TrainingError(
        "loss_not_finite",
        f"held-out loss {loss} after step {step} of {steps} at learning rate {learning_rate}; lower training.learning_rate",
    )
