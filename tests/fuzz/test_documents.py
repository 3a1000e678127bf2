"""Mutated documents: none crashes the reading, every refusal has a name. The long form: `python -m chaos fuzz`."""

from __future__ import annotations

import pytest

from chaos.documents import read_mutants, seed_files
from chaos.mutate import PDF_CHANGES, TEXT_CHANGES, mutants
from lpm_kernel.settings import Settings

DOCUMENTS = 300


@pytest.mark.slow
def test_no_mutated_document_crashes_the_reading_and_every_refusal_has_a_name(settings: Settings) -> None:
    tally = read_mutants(mutants(seed_files(), seed=7, count=DOCUMENTS, pdf_share=0.1), settings.chunking)
    assert tally.wrong == []
    assert tally.files == DOCUMENTS
    assert tally.read > 0.4 * DOCUMENTS, tally.refused
    assert len(tally.refused) >= 6, tally.refused
    assert set(tally.hows) >= {name for name, _ in TEXT_CHANGES}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    files = seed_files()
    first, again, other = (list(mutants(files, seed, 40, 0.2)) for seed in (1, 1, 2))
    assert first == again
    assert [each.data for each in first] != [each.data for each in other]
    assert {each.how for each in first} <= {name for name, _ in TEXT_CHANGES + PDF_CHANGES}
