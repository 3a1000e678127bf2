"""Near-duplicates: found however the copy was made, linked from newer to older, and never where two notes only sound alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L0.duplicates import (
    SKETCHES,
    NearCount,
    find_near_duplicates,
    link_near_duplicates,
    same_words_key,
    shared_share,
    sketch_text,
)
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.layout import asset_key, text_key
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.samples import NOON, make_document

NOTE = (
    "Our cat is called Pilchard. He lost an eye in Portishead in 2019, and the vet charged £265 for a tooth. "
    "On Sundays he sleeps on the bench beside the printer, and nobody may open the door while he does."
)
EDITED = NOTE.replace("£265", "£300").replace("Sundays", "Mondays")
OTHER = (
    "The band meets on Tuesdays. Brynley conducts, and I play the cornet as well as I can. We won £40 in Torquay last year, "
    "which paid for the music stands and for one very large cake that nobody has forgotten since."
)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("The cat.", " the  CAT.\n", True),
        ("Zoe\u0308", "Zoë", True),
        ("-5 °C", "5 °C", False),
        ("£5", "$5", False),
        ("5²", "52", False),
        ("The cat.", "The cat", False),
    ],
)
def test_the_same_words_differ_in_case_space_and_accents_alone(one: str, other: str, equal: bool) -> None:
    assert (same_words_key(one) == same_words_key(other)) is equal


def share_of(one: str, other: str) -> float:
    return shared_share(sketch_text("1", one), sketch_text("2", other))


WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "saw", "two", "dogs"]), min_size=1, max_size=60).map(
    " ".join
)


@given(WORDS, WORDS)
def test_a_short_texts_share_is_the_share_of_its_triples(one: str, other: str) -> None:
    def triples(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple([*words, "", "", ""][i : i + 3]) for i in range(max(1, len(words) - 2))}

    first, second = triples(one), triples(other)
    assert share_of(one, other) == pytest.approx(len(first & second) / len(first | second))


def test_a_long_texts_share_is_nearly_that_of_its_triples() -> None:
    words = [f"word{i}" for i in range(6000)]
    assert share_of(" ".join(words[:4500]), " ".join(words[1500:])) == pytest.approx(0.5, abs=0.08)


def test_text_without_spaces_between_words_is_compared_too() -> None:
    note = "今日は良い天気ですね。明日も晴れるでしょう。公園で猫を見ました。"
    assert share_of(note, note.replace("猫", "犬")) > 0.7
    assert share_of(note, "この機械は夜も動きます。停電の時は止まります。") < 0.1


def documents(*contents: str) -> list[Document]:
    """One document a text, each a minute newer than the one before."""
    return [
        replace(make_document("1", f"{i}.md", text.encode(), "read"), created_at=NOON + timedelta(minutes=i))
        for i, text in enumerate(contents)
    ]


def links_between(rows: list[Document], *contents: str) -> dict[int, int | None]:
    sketches = {row.sha256: sketch_text(row.sha256, text) for row, text in zip(rows, contents, strict=True)}
    place = {row.sha256: i for i, row in enumerate(rows)}
    found = find_near_duplicates(rows, sketches, 0.5)
    return {place[sha256]: None if older is None else place[older] for sha256, older in found.items()}


def test_an_edited_note_is_linked_to_the_older_one_and_to_nothing_else() -> None:
    contents = (NOTE, OTHER, EDITED)
    assert links_between(documents(*contents), *contents) == {0: None, 1: None, 2: 0}


def test_texts_without_a_word_repeat_nothing() -> None:
    """A row of dashes and a smile were one and the same text."""
    contents = ("-----", "😀😀", NOTE)
    assert links_between(documents(*contents), *contents) == {0: None, 1: None, 2: None}


def test_the_order_of_the_rows_does_not_matter() -> None:
    contents = (NOTE, OTHER, EDITED)
    rows = documents(*contents)
    sketches = {row.sha256: sketch_text(row.sha256, text) for row, text in zip(rows, contents, strict=True)}
    assert find_near_duplicates(rows[::-1], sketches, 0.5) == find_near_duplicates(rows, sketches, 0.5)


def test_of_several_older_ones_the_most_alike_is_named_and_of_equals_the_newest() -> None:
    contents = (NOTE, EDITED, EDITED + " Really.")
    assert links_between(documents(*contents), *contents) == {0: None, 1: 0, 2: 1}
    contents = (NOTE, NOTE.upper(), NOTE.lower())
    assert links_between(documents(*contents), *contents) == {0: None, 1: 0, 2: 1}


def test_of_equals_the_one_in_the_twin_is_named_before_one_that_was_replaced() -> None:
    contents = (NOTE, NOTE.upper(), NOTE.lower())
    rows = documents(*contents)
    rows[1] = replace(rows[1], status="replaced")
    assert links_between(rows, *contents)[2] == 0


@given(st.lists(st.sampled_from([NOTE, EDITED, OTHER, NOTE + OTHER, OTHER.upper(), "Hi.", "猫"]), max_size=8, unique=True))
def test_links_point_to_older_documents_and_never_round(contents: list[str]) -> None:
    for newer, older in links_between(documents(*contents), *contents).items():
        assert older is None or older < newer


def read(stores: Stores, user_id: str) -> tuple[list[Document], NearCount]:
    found, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
    return link_near_duplicates(stores.tables, stores.blobs, user_id, found, stores.settings.reading.near_duplicate_share)


def send(stores: Stores, user_id: str, name: str, text: str) -> None:
    limits = stores.settings.limits
    assert receive_document(stores.tables, stores.blobs, limits, user_id, name, text.encode()).status == "stored"


def test_links_stand_in_the_rows_and_a_text_is_sketched_once(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "z.md", NOTE)
    send(stores, user_id, "b.md", OTHER)
    assert read(stores, user_id)[1] == NearCount(0, 0)
    send(stores, user_id, "a.md", EDITED)
    found, count = read(stores, user_id)
    assert count == NearCount(near_duplicates=1, newer_versions=0)
    wanted = {"a.md": sha256_hex(NOTE.encode()), "b.md": None, "z.md": None}
    assert {document.filename: document.near_duplicate_of for document in found} == wanted
    with stores.tables.transaction(user_id) as connection:
        rows = list_documents(connection, user_id)
    assert {row.filename: row.near_duplicate_of for row in rows} == wanted
    stores.blobs.delete(text_key(user_id, sha256_hex(NOTE.encode())))  # a second sketch would miss it
    assert read(stores, user_id) == (found, count)


def test_a_newer_version_of_a_file_is_linked_to_the_one_it_replaced(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "a.md", NOTE)
    read(stores, user_id)
    send(stores, user_id, "a.md", EDITED)
    (document,), count = read(stores, user_id)
    assert document.near_duplicate_of == sha256_hex(NOTE.encode())
    assert count == NearCount(near_duplicates=0, newer_versions=1)


def test_a_link_to_what_is_no_longer_nearly_the_same_goes(stores: Stores, user_id: str) -> None:
    """The older copy was sent again: now it is the newer one."""
    send(stores, user_id, "a.md", NOTE)
    send(stores, user_id, "b.md", EDITED)
    read(stores, user_id)
    send(stores, user_id, "a.md", OTHER)
    read(stores, user_id)
    send(stores, user_id, "a.md", NOTE)
    found, _ = read(stores, user_id)
    assert {document.filename: document.near_duplicate_of for document in found} == {
        "a.md": sha256_hex(EDITED.encode()),
        "b.md": None,
    }


def test_a_damaged_file_of_sketches_is_made_anew(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "a.md", NOTE)
    send(stores, user_id, "b.md", EDITED)
    wanted = read(stores, user_id)
    stores.blobs.put(asset_key(user_id, SKETCHES, "jsonl"), b'{"half": ')
    assert read(stores, user_id) == wanted
