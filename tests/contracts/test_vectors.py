"""What every vector store guarantees: one tenant, one model, exact counts, and a search by words and by meaning."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.vectors import Hit, PgVectors, SyncCount, VectorEntry, Vectors
from tests.contracts.vector_stores import EMBEDDER, OWN_FORMULA, G
from tests.fakes import bm25f
from tests.samples import make_entries

TEXTS = ["red cat sleeps", "green dog barks", "blue bird sings loudly", "red fox runs", "grey owl hunts mice"]


def search(
    vectors: Vectors,
    tenant: str,
    question: str,
    *,
    k: int = 10,
    keyword_weight: float = 0.3,
    neighbour_weight: float = 0.5,
    fingerprint: str = EMBEDDER.fingerprint,
    vector: np.ndarray | None = None,
    generation: str = "g",
) -> list[Hit]:
    return vectors.search(
        tenant,
        generation,
        question,
        EMBEDDER.embed([question])[0] if vector is None else vector,
        fingerprint=fingerprint,
        k=k,
        keyword_weight=keyword_weight,
        neighbour_weight=neighbour_weight,
    )


def texts_of(hits: list[Hit]) -> list[str]:
    return [hit.text for hit in hits]


@pytest.mark.parametrize("k", [1, 3, 5, 50])
def test_as_many_hits_come_as_were_asked_for_or_are_there(vectors: Vectors, tenant: str, k: int) -> None:
    vectors.sync(tenant, G, make_entries(tenant, TEXTS, EMBEDDER), EMBEDDER.fingerprint)
    hits = search(vectors, tenant, "red cat", k=k)
    assert len(hits) == min(k, len(TEXTS))
    assert len({hit.citation.chunk_id for hit in hits}) == len(hits)
    assert texts_of(hits)[0] == "red cat sleeps"


def test_scores_fall_from_one_and_say_what_they_are_made_of(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, G, entries, EMBEDDER.fingerprint)
    question = "grey owl and red cat"
    hits = search(vectors, tenant, question)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1 + 1e-9
    asked = EMBEDDER.embed([question])[0]
    cosine_of = {entry.text: float(entry.vector @ asked) for entry in entries}
    assert [hit.cosine for hit in hits] == pytest.approx([cosine_of[hit.text] for hit in hits], abs=1e-5)


def test_a_hit_cites_the_exact_bytes(vectors: Vectors, tenant: str) -> None:
    entry = make_entries(tenant, ["red cat"], EMBEDDER)[0]
    entry = replace(entry, chunk=replace(entry.chunk, byte_start=17, byte_end=24, filename="Zoë’s notes.md"))
    vectors.sync(tenant, G, [entry], EMBEDDER.fingerprint)
    (hit,) = search(vectors, tenant, "cat")
    cited = hit.citation
    assert (cited.chunk_id, cited.document_sha256) == (entry.chunk.chunk_id, entry.chunk.document_sha256)
    assert (cited.filename, cited.byte_start, cited.byte_end) == ("Zoë’s notes.md", 17, 24)


def test_what_is_withheld_is_no_candidate_and_no_score_tells_of_it(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    secret = entries[0].chunk.document_sha256
    vectors.sync(tenant, G, entries, EMBEDDER.fingerprint)
    asked = EMBEDDER.embed(["red cat"])[0]
    given = {"fingerprint": EMBEDDER.fingerprint, "k": 10, "keyword_weight": 0.3, "neighbour_weight": 0.5}
    shown = vectors.search(tenant, G, "red cat", asked, withheld=[secret], **given)
    assert sorted(texts_of(shown)) == sorted(TEXTS[1:])
    vectors.sync(tenant, G, entries[1:], EMBEDDER.fingerprint)
    alone = vectors.search(tenant, G, "red cat", asked, **given)
    assert [(hit.text, round(hit.score, 4)) for hit in shown] == [(hit.text, round(hit.score, 4)) for hit in alone]
    every = [entry.chunk.document_sha256 for entry in entries]
    assert vectors.search(tenant, G, "red cat", asked, withheld=every, **given) == []


def test_a_tenant_without_entries_finds_nothing(vectors: Vectors, tenant: str) -> None:
    assert search(vectors, tenant, "red cat") == []
    assert vectors.count(tenant) == 0


def test_a_search_sees_one_tenant(vectors: Vectors, new_tenant: Callable[[], str]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    vectors.sync(mine, G, make_entries(mine, ["green dog"], EMBEDDER), EMBEDDER.fingerprint)
    vectors.sync(theirs, G, make_entries(theirs, ["red cat", "red fox"], EMBEDDER), EMBEDDER.fingerprint)
    assert texts_of(search(vectors, mine, "red cat")) == ["green dog"]
    assert (vectors.count(mine), vectors.count(theirs)) == (1, 2)
    vectors.sync(mine, G, [], EMBEDDER.fingerprint)
    assert (vectors.count(mine), vectors.count(theirs)) == (0, 2)


def test_a_search_sees_one_model_even_of_another_dimension(vectors: Vectors, tenant: str) -> None:
    """Vectors of the model before lie there until the next sync; comparing with them would be an error or nonsense."""
    vectors.sync(tenant, G, make_entries(tenant, TEXTS, EMBEDDER), "old-model/64")
    assert search(vectors, tenant, "red cat", fingerprint="new-model/3") == []
    other = make_entries(tenant, ["red cat"], EMBEDDER, vectors=np.eye(3, dtype=np.float32)[:1])
    vectors.sync(tenant, G, other, "new-model/3")
    hits = search(vectors, tenant, "red cat", fingerprint="new-model/3", vector=np.eye(3, dtype=np.float32)[0])
    assert texts_of(hits) == ["red cat"]


def test_a_sync_writes_the_new_keeps_the_known_and_deletes_the_gone(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    assert vectors.sync(tenant, G, entries[:3], EMBEDDER.fingerprint) == SyncCount(written=3, kept=0, deleted=0)
    assert vectors.sync(tenant, G, entries[:3], EMBEDDER.fingerprint) == SyncCount(written=0, kept=3, deleted=0)
    assert vectors.sync(tenant, G, entries[1:], EMBEDDER.fingerprint) == SyncCount(written=2, kept=2, deleted=1)
    assert sorted(texts_of(search(vectors, tenant, "red"))) == sorted(TEXTS[1:])
    assert vectors.sync(tenant, G, [], EMBEDDER.fingerprint) == SyncCount(written=0, kept=0, deleted=4)
    assert vectors.count(tenant) == 0


def test_a_sync_writes_again_what_another_model_embedded(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, G, entries, "old-model/64")
    assert vectors.sync(tenant, G, entries, EMBEDDER.fingerprint) == SyncCount(written=5, kept=0, deleted=5)
    assert len(search(vectors, tenant, "red")) == vectors.count(tenant) == 5


def change_text(entry: VectorEntry) -> VectorEntry:
    text = "violet newt swims"
    return replace(entry, text=text, input_sha256="another", vector=EMBEDDER.embed([text])[0])


def change_file_name(entry: VectorEntry) -> VectorEntry:
    return replace(entry, chunk=replace(entry.chunk, filename="notes.txt"))


def change_place(entry: VectorEntry) -> VectorEntry:
    return replace(entry, chunk=replace(entry.chunk, byte_start=3, byte_end=entry.chunk.byte_end + 3))


@pytest.mark.parametrize("change", [change_text, change_file_name, change_place])
def test_a_sync_writes_what_changed(vectors: Vectors, tenant: str, change: Callable[[VectorEntry], VectorEntry]) -> None:
    """A file that came back as `notes.txt` in place of `notes.md` has the same title and so the same embedding; answers went
    on citing a file the user no longer has."""
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, G, entries, EMBEDDER.fingerprint)
    changed = change(entries[2])
    count = vectors.sync(tenant, G, [*entries[:2], changed, *entries[3:]], EMBEDDER.fingerprint)
    assert count == SyncCount(written=1, kept=4, deleted=1)
    (hit,) = [h for h in search(vectors, tenant, "newt bird") if h.citation.chunk_id == changed.chunk.chunk_id]
    assert hit.text == changed.text
    cited = hit.citation
    assert (cited.filename, cited.byte_start, cited.byte_end) == (
        changed.chunk.filename,
        changed.chunk.byte_start,
        changed.chunk.byte_end,
    )


def test_a_sync_that_fails_changes_nothing(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, G, entries[:3], EMBEDDER.fingerprint)
    broken = replace(entries[4], vector=np.full(64, np.nan, dtype=np.float32))
    with pytest.raises(StoreError) as caught:
        vectors.sync(tenant, G, [entries[0], change_text(entries[1]), entries[3], broken], EMBEDDER.fingerprint)
    assert not caught.value.retryable
    assert sorted(texts_of(search(vectors, tenant, "red"))) == sorted(TEXTS[:3])


def test_two_syncs_at_once_leave_the_entries_of_one(vectors: Vectors, new_tenant: Callable[[], str]) -> None:
    """Both read an empty tenant, both inserted, and the tenant held the chunks of two versions of its documents."""
    for _ in range(6):
        tenant = new_tenant()
        sets = [make_entries(tenant, TEXTS[:2], EMBEDDER), make_entries(tenant, TEXTS[3:], EMBEDDER)]
        together = threading.Barrier(2)

        def sync(entries: list[VectorEntry], tenant: str = tenant, together: threading.Barrier = together) -> None:
            together.wait()
            vectors.sync(tenant, G, entries, EMBEDDER.fingerprint)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(sync, sets))
        found = set(texts_of(search(vectors, tenant, "red")))
        assert found in ({*TEXTS[:2]}, {*TEXTS[3:]})


def test_a_generation_stays_searchable_while_the_next_is_made(vectors: Vectors, tenant: str) -> None:
    """A chat answered from chunks of documents that its release had never seen, and cited them in that release's name."""
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, "old", entries[:3], EMBEDDER.fingerprint)
    count = vectors.sync(tenant, "new", entries[1:], EMBEDDER.fingerprint)
    assert count == SyncCount(written=2, kept=2, deleted=0)
    assert sorted(texts_of(search(vectors, tenant, "red", generation="old"))) == sorted(TEXTS[:3])
    assert sorted(texts_of(search(vectors, tenant, "red", generation="new"))) == sorted(TEXTS[1:])
    assert search(vectors, tenant, "red", generation="never made") == []
    assert (vectors.count(tenant), vectors.count(tenant, "old"), vectors.count(tenant, "new")) == (5, 3, 4)


