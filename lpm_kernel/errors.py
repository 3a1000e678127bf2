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
    ├── SyncError           stores disagree with the tables, and nobody could explain or repair it
    └── AccessError         who asks is not known, or may not; HTTP 401, 403, 408, 413, 429

A message says what was tried, on what, and what to do. It carries no secret and no document text. Errors are translated at
two borders only: `twin_assets/failures.py` (a Dagster failure) and `twin_serving/errors.py` (an HTTP status).

Each class is a category, which stands in problem details, logs, failure metadata and alerts, and has one way back:

    INGESTION_ERROR   the stage is tried again with growing pauses, then a dead letter; a refused file stays in quarantine
    RETRIEVAL_ERROR   a simpler context: the answer rests on what the other sources hold, and names what is missing
    LLM_ERROR         the question waits in the queue; then the smaller model of the base answers, or the lines themselves
    VOTE_ERROR        an alert, the step again after a pause, and by hand `twin dao advance`
    SYNC_ERROR        reconciliation repairs what it can explain and reports the rest
    NER_ERROR         the other extractor reads that text

The others (input, settings, training, store, engine, access) are mended by whoever caused them, by a retry, or by a restart.
"""

from __future__ import annotations


class TwinError(Exception):
    """Base of the tree.

    `code` is stable snake_case for programs, `message` is for people, `retryable` says whether the same call may succeed later,
    `retry_after_s` when, where that is known.
    """

    category = "TWIN_ERROR"
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
    category = "INPUT_ERROR"


class SettingsError(TwinError):
    category = "SETTINGS_ERROR"


class IngestionError(TwinError):
    category = "INGESTION_ERROR"


class RetrievalError(TwinError):
    category = "RETRIEVAL_ERROR"


class TrainingError(TwinError):
    category = "TRAINING_ERROR"


class LlmError(TwinError):
    category = "LLM_ERROR"
    default_retryable = True


class StoreError(TwinError):
    category = "STORE_ERROR"
    default_retryable = True


class EngineError(TwinError):
    category = "ENGINE_ERROR"


class NerError(TwinError):
    category = "NER_ERROR"


class VoteError(TwinError):
    category = "VOTE_ERROR"


class SyncError(TwinError):
    category = "SYNC_ERROR"


class AccessError(TwinError):
    category = "ACCESS_ERROR"
