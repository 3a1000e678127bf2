"""English: one pipeline a process, whoever reads with it."""

from __future__ import annotations

import ast

from lpm_kernel.english import open_english, parse_sentences
from tests.rules.sources import ROOT, python_files

TEXT = "Nora bought a clock in Bristol on 3 May."


def test_grammar_runs_without_names_and_leaves_the_shared_pipeline_whole() -> None:
    (parsed,) = parse_sentences([TEXT])
    assert [token.dep_ for token in parsed if token.text == "Nora"] == ["nsubj"]
    assert parsed.ents == ()
    assert "ner" in open_english().pipe_names
    assert [entity.text for entity in open_english()(TEXT).ents] == ["Nora", "Bristol", "3 May"]


def test_one_module_loads_the_pipeline_for_grammar() -> None:
    """Three modules each loaded a copy of their own, 40 MB and half a second a copy."""
    loading = {
        path.relative_to(ROOT).as_posix()
        for path in python_files("lpm_kernel")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(name.name == "spacy" for name in node.names)
    }
    assert loading <= {"lpm_kernel/english.py", "lpm_kernel/stores/ner.py"}  # the second runs other models too