def test_generations_of_one_chunk_embedded_by_two_models_do_not_meet(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS[:2], EMBEDDER)
    vectors.sync(tenant, "old", entries, "old-model/64")
    vectors.sync(tenant, "new", entries, EMBEDDER.fingerprint)
    assert len(search(vectors, tenant, "red", generation="new")) == 2
    assert search(vectors, tenant, "red", generation="old") == []
    assert len(search(vectors, tenant, "red", generation="old", fingerprint="old-model/64")) == 2


def test_a_model_of_another_dimension_lies_beside_the_old_one(vectors: Vectors, tenant: str) -> None:
    """A change of the embedding model builds its generation while chats go on with that of the model before. Two vectors of
    different lengths must never be compared, in whatever order the server looks at rows, and at conditions on them."""
    texts = [f"{text} {i}" for i in range(60) for text in TEXTS]
    narrow = make_entries(tenant, texts, EMBEDDER)
    wide = make_entries(tenant, texts, EMBEDDER, vectors=np.repeat(EMBEDDER.embed(texts), 24, axis=1))
    vectors.sync(tenant, "old", narrow, "old-model/64")
    vectors.sync(tenant, "new", wide, "new-model/1536")
    asked = EMBEDDER.embed(["red cat"])[0]
    for generation, fingerprint, vector in (("old", "old-model/64", asked), ("new", "new-model/1536", np.repeat(asked, 24))):
        hits = search(vectors, tenant, "red cat", generation=generation, fingerprint=fingerprint, vector=vector, k=300)
        assert len(hits) == len(texts)
        assert hits[0].text.startswith("red cat sleeps")
        assert vectors.count(tenant, generation) == len(texts)
    vectors.sync(tenant, "old", [], "old-model/64")
    assert vectors.count(tenant) == vectors.count(tenant, "new") == len(texts)


