"""A run as a person reads it: figures that plot, and a table.

Belongs here: the words and numbers, for the Dagster UI and the command line alike.
Does not belong here: finding anything.
"""

from __future__ import annotations

from collections import Counter

from lpm_kernel.reconcile.findings import Finding, Report

COLUMNS = ("user", "store", "kind", "what", "how many", "explained by", "action", "which")
SHOWN = 4
"""Items of one finding that a line names."""


def figures(report: Report) -> dict[str, int | float]:
    """Numbers under names that stay, so that they plot from hour to hour."""
    findings = report.findings
    outcomes = Counter(finding.outcome for finding in findings)
    by_store = Counter(finding.store for finding in findings)
    return {
        "findings": len(findings),
        "repaired": outcomes["repaired"],
        "waiting": outcomes["waits"],
        "kept": outcomes["kept"],
        "reported": outcomes["reported"],
        **{f"findings_{store}": by_store[store] for store in ("blobs", "vectors", "memories", "graph", "dao", "outbox")},
        "users": sum(not user.user_id.startswith("_") for user in report.users),
        "users_skipped": sum(user.skipped is not None for user in report.users),
        "stores_away": sum(finding.kind == "away" for finding in findings),
        "seconds": report.seconds,
    }


def row_of(finding: Finding) -> tuple[str, ...]:
    named = [item.removeprefix(f"tenant/{finding.user_id}/")[:24] for item in finding.items[:SHOWN]]
    more = [f"and {len(finding.items) - SHOWN} more"] if len(finding.items) > SHOWN else []
    subject = [f"of {finding.subject[:12]}"] if finding.subject else []
    which = ", ".join([*subject, *named, *more])
    head = (finding.user_id, finding.store, finding.kind, finding.what, str(finding.how_many))
    return *head, finding.explained_by, finding.action, which


def as_markdown(report: Report) -> str:
    """What was found, and whom nobody looked at; one sentence where there is nothing to tell."""
    lines = [f"- user {user.user_id} was skipped: {user.skipped}" for user in report.users if user.skipped]
    if report.findings:
        cells = [COLUMNS, ("---",) * len(COLUMNS), *map(row_of, report.findings)]
        lines += ["", *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)]
    return "\n".join(lines).strip() or "Every store agrees with the tables."
