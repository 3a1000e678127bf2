"""How often the retrieved lines hold the golden fact, on the real documents, model and search."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, vector_entries
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.L2.golden import holds_fact, parse_golden
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.samples import make_document

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.slow
@pytest.mark.parametrize("person", ["1", "2"])
def test_nine_golden_facts_of_ten_are_in_the_lines_of_a_prompt(stores: Stores, user_id: str, person: str) -> None:
    chunks, texts = [], {}
    for path in sorted((DATA / "users" / person).iterdir()):
        text = read_text(path.read_bytes(), mime_of(path.name))
        document = make_document(user_id, path.name, text.encode(), "read")
        chunks += chunk_document(document, text, stores.settings.chunking)
        texts[document.sha256] = text.encode()
    items = chunk_texts(chunks, texts)
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, "golden", vector_entries(items, table), table.fingerprint)
    golden = parse_golden((DATA / "golden" / f"{person}.yaml").read_bytes())
    held = 0
    for question in golden.questions:
        lines = recall_evidence(user_id, "golden", question.question, stores.vectors, stores.embedder, stores.settings.recall)
        held += any(line.citation.filename == question.document and holds_fact(line.text, question.expected) for line in lines)
    assert held / len(golden.questions) >= 0.9, f"{held} of {len(golden.questions)}"