def test_a_generation_that_is_given_up_takes_only_its_own_entries(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, "first", entries[:2], EMBEDDER.fingerprint)
    vectors.sync(tenant, "second", entries[1:3], EMBEDDER.fingerprint)
    vectors.sync(tenant, "third", entries[2:4], EMBEDDER.fingerprint)
    assert vectors.drop_generations(tenant, ["first", "third"]) == 0, "what the second holds, the others hold too"
    assert search(vectors, tenant, "red", generation="second") == []
    assert vectors.drop_generations(tenant, ["third"]) == 2
    assert vectors.count(tenant) == vectors.count(tenant, "third") == 2


def test_a_generation_newer_than_those_kept_may_belong_to_a_run_under_way_and_stays(vectors: Vectors, tenant: str) -> None:
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(tenant, "released", entries[:2], EMBEDDER.fingerprint)
    vectors.sync(tenant, "under way", entries[2:], EMBEDDER.fingerprint)
    assert vectors.drop_generations(tenant, ["released"]) == 0
    assert vectors.count(tenant, "under way") == 3
    vectors.sync(tenant, "released", entries[:2], EMBEDDER.fingerprint)
    assert vectors.drop_generations(tenant, ["released"]) == 3, "synced again, it is the newest"
    assert vectors.drop_generations(tenant, []) == vectors.drop_generations(tenant, ["never made"]) == 0


