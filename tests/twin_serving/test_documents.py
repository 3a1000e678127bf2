"""`POST /upload`, `GET /twin/{uid}/profile` over the real stores."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from lpm_kernel.artefacts import encode_record, encode_records
from lpm_kernel.L0.duplicates import link_near_duplicates
from lpm_kernel.L0.library import read_documents
from lpm_kernel.L1.biography import write_biography
from lpm_kernel.L1.records import Biography, BiographyLine, CitedLine, Community
from lpm_kernel.layout import asset_key, raw_key
from lpm_kernel.records import Chunk, Preference, Topic, VoiceProfile
from lpm_kernel.stores.documents import list_waiting, mark_deleted
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.samples import make_citation


def upload(client: TestClient, user_id: str, *files: tuple[str, bytes]):
    return client.post("/upload", data={"user_id": user_id}, files=[("files", file) for file in files])


def test_a_file_is_stored_its_user_made_known_and_the_sensor_sees_it(client: TestClient, stores: Stores) -> None:
    response = upload(client, "newcomer-1", ("notes.md", b"# Notes\n\nThe kettle is blue.\n"))
    assert response.status_code == 202
    (file,) = response.json()["files"]
    assert (file["filename"], file["status"]) == ("notes.md", "stored")
    assert stores.blobs.get(raw_key("newcomer-1", file["sha256"])) == b"# Notes\n\nThe kettle is blue.\n"
    with stores.tables.operator_transaction() as connection:
        assert "newcomer-1" in {waiting.user_id for waiting in list_waiting(connection)}


@pytest.mark.parametrize(
    ("name", "data", "status", "code"),
    [
        ("empty.txt", b"", 422, "document_empty"),
        ("big.txt", b"x" * 21_000_000, 413, "document_too_large"),
        ("program.exe", b"MZ", 415, "type_unknown"),
    ],
)
def test_a_refused_file_has_its_own_status_code_and_reason(
    client: TestClient, user_id: str, name: str, data: bytes, status: int, code: str
) -> None:
    response = upload(client, user_id, (name, data))
    assert response.status_code == status
    assert response.json()["code"] == code
    assert response.json()["files"][0]["code"] == code


def test_the_rest_of_a_batch_goes_on_and_each_refusal_is_kept(client: TestClient, user_id: str) -> None:
    """A mixed batch answers 202, and of its refusals only the empty file's was still known afterwards."""
    response = upload(
        client,
        user_id,
        ("empty.txt", b""),
        ("empty too.md", b""),
        ("good.txt", b"A good line.\n"),
        ("odd.bin", b"\x00\x01"),
        ("big.txt", b"x" * 21_000_000),
    )
    assert response.status_code == 202
    answered = {file["filename"]: (file["status"], file["code"]) for file in response.json()["files"]}
    assert answered == {
        "empty.txt": ("refused", "document_empty"),
        "empty too.md": ("refused", "document_empty"),
        "good.txt": ("stored", None),
        "odd.bin": ("refused", "type_unknown"),
        "big.txt": ("refused", "document_too_large"),
    }
    kept = client.get(f"/twin/{user_id}/profile").json()["documents"]
    status = {"refused": "refused", "received": "stored"}
    assert answered == {
        name: (status[row["status"]], row["code"]) for row in kept for name in (row["filename"], *row["also_named"])
    }
    assert all(row["reason"] for row in kept if row["code"])


def test_a_bad_user_id_is_refused_before_anything_is_stored(client: TestClient, stores: Stores) -> None:
    response = upload(client, "../x", ("notes.md", b"words"))
    assert (response.status_code, response.json()["code"]) == (422, "user_id_invalid")
    assert [key for key in stores.blobs.list_keys("tenant/") if ".." in key] == []


def test_the_one_hundred_and_first_document_is_refused(client: TestClient, user_id: str, stores: Stores) -> None:
    limit = stores.settings.limits.documents_per_user
    files = [(f"note-{i}.txt", f"Line number {i}.\n".encode()) for i in range(limit + 1)]
    response = upload(client, user_id, *files)
    states = [file["status"] for file in response.json()["files"]]
    assert states == ["stored"] * limit + ["refused"]
    assert response.json()["files"][-1]["code"] == "document_limit"


