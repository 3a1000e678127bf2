"""The decisions alone, on sets written down by hand and drawn at random: no store, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L0.embed import embed_chunks, generation_of
from lpm_kernel.layout import gguf_key, lora_config_key, lora_key, raw_key, text_key
from lpm_kernel.reconcile.decide_blobs import decide_blobs
from lpm_kernel.reconcile.decide_dao import decide_dao
from lpm_kernel.reconcile.decide_graph import decide_graph
from lpm_kernel.reconcile.decide_memories import decide_memories
from lpm_kernel.reconcile.decide_vectors import decide_vectors, name_of_held
from lpm_kernel.reconcile.findings import Finding, Report, UserReport, out_of_step, seen_twice, what_is_left
from lpm_kernel.reconcile.inventory import (
    BlobInventory,
    DaoInventory,
    GraphInventory,
    HeldFact,
    HeldMemory,
    MemoryInventory,
    NamedRelease,
    Truth,
    VectorInventory,
    WantedChunk,
    WantedGeneration,
)
from lpm_kernel.reconcile.report import as_markdown, figures
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.blobs import StoredObject
from lpm_kernel.stores.vectors import HeldEntry
from tests.fakes import FakeEmbedder, no_progress
from tests.samples import NOON, make_document, make_items

U = "u"
A, B, C = (sha256_hex(name.encode()) for name in "abc")
LORA, GGUF = sha256_hex(b"lora"), sha256_hex(b"gguf")
RELEASE = NamedRelease("r", "live", False, gguf_key(U, GGUF), GGUF, LORA, None, None, "g", "f")
FEW = st.sets(st.sampled_from("pqrstuvw"), max_size=8)


def truth(*named: str, deleted: Iterable[str] = (), releases: tuple[NamedRelease, ...] = ()) -> Truth:
    documents = {sha: replace(make_document(U, f"{sha}.md", b"four", "read"), sha256=sha) for sha in named}
    return Truth(U, documents, frozenset(deleted), releases, frozenset({"talk"}))


def objects(*keys: str, size: int = 4) -> tuple[StoredObject, ...]:
    return tuple(StoredObject(key, size, "etag", NOON) for key in keys)


def entry(chunk_id: str, document: str = A, generations: tuple[str, ...] = ("g",), fingerprint: str = "f") -> HeldEntry:
    return HeldEntry(chunk_id, document, "a.md", 0, 4, fingerprint, "input", f"text of {chunk_id}", generations)


def wanted(*chunk_ids: str, rewritable: bool = True) -> WantedGeneration:
    chunks = {chunk_id: WantedChunk(A, f"text of {chunk_id}") for chunk_id in chunk_ids}
    return WantedGeneration("g", "f", "another", chunks, rewritable)


def found(findings: Iterable[Finding], kind: str) -> set[str]:
    return {item for finding in findings if finding.kind == kind for item in finding.items}


def test_a_text_is_made_anew_only_where_the_raw_file_is_whole() -> None:
    raw, stored = raw_key(U, A), text_key(U, A)
    (finding,) = decide_blobs(truth(A), BlobInventory(objects(raw)), NOON)
    assert (finding.kind, finding.items, finding.repair) == ("lacking", (stored,), "reread_text")
    findings = decide_blobs(truth(A), BlobInventory(objects(raw), damaged=frozenset({raw})), NOON)
    assert {(each.kind, each.items, each.repair) for each in findings} == {
        ("damaged", (raw,), None),
        ("lacking", (stored,), None),
    }


def test_an_object_of_another_size_is_damaged() -> None:
    findings = decide_blobs(truth(A), BlobInventory(objects(raw_key(U, A), size=3) + objects(text_key(U, A))), NOON)
    assert found(findings, "damaged") == {raw_key(U, A)}


def test_a_release_names_its_adapter_in_both_forms_and_what_that_has_learned() -> None:
    findings = decide_blobs(truth(releases=(RELEASE,)), BlobInventory((), learned={LORA: "tenant/u/lora/rows"}), NOON)
    assert found(findings, "lacking") == {gguf_key(U, GGUF), lora_key(U, LORA), lora_config_key(U, LORA), "tenant/u/lora/rows"}


def test_of_a_stale_release_only_what_still_serves_is_asked_for() -> None:
    stale = replace(RELEASE, stale=True)
    assert found(decide_blobs(truth(releases=(stale,)), BlobInventory(()), NOON), "lacking") == {gguf_key(U, GGUF)}
    assert decide_blobs(truth(releases=(replace(stale, status="retired"),)), BlobInventory(()), NOON) == []


def test_weights_of_a_run_that_published_nothing_are_known_and_kept() -> None:
    key = gguf_key(U, GGUF)
    (finding,) = decide_blobs(truth(), BlobInventory(objects(key)), NOON)
    assert (finding.explained_by, finding.outcome) == ("unreleased", "kept")
    assert decide_blobs(truth(), BlobInventory(objects(key), weights=frozenset({GGUF})), NOON) == []
    assert out_of_step([finding]) is None


@given(there=FEW, named=FEW, gone=FEW)
def test_each_raw_file_is_right_lacking_left_over_or_unexplained_and_only_leftovers_of_deletions_go(
    there: set[str], named: set[str], gone: set[str]
) -> None:
    gone -= named
    shas = {letter: sha256_hex(letter.encode()) for letter in "pqrstuvw"}
    keys = {letter: raw_key(U, sha) for letter, sha in shas.items()}
    says = truth(*(shas[letter] for letter in named), deleted=[shas[letter] for letter in gone])
    says = replace(says, documents={sha: replace(row, text_size_bytes=None) for sha, row in says.documents.items()})
    findings = decide_blobs(says, BlobInventory(objects(*(keys[letter] for letter in there))), NOON + timedelta(days=1))
    assert found(findings, "lacking") == {keys[letter] for letter in named - there}
    assert {i for f in findings if f.repair == "go_on_deleting" for i in f.items} == {keys[x] for x in there & gone}
    strays = [each for each in findings if each.explained_by == "broken-off write"]
    assert found(strays, "surplus") == {keys[letter] for letter in there - named - gone}
    assert all((each.repair, each.outcome) == (None, "kept") for each in strays)


def test_bytes_that_nobody_was_told_of_are_kept_and_named_and_a_text_that_lost_its_row_is_for_a_person() -> None:
    """An upload that broke off made every hourly run fail for good, since nothing removes what nobody asked to delete."""
    raw, stored, late = raw_key(U, A), text_key(U, A), NOON + timedelta(days=1)
    (stray,) = decide_blobs(truth(), BlobInventory(objects(raw)), late)
    assert (stray.items, stray.outcome, out_of_step([stray])) == ((raw,), "kept", None)
    (lost,) = decide_blobs(truth(), BlobInventory(objects(raw, stored)), late)
    assert (lost.items, lost.outcome, lost.repair) == ((raw, stored), "reported", None)
    (wrong,) = decide_blobs(truth(), BlobInventory(objects(raw), damaged=frozenset({raw})), late)
    assert wrong.outcome == "reported", "bytes that are not what their key says are no upload's"


def of_document(document: str, *ranges: tuple[int, int], fingerprint: str = "f") -> list[HeldEntry]:
    made = (entry(f"{document[:4]}-{start}", document, fingerprint=fingerprint) for start, _ in ranges)
    return [replace(each, byte_start=start, byte_end=end) for each, (start, end) in zip(made, ranges, strict=True)]


def test_of_an_older_build_that_serves_each_document_must_be_covered_to_its_last_byte() -> None:
    """It was compared by its name alone, and by nothing once anything had been deleted."""
    older = WantedGeneration("g", "f", "another", None, False, frozenset({A, B}))
    release = replace(RELEASE, documents=frozenset({A, B}))

    def look(*entries: HeldEntry, deleted: Iterable[str] = ()) -> list[tuple[str, str, tuple[str, ...]]]:
        says = truth(A, B, releases=(release,), deleted=deleted)
        says = replace(says, documents={s: replace(row, text_size_bytes=8) for s, row in says.documents.items()})
        findings = decide_vectors(says, VectorInventory(entries, (older,)))
        assert all(each.repair is None and "backfill" in each.by for each in findings)
        return [(each.kind, each.what, each.items) for each in findings]

    whole, lacks = of_document(A, (0, 4), (4, 8)), "vectors of documents that the live release was made from"
    assert look(*whole, *of_document(B, (0, 8)), deleted=[C]) == [], "C's absence is meant, and the rest is whole"
    for broken in ((), ((0, 4),), ((4, 8),), ((0, 3), (4, 8))):
        assert look(*whole, *of_document(B, *broken), deleted=[C]) == [("lacking", lacks, (B,))]
    (other,) = look(*whole, *of_document(B, (0, 8), fingerprint="another model"))
    assert (other[0], other[2]) == ("damaged", (f"{B[:4]}-0",))
    (differs,) = look(*whole, *of_document(B, (0, 8)))
    assert differs[1] == "a generation that differs from its name"


def test_a_generation_of_a_release_holds_nothing_of_documents_that_it_does_not_name() -> None:
    older = WantedGeneration("g", "f", "another", None, False, frozenset({A}))
    says = truth(A, B, releases=(replace(RELEASE, documents=frozenset({A})),))
    findings = decide_vectors(says, VectorInventory((*of_document(A, (0, 9)), *of_document(B, (0, 9))), (older,)))
    assert [(each.kind, each.explained_by, each.items) for each in findings] == [("surplus", "unexplained", (f"{B[:4]}-0",))]


def test_the_name_of_a_generation_is_found_again_from_what_the_store_holds() -> None:
    items = make_items(U, {"b.md": "One cat. " * 30, "a.md": "Two dogs. " * 30}, 24)
    items.sort(key=lambda item: item.chunk.filename)
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    entries = [
        HeldEntry(
            *(item.chunk.chunk_id, item.chunk.document_sha256, item.chunk.filename, item.chunk.byte_start, item.chunk.byte_end),
            *(table.fingerprint, input_sha256, "", ("g",)),
        )
        for item, input_sha256 in zip(items, table.input_sha256s, strict=True)
    ]
    place = {"a.md": 0, "b.md": 1}
    assert len(entries) > 4
    assert name_of_held(sorted(entries, key=lambda each: each.chunk_id), place) == generation_of(table)
    assert name_of_held(entries[1:], place) != generation_of(table)
    assert name_of_held([], place) == ""


@given(held=FEW, named=FEW)
def test_a_generation_lacks_what_it_names_and_what_it_does_not_name_is_never_dropped(held: set[str], named: set[str]) -> None:
    findings = decide_vectors(truth(A), VectorInventory(tuple(map(entry, held)), (wanted(*named),)))
    assert found(findings, "lacking") == named - held
    assert found(findings, "surplus") == held - named
    rewritten = any(finding.repair == "rewrite_generation" for finding in findings)
    assert rewritten == bool(named - held and not held - named), "to write it anew would drop what nobody can explain"


def test_a_generation_that_has_its_own_name_is_whole_whatever_else_is_said() -> None:
    whole = replace(wanted("p", "q"), held_name="g")
    assert decide_vectors(truth(A), VectorInventory((entry("p"),), (whole,))) == []


def test_vectors_of_another_model_or_of_other_words_are_damaged() -> None:
    other_words = replace(entry("q"), text_sha256="others")
    held = (entry("p", fingerprint="other"), other_words, entry("r"))
    (finding,) = decide_vectors(truth(A), VectorInventory(held, (wanted("p", "q", "r"),)))
    assert (finding.kind, finding.items, finding.repair) == ("damaged", ("p", "q"), "rewrite_generation")


def test_what_a_deletion_took_is_not_missed_and_what_it_left_is_found() -> None:
    says = truth(A, deleted=[B])
    chunks = {"p": WantedChunk(A, "text of p"), "q": WantedChunk(B, "text of q"), "r": WantedChunk(None, None)}
    generation = WantedGeneration("g", "f", "another", chunks, True)
    assert decide_vectors(says, VectorInventory((entry("p"),), (generation,))) == []
    (left,) = decide_vectors(says, VectorInventory((entry("p"), entry("q", B)), (generation,)))
    assert (left.explained_by, left.items, left.repair) == ("deletion", (B,), "go_on_deleting")


def test_a_generation_of_which_no_artefact_is_left_is_told_by_its_name_unless_a_deletion_reached_it() -> None:
    unknown = WantedGeneration("g", "f", "another", None, False)
    (finding,) = decide_vectors(truth(A, releases=(RELEASE,)), VectorInventory((entry("p"),), (unknown,)))
    assert (finding.kind, finding.subject, finding.outcome) == ("damaged", "g", "reported")
    stale = truth(A, releases=(replace(RELEASE, stale=True),))
    assert decide_vectors(stale, VectorInventory((entry("p"),), (unknown,))) == []


def test_of_a_document_that_was_deleted_and_sent_again_nothing_is_missed_before_it_is_built_anew() -> None:
    """The run after it had failed. The generation that still served was without it on purpose, and was said to be damaged."""
    stale = replace(RELEASE, stale=True, documents=frozenset({A, B}), created_at=NOON)
    again = replace(truth(A, B).documents[B], created_at=NOON + timedelta(hours=1), text_size_bytes=4)
    chunks = {"p": WantedChunk(A, "text of p"), "q": WantedChunk(B, "text of q")}
    newest = WantedGeneration("g", "f", "another", chunks, True)
    older = WantedGeneration("g", "f", "another", None, False, frozenset({A, B}))

    def missed(document_of_a: bool, *releases: NamedRelease) -> list[set[str]]:
        says = truth(A, B, releases=releases)
        says = replace(says, documents={**says.documents, B: again})
        held = (entry("p"),) if document_of_a else ()
        return [found(decide_vectors(says, VectorInventory(held, (each,))), "lacking") for each in (newest, older)]

    assert missed(True, stale) == [set(), set()]
    assert missed(False, stale) == [{"p"}, {A}], "which was there all along"
    assert missed(True, replace(stale, created_at=NOON + timedelta(hours=2))) == [{"q"}, {B}], "it was made with it"
    built = replace(RELEASE, release_id="s", created_at=NOON + timedelta(hours=2))
    assert missed(True, replace(stale, status="retired"), built) == [{"q"}, {B}], "it was made anew with it"


@given(held=FEW, expected=FEW)
def test_a_memory_that_is_expected_and_not_there_is_lacking(held: set[str], expected: set[str]) -> None:
    inventory = MemoryInventory(tuple(map(HeldMemory, held)), tuple(map(HeldMemory, expected)), version=1, versioned=True)
    findings = decide_memories(truth(), inventory, date(2026, 3, 1))
    assert found(findings, "lacking") == expected - held
    assert found(findings, "surplus") == set()


def test_nothing_is_remembered_of_a_document_that_was_replaced() -> None:
    says = truth(A)
    says = replace(says, documents={A: replace(says.documents[A], status="replaced")})
    inventory = MemoryInventory((), (HeldMemory("m", A),))
    assert decide_memories(says, inventory, date(2026, 3, 1)) == []


def test_memories_of_nothing_that_is_known_are_told_and_kept() -> None:
    held = (HeldMemory("m", C), HeldMemory("n", session="another talk"), HeldMemory("o", session="talk"), HeldMemory("p", A))
    findings = decide_memories(truth(A), MemoryInventory(held, ()), date(2026, 3, 1))
    assert {(finding.items, finding.explained_by, finding.repair) for finding in findings} == {
        (("m",), "unexplained", None),
        (("n",), "unexplained", None),
    }


@given(held=FEW, expected=FEW)
def test_a_fact_that_is_expected_and_not_there_is_lacking(held: set[str], expected: set[str]) -> None:
    inventory = GraphInventory(tuple(map(HeldFact, held)), tuple(map(HeldFact, expected)))
    findings = decide_graph(truth(), inventory)
    assert found(findings, "lacking") == expected - held
    assert found(findings, "surplus") == set()


def test_facts_are_about_documents_and_releases_that_are_known() -> None:
    held = (HeldFact("p", frozenset({B})), HeldFact("q", frozenset({C})), HeldFact("r", releases=frozenset({"gone"})))
    findings = decide_graph(truth(A, deleted=[B], releases=(RELEASE,)), GraphInventory(held, (HeldFact("s", frozenset({B})),)))
    assert {(finding.items, finding.explained_by) for finding in findings} == {
        ((B,), "deletion"),
        (("q",), "unexplained"),
        (("r",), "unexplained"),
    }


def test_the_graph_of_votes_is_held_against_the_ledger() -> None:
    told = {"p": frozenset({"ada"}), "q": frozenset({"ada", "gone"}), "r": frozenset[str]()}
    held, members = frozenset({"q", "x"}), frozenset({"ada"})
    findings = decide_dao(DaoInventory(("event 3: no",), 5, 3, {"one": 1, "none": 0, "two": 2}, told, held, members))
    assert {(finding.kind, finding.items, finding.repair) for finding in findings} == {
        ("damaged", ("event 3: no",), None),
        ("damaged", ("none", "two"), None),
        ("behind", ("4", "5"), "project"),
        ("lacking", ("p", "r"), "rewrite_shared_facts"),
        ("surplus", ("q",), "forget_leavers"),
        ("surplus", ("x",), None),
    }


@given(first=FEW, second=FEW, third=FEW)
def test_only_what_both_looks_saw_is_a_finding_and_only_what_the_third_does_not_see_is_repaired(
    first: set[str], second: set[str], third: set[str]
) -> None:
    def look(items: set[str]) -> list[Finding]:
        about = Finding(U, "graph", "lacking", "facts", "lost", tuple(sorted(items)), repair="rewrite_facts")
        return [about] if items else []

    confirmed = seen_twice(look(first), look(second))
    assert found(confirmed, "lacking") == first & second
    for finding in confirmed:
        assert set(what_is_left(finding, look(third)) or ()) == first & second & third


def test_the_error_of_a_run_names_what_is_left_and_a_store_that_was_away_is_none_of_it() -> None:
    strange = Finding(U, "blobs", "surplus", "objects that nothing names", "unexplained", ("k",))
    away = Finding(U, "graph", "away", "store", "store away", outcome="waits", by="the next run")
    error = out_of_step([replace(strange, outcome="repaired"), strange, away])
    assert error is not None
    assert error.code == "out_of_step"
    assert "u: blobs surplus objects that nothing names" in error.message
    only_away = out_of_step([away])
    assert only_away is not None
    assert only_away.code == "not_compared"
    assert out_of_step([replace(strange, outcome="repaired")]) is None


def test_a_report_counts_and_shows_each_finding_on_a_line() -> None:
    strange = Finding(U, "blobs", "surplus", "objects that nothing names", "unexplained", ("tenant/u/a|b", "tenant/u/c"))
    mended = replace(strange, store="graph", outcome="repaired")
    report = Report(
        NOON, 1.5, (UserReport(U, (strange, mended)), UserReport("v", skipped="run 1 is under way"), UserReport("_shared"))
    )
    told = figures(report)
    assert (told["findings"], told["repaired"], told["reported"], told["users"], told["users_skipped"]) == (2, 1, 1, 2, 1)
    words = as_markdown(report)
    assert "- user v was skipped: run 1 is under way" in words
    assert "| u | blobs | surplus | objects that nothing names | 2 | unexplained | reported | a\\|b, c |" in words
    assert as_markdown(Report(NOON, 1.5, (UserReport(U),))) == "Every store agrees with the tables."