def test_giving_up_generations_touches_no_other_tenant(vectors: Vectors, new_tenant: Callable[[], str]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    for tenant in (theirs, mine):
        for generation in ("first", "second"):
            vectors.sync(tenant, generation, make_entries(tenant, [generation], EMBEDDER), EMBEDDER.fingerprint)
    assert vectors.drop_generations(mine, ["second"]) == 1
    assert (vectors.count(mine), vectors.count(theirs)) == (1, 2)


def test_a_document_leaves_every_generation_of_its_tenant_and_no_other(vectors: Vectors, new_tenant: Callable[[], str]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    for tenant in (mine, theirs):
        entries = make_entries(tenant, TEXTS, EMBEDDER)
        vectors.sync(tenant, "old", entries[:2], EMBEDDER.fingerprint)
        vectors.sync(tenant, G, entries, EMBEDDER.fingerprint)
    gone = make_entries(mine, TEXTS[:1], EMBEDDER)[0].chunk.document_sha256
    assert vectors.forget_documents(mine, [gone]) == 1
    assert vectors.forget_documents(mine, [gone]) == 0
    assert [vectors.count(mine, generation) for generation in ("old", G)] == [1, 4]
    assert TEXTS[0] not in texts_of(search(vectors, mine, TEXTS[0]))
    assert vectors.count(theirs, G) == 5


def test_a_tenant_who_is_deleted_takes_every_generation_along_and_no_other_tenant(
    vectors: Vectors, new_tenant: Callable[[], str]
) -> None:
    one, two = new_tenant(), new_tenant()
    for tenant in (one, two):
        for generation in ("g", "h"):
            vectors.sync(tenant, generation, make_entries(tenant, ["red cat", generation], EMBEDDER), EMBEDDER.fingerprint)
    vectors.delete_user(one)
    vectors.delete_user(one)
    vectors.delete_user("vectors-nobody")
    assert (vectors.count(one), vectors.count(two)) == (0, 3)
    vectors.sync(one, "g", make_entries(one, ["blue cat"], EMBEDDER), EMBEDDER.fingerprint)
    assert vectors.count(one) == 1, "the id may be used again"


def test_words_find_what_vectors_miss(vectors: Vectors, tenant: str) -> None:
    ways = np.eye(4, dtype=np.float32)
    texts = ["invoice xq77 was paid", "the sea was cold", "bread and butter"]
    vectors.sync(tenant, G, make_entries(tenant, texts, EMBEDDER, vectors=ways[[0, 1, 2]]), EMBEDDER.fingerprint)
    far = ways[1] * 0.9 + ways[2] * 0.43588989  # nothing of the first text
    assert texts_of(search(vectors, tenant, "xq77", vector=far, keyword_weight=0.6))[0] == texts[0]
    assert texts_of(search(vectors, tenant, "xq77", vector=far, keyword_weight=0.0))[0] == texts[1]


def test_vectors_find_what_words_miss(vectors: Vectors, tenant: str) -> None:
    ways = np.eye(4, dtype=np.float32)
    texts = ["the sea was cold", "invoice xq77 was paid", "bread and butter"]
    vectors.sync(tenant, G, make_entries(tenant, texts, EMBEDDER, vectors=ways[[0, 1, 2]]), EMBEDDER.fingerprint)
    near = ways[0] * 0.9 + ways[1] * 0.43588989
    assert texts_of(search(vectors, tenant, "chilly water xq77", vector=near, keyword_weight=0.3))[0] == texts[0]
    assert texts_of(search(vectors, tenant, "chilly water xq77", vector=near, keyword_weight=1.0))[0] == texts[1]


def test_a_word_nearby_counts_less_than_one_inside(vectors: Vectors, tenant: str) -> None:
    texts, near = ["plain alpha", "plain beta", "plain gamma"], ["nothing", "alpha", "nothing"]
    vectors.sync(tenant, G, make_entries(tenant, texts, EMBEDDER, near=near), EMBEDDER.fingerprint)
    hits = {h.text: h.bm25 for h in search(vectors, tenant, "alpha", keyword_weight=1.0)}
    assert hits["plain alpha"] > hits["plain beta"] > hits["plain gamma"] == 0
    deaf = {h.text: h.bm25 for h in search(vectors, tenant, "alpha", keyword_weight=1.0, neighbour_weight=0.0)}
    assert deaf["plain alpha"] > deaf["plain beta"] == deaf["plain gamma"] == 0


@pytest.mark.parametrize("vectors", OWN_FORMULA, indirect=True)
@pytest.mark.parametrize(
    "question", ["delta", "alpha beta", "alpha alpha gamma", "beta omega", "omega", "gamma delta alpha beta"]
)
@pytest.mark.parametrize("neighbour_weight", [0.0, 0.5, 1.0])
def test_keywords_score_as_the_formula_of_the_books(
    vectors: Vectors, tenant: str, question: str, neighbour_weight: float
) -> None:
    texts = [
        "alpha beta gamma",
        "alpha alpha delta",
        "beta",
        "gamma gamma gamma gamma beta alpha kappa",
        "kappa lambda",
        "delta",
    ]
    near = ["", "beta gamma", "alpha alpha", "", "delta kappa kappa", "kappa"]
    entries = make_entries(tenant, texts, EMBEDDER, near=near)
    vectors.sync(tenant, G, entries, EMBEDDER.fingerprint)
    hits = search(vectors, tenant, question, neighbour_weight=neighbour_weight)
    wanted = dict(zip(texts, bm25f(question, list(zip(texts, near, strict=True)), neighbour_weight), strict=True))
    assert [hit.bm25 for hit in hits] == pytest.approx([wanted[hit.text] for hit in hits], abs=1e-6)


@pytest.mark.parametrize("vectors", OWN_FORMULA, indirect=True)
def test_the_fused_score_is_the_weighted_sum_of_both_ranges(vectors: Vectors, tenant: str) -> None:
    vectors.sync(tenant, G, make_entries(tenant, TEXTS, EMBEDDER), EMBEDDER.fingerprint)
    hits = search(vectors, tenant, "red cat hunts", keyword_weight=0.3)
    cosines, words = [hit.cosine for hit in hits], [hit.bm25 for hit in hits]
    wanted = [
        0.7 * (cosine - min(cosines)) / (max(cosines) - min(cosines)) + 0.3 * (word - min(words)) / (max(words) - min(words))
        for cosine, word in zip(cosines, words, strict=True)
    ]
    assert [hit.score for hit in hits] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("keyword_weight", "half"), [(0.0, "cosine"), (1.0, "bm25")])
def test_with_all_the_weight_on_one_half_its_order_is_the_order(
    vectors: Vectors, tenant: str, keyword_weight: float, half: str
) -> None:
    """A hybrid search of Weaviate without the half of meaning knows no entry without a word of the question."""
    vectors.sync(tenant, G, make_entries(tenant, TEXTS, EMBEDDER), EMBEDDER.fingerprint)
    hits = search(vectors, tenant, "red cat sings", keyword_weight=keyword_weight)
    scores = [getattr(hit, half) for hit in hits]
    assert len(hits) == len(TEXTS)
    assert scores == sorted(scores, reverse=True)
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_equal_entries_come_in_the_order_of_their_ids(vectors: Vectors, tenant: str) -> None:
    same = "alpha beta gamma delta kappa lambda sigma omega"
    vectors.sync(tenant, G, make_entries(tenant, [same] * 40, EMBEDDER), EMBEDDER.fingerprint)
    first = search(vectors, tenant, f"{same} {same}", k=12)
    ids = [hit.citation.chunk_id for hit in first]
    assert ids == sorted(entry.chunk.chunk_id for entry in make_entries(tenant, [same] * 40, EMBEDDER))[:12]
    assert search(vectors, tenant, f"{same} {same}", k=12) == first


@pytest.mark.parametrize("question", ["the and of", "!?", "it's 50% :k 'quoted' & | ! <-> (x)", "Zoë's café 😀", "a\\b %s {x}"])
def test_no_question_breaks_the_search(vectors: Vectors, tenant: str, question: str) -> None:
    vectors.sync(tenant, G, make_entries(tenant, TEXTS, EMBEDDER), EMBEDDER.fingerprint)
    assert len(search(vectors, tenant, question)) == len(TEXTS)


def test_postgres_knows_a_word_by_its_stem(stores: Stores, user_id: str) -> None:
    vectors = PgVectors(stores.tables)
    vectors.sync(user_id, G, make_entries(user_id, ["he repairs clocks", "she swims"], EMBEDDER), EMBEDDER.fingerprint)
    hits = {hit.text: hit.bm25 for hit in search(vectors, user_id, "Which clock did you repair?")}
    assert hits["he repairs clocks"] > hits["she swims"] == 0