def test_the_profile_says_what_became_of_each_document(client: TestClient, user_id: str, stores: Stores) -> None:
    upload(
        client,
        user_id,
        ("good.txt", b"A good line.\n"),
        ("broken.pdf", b"%PDF-1.4 this is no PDF"),
        ("bin.txt", bytes(range(256)) * 9),
    )
    read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
    body = client.get(f"/twin/{user_id}/profile").json()
    found = {document["filename"]: (document["status"], document["code"]) for document in body["documents"]}
    assert found == {
        "good.txt": ("read", None),
        "broken.pdf": ("refused", "pdf_broken"),
        "bin.txt": ("refused", "binary_content"),
    }
    assert {document["filename"]: document["quarantined"] for document in body["documents"]} == {
        "good.txt": False,
        "broken.pdf": True,
        "bin.txt": True,
    }
    assert {document["filename"]: document["encoding"] for document in body["documents"]}["good.txt"] == "utf-8"
    assert body["release"] is None


def test_the_profile_names_the_older_document_that_one_nearly_repeats(client: TestClient, user_id: str, stores: Stores) -> None:
    note = b"Our cat is called Pilchard. He has one eye, and he sleeps on the bench beside the printer every Sunday.\n"
    upload(client, user_id, ("a.txt", note), ("b.txt", note.replace(b"Sunday", b"Monday")))
    found, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
    link_near_duplicates(stores.tables, stores.blobs, user_id, found, stores.settings.reading.near_duplicate_share)
    older, newer = client.get(f"/twin/{user_id}/profile").json()["documents"]
    assert (older["near_duplicate_of"], newer["near_duplicate_of"]) == (None, older["sha256"])


def test_the_profile_shows_every_name_of_a_content(client: TestClient, user_id: str) -> None:
    upload(client, user_id, ("a.txt", b"A line.\n"), ("b.txt", b"A line.\n"))
    (document,) = client.get(f"/twin/{user_id}/profile").json()["documents"]
    assert (document["filename"], document["also_named"]) == ("a.txt", ["b.txt"])


def test_topics_that_cannot_be_read_are_not_shown_as_none(client: TestClient, user_id: str, stores: Stores) -> None:
    """A damaged file of topics looked like a twin that has none yet."""
    assert client.get(f"/twin/{user_id}/profile").json()["topics"] == []
    stores.blobs.put(asset_key(user_id, "topics", "jsonl"), b'{"an": "older form"}\n')
    response = client.get(f"/twin/{user_id}/profile")
    assert (response.status_code, response.json()["code"]) == (500, "artefact_unreadable")


def test_the_profile_shows_voice_and_preferences_or_that_there_are_none_yet(
    client: TestClient, user_id: str, stores: Stores
) -> None:
    before = client.get(f"/twin/{user_id}/profile").json()
    assert (before["voice"], before["preferences"]) == (None, [])
    item = Preference("p", "I love maps.", "maps", "attitude", "for", 1.0, make_citation("I love maps."))
    profile = VoiceProfile(user_id, {"documents": 1}, None, "voice_too_little_text: 3 words", (item,))
    stores.blobs.put(asset_key(user_id, "voice_profile", "json"), encode_record(profile))
    body = client.get(f"/twin/{user_id}/profile").json()
    assert body["voice"] == {"measured": {"documents": 1}, "features": None, "absent": "voice_too_little_text: 3 words"}
    (shown,) = body["preferences"]
    assert (shown["text"], shown["polarity"], shown["byte_start"], shown["byte_end"]) == ("I love maps.", "for", 0, 12)
    stores.blobs.put(asset_key(user_id, "voice_profile", "json"), b'{"an": "older form"}')
    response = client.get(f"/twin/{user_id}/profile")
    assert (response.status_code, response.json()["code"]) == (500, "artefact_unreadable")


def test_the_profile_tells_the_biography_with_the_bytes_of_each_line(client: TestClient, user_id: str, stores: Stores) -> None:
    assert client.get(f"/twin/{user_id}/profile").json()["biography"] is None
    key = asset_key(user_id, "biography", "json")
    place = make_citation()
    line = BiographyLine("shade", "cat, vet, eye", "Our cat is called Pilchard.", (place,), "2025-02")
    stores.blobs.put(key, encode_record(Biography(user_id, (line,), None, (), None, "no date")))
    told = client.get(f"/twin/{user_id}/profile").json()["biography"]
    assert (told["lines"][0]["text"], told["lines"][0]["date"], told["lines"][0]["shade"]) == (line.text, line.date, line.shade)
    assert told["lines"][0]["citations"][0]["byte_end"] == place.byte_end
    assert (told["status"], told["status_skipped"]) == ([], "no date")


