"""Log lines that name the request they belong to.

Belongs here: the form of a line, and where lines go in the process of the API.
Does not belong here: what is logged.
"""

from __future__ import annotations

import logging

from lpm_kernel.request_context import request_id

FORM = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"
CHATTY = ("httpx", "httpcore", "botocore", "neo4j", "graphiti_core")
"""They write a line for each call of theirs."""
OUR_PACKAGES = ("twin_serving", "lpm_kernel")


class NameRequest(logging.Filter):
    """Adds `request_id` to every record, `-` outside a request. On a handler it sees the records of all loggers."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id() or "-"
        return True


def configure_logs() -> None:
    """For a process that is the API: its own lines and the server's on stderr, each with its request. Idempotent."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for handler in (*root.handlers, *logging.getLogger("uvicorn").handlers):
        prepare_handler(handler)
    root.setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in OUR_PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)


def prepare_handler(handler: logging.Handler) -> None:
    """Let it write the request into each line. Idempotent."""
    if not any(isinstance(item, NameRequest) for item in handler.filters):
        handler.addFilter(NameRequest())
        handler.setFormatter(logging.Formatter(FORM, defaults={"request_id": "-"}))
