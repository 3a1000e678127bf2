"""Rules on files: their size, their docstring, and that every setting is read."""

from __future__ import annotations

import ast
import re

import yaml

from tests.rules.sources import PACKAGES, ROOT, python_files

MAX_LINES = 400
NO_NOUNS = {"utils", "helpers", "common", "misc", "manager", "handler"}


def test_no_file_grows_past_its_noun() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(*PACKAGES, "tests", "bench")
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_file_is_named_after_nothing() -> None:
    assert [str(path) for path in python_files(*PACKAGES) if path.stem in NO_NOUNS] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files(*PACKAGES)
        if "migrations" not in path.parts and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_setting_is_read_by_the_code() -> None:
    """`section.key` must stand somewhere outside the settings model: a key nobody reads promises what is not done."""
    settings = yaml.safe_load((ROOT / "dagster_project.yaml").read_text())
    code = "\n".join(path.read_text() for path in python_files(*PACKAGES) if path.name != "settings.py")
    unread: list[str] = []
    for section, keys in settings.items():
        if not isinstance(keys, dict):
            if not re.search(rf"\bsettings\.{section}\b", code):
                unread.append(section)
            continue
        for key in keys:
            if not re.search(rf"\b{section}\.{key}\b", code) and not re.search(rf"\bnames\.{key}\b", code):
                unread.append(f"{section}.{key}")
    assert unread == []
