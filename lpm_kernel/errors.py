"""How it fails: one tree of errors, each with a stable code, and each knowing whether a retry can help.

    TwinError
    ├── UserInputError      what a person sent cannot be used; never retried; HTTP 4xx
    ├── SettingsError       dagster_project.yaml or the environment is wrong; never retried
    ├── IngestionError      a stored document cannot become text or chunks
    ├── NerError            named things of one text, or of all, could not be found
    ├── RetrievalError      memory cannot be searched, or is not built yet
    ├── TrainingError       rows, adapter or GGUF cannot be made
    ├── LlmError            the language model or the embedding model failed
    ├── StoreError          a table, blob or vector store did not answer
    ├── EngineError         an embedded engine did not start or stop
    ├── VoteError           what a member wants is against the rules of a vote, or its ledger is not whole; HTTP 403, 404, 409
    └── AccessError         who asks is not known, or may not; HTTP 401, 403, 408, 413, 429

A message says what was tried, on what, and what to do. It carries no secret and no document text. Errors are translated at
two borders only: `twin_assets/failures.py` (a Dagster failure) and `twin_serving/errors.py` (an HTTP status).
"""

from __future__ import annotations


class TwinError(Exception):
    """Base of the tree.

    `code` is stable snake_case for programs, `message` is for people, `retryable` says whether the same call may succeed later,
    `retry_after_s` when, where that is known.
    """

    default_retryable = False

    def __init__(self, code: str, message: str, *, retryable: bool | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class UserInputError(TwinError):
    pass


class SettingsError(TwinError):
    pass


class IngestionError(TwinError):
    pass


class RetrievalError(TwinError):
    pass


class TrainingError(TwinError):
    pass


class LlmError(TwinError):
    default_retryable = True


class StoreError(TwinError):
    default_retryable = True


class EngineError(TwinError):
    pass


class NerError(TwinError):
    pass


class VoteError(TwinError):
    pass


class AccessError(TwinError):
    pass