def test_a_biography_that_was_skipped_gives_the_reason_and_no_line(client: TestClient, user_id: str, stores: Stores) -> None:
    """Where there was no biography, a made-up sentence about a software engineer was shown and trained on."""
    stores.blobs.put(asset_key(user_id, "biography", "json"), encode_record(write_biography(user_id, [])))
    told = client.get(f"/twin/{user_id}/profile").json()["biography"]
    assert (told["lines"], told["status"]) == ([], [])
    assert told["skipped"].startswith("no shade")


def test_the_profile_shows_communities_with_two_lines_and_their_bytes(client: TestClient, user_id: str, stores: Stores) -> None:
    assert client.get(f"/twin/{user_id}/profile").json()["communities"] == []
    lines = tuple(CitedLine(text, make_citation(text), "2025-02") for text in ("I swim.", "I dive.", "I float."))
    community = Community("c1", "sea, swim", ("Clevedon",), ("x", "y"), lines, 0.4, (1.0, 0.0))
    stores.blobs.put(asset_key(user_id, "communities", "jsonl"), encode_records([community]))
    (shown,) = client.get(f"/twin/{user_id}/profile").json()["communities"]
    assert (shown["label"], shown["key_entities"], shown["chunks"], shown["salience"]) == ("sea, swim", ["Clevedon"], 2, 0.4)
    assert [line["text"] for line in shown["lines"]] == ["I swim.", "I dive."]
    assert (shown["lines"][0]["byte_start"], shown["lines"][0]["byte_end"], shown["lines"][0]["date"]) == (0, 7, "2025-02")
    stores.blobs.put(asset_key(user_id, "communities", "jsonl"), b'{"an": "older form"}\n')
    assert client.get(f"/twin/{user_id}/profile").status_code == 500


def test_the_profile_shows_nothing_of_a_deleted_document_before_the_stages_are_made_anew(
    client: TestClient, user_id: str, stores: Stores
) -> None:
    upload(client, user_id, ("gone.txt", b"I swim."), ("kept.txt", b"I dive."))
    places = {text: make_citation(text) for text in ("I swim.", "I dive.")}
    lines = tuple(CitedLine(text, place, None) for text, place in places.items())
    told = tuple(BiographyLine("s", "sea", text, (place,), None) for text, place in places.items())
    items = tuple(Preference(text, text, "sea", "attitude", "for", 1.0, place) for text, place in places.items())
    chunks = [
        Chunk(text, user_id, place.document_sha256, place.filename, 0, 0, 7, 3, "k", "c", "t") for text, place in places.items()
    ]
    groups = [
        (Community(text, text, (text,), (text,), (line,), 0.4, (1.0,)), Topic(text, text, (text,), (text,), (1.0,)))
        for text, line in zip(places, lines, strict=True)
    ]
    left = {
        asset_key(user_id, "chunks", "jsonl"): encode_records(chunks),
        asset_key(user_id, "communities", "jsonl"): encode_records([community for community, _ in groups]),
        asset_key(user_id, "topics", "jsonl"): encode_records([topic for _, topic in groups]),
        asset_key(user_id, "biography", "json"): encode_record(Biography(user_id, told, None, told, None, None)),
        asset_key(user_id, "voice_profile", "json"): encode_record(VoiceProfile(user_id, {}, None, "few words", items)),
    }
    for key, data in left.items():
        stores.blobs.put(key, data)

    def shown() -> list[list[str]]:
        body = client.get(f"/twin/{user_id}/profile").json()
        for kind in ("communities", "topics"):
            assert ("I swim." in str(body[kind])) is ("I swim." in str(body["biography"])), "labels hold its words too"
        told_of = [line for community in body["communities"] for line in community["lines"]]
        parts = (told_of, body["biography"]["lines"], body["biography"]["status"], body["preferences"])
        return [[item["text"] for item in part] for part in parts]

    assert shown() == [["I swim.", "I dive."]] * 4
    with stores.tables.transaction(user_id) as connection:
        mark_deleted(connection, user_id, [places["I swim."].document_sha256], pending=True)
    assert shown() == [["I dive."]] * 4


def test_the_profile_of_a_twin_shows_its_live_release(client: TestClient, twin: str) -> None:
    body = client.get(f"/twin/{twin}/profile").json()
    assert body["name"] == "Nora"
    assert body["release"]["release_id"].startswith("release-of-")
    assert body["release"]["model_ready"] is True
    assert body["release"]["lora_path"].startswith(f"tenant/{twin}/lora/")
    assert (body["release"]["reasons"], body["release"]["stale_reason"]) == ([], None)


def test_a_profile_of_nobody_is_404(client: TestClient) -> None:
    response = client.get("/twin/nobody-here/profile")
    assert (response.status_code, response.json()["code"]) == (404, "twin_not_found")
