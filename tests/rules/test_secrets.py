"""No secret stands in the project's files: a scan by the forms that keys have, which finds those that are planted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.rules.sources import ROOT

LETTERS = "abcdefghij" * 4
FORMS = {
    "OpenAI": r"\bsk-(?:proj-)?[A-Za-z0-9_]{32,}",
    "Google": r"\bAIza[0-9A-Za-z_-]{35}",
    "AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}",
    "Slack": r"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "Mem0": r"\bm0-[A-Za-z0-9]{32,}",
    "Modal": r"\ba[ks]-[A-Za-z0-9]{22}\b",
    "token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}",
    "password in an address": r"\b[a-z][a-z0-9+]*://[A-Za-z0-9_.-]+:[A-Za-z0-9_.!%-]{20,}@",
}
PLANTED = {
    "OpenAI": f"sk-{LETTERS}",
    "Google": f"AIza{LETTERS[:35]}",
    "AWS": "AKIA" + "ABCDEFGH" * 2,
    "GitHub": f"ghp_{LETTERS[:36]}",
    "Slack": f"xoxb-{LETTERS}",
    "Mem0": f"m0-{LETTERS}",
    "Modal": f"ak-{LETTERS[:22]}",
    "token": f"eyJ{LETTERS}.eyJ{LETTERS}.{LETTERS}",
    "private key": f"-----BEGIN {'PRIVATE'} KEY-----\n{LETTERS}",
    "password in an address": f"postgresql://twin:{LETTERS}@db",
}
LARGEST = 2_000_000


def found_in(text: str) -> list[str]:
    return [name for name, form in FORMS.items() if re.search(form, text)]


def project_files() -> list[Path]:
    """What git holds or would hold: not what it ignores."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_planted_secret_is_found(name: str) -> None:
    assert name in found_in(f"key: {PLANTED[name]}\n")


def test_no_file_of_the_project_holds_one() -> None:
    files = project_files()
    assert len(files) > 300
    held = {}
    for path in files:
        if path.stat().st_size <= LARGEST and (found := found_in(path.read_text(encoding="utf-8", errors="ignore"))):
            held[str(path.relative_to(ROOT))] = found
    assert held == {}
