"""Ballots as others read them: reasons for all members, and of what a ballot rests on what its voter shares."""

from __future__ import annotations

from datetime import UTC, datetime

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.dao.service import Dao
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores.ballot_drafts import keep_twin_draft
from lpm_kernel.stores.dao_words import withdraw_words
from lpm_kernel.stores.documents import put_document, set_private
from tests.twin_serving.dao_town import PLAIN, Town, dao_tables, propose, town, vote
from tests.twin_serving.test_dao_votes import refused

__all__ = ["dao_tables", "town"]


def kept(town: Town, name: str, *, private: bool = False) -> str:
    """A document of Ada's."""
    sha256 = sha256_hex(name.encode())
    document = Document("ada", sha256, name, "text/markdown", 9, "upload", "user", datetime.now(UTC))
    with town.stores.tables.transaction("ada") as connection:
        put_document(connection, document)
        set_private(connection, "ada", sha256, private)
    return sha256


def as_twin(town: Town, voter: str, proposal: str, *citations: str, reasons: str = "I like shade.", **rules: object) -> None:
    """`reasons`: words that were said before go with all that they were ever said to quote, in an earlier test too."""
    settings = DaoSettings(**{**town.stores.settings.dao.model_dump(), **PLAIN, **rules})
    dao = Dao(town.stores.tables, settings, town.clock)
    said = {"confidence": 0.9, "consent": "autonomous", "reasons": reasons, "citations": citations}
    dao.vote(voter, proposal, "for", cast_by="twin", **said)


def test_cited_places_in_private_documents_are_the_voters_alone(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada")).json()
    proposal = made["proposal_id"]
    shared, diary = kept(town, "notes.md"), kept(town, "diary.md", private=True)
    as_twin(town, "ada", proposal, *(cited := [f"{shared}:0-9", f"{diary}:0-9", "said-in-a-chat"]))

    def seen(by: dict[str, str]) -> tuple[list[str], int, str | None]:
        [told] = client.get(f"/proposals/{proposal}/ballots", headers=by).json()["ballots"]
        return told["citations"], told["citations_withheld"], told["reasons"]

    assert seen(bearer("ada")) == (cited, 0, "I like shade.")
    assert seen(bearer("bo")) == (cited[:1], 2, None), "its reasons quote what it cites"
    with town.stores.tables.transaction("ada") as connection:
        set_private(connection, "ada", shared, True)
    assert seen(bearer("bo")) == ([], 3, None), "what is kept private later is withheld from then on"
    assert diary not in client.get("/audit", params={"limit": 500}, headers=bearer("bo")).text


def test_a_twins_reasons_are_told_while_what_they_quote_is_shared(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada")).json()
    shared = kept(town, "shade.md")
    as_twin(town, "ada", made["proposal_id"], f"{shared}:0-9", reasons="Shade is cool.")

    def reasons() -> str | None:
        [told] = client.get(f"/proposals/{made['proposal_id']}/ballots", headers=bearer("bo")).json()["ballots"]
        return told["reasons"]

    assert reasons() == "Shade is cool."
    with town.stores.tables.transaction("ada") as connection:
        set_private(connection, "ada", shared, True)
    assert reasons() is None


def test_a_person_takes_back_what_their_twin_cast_while_it_does_not_count(town: Town) -> None:
    client = town.client()
    proposal = propose(client)
    as_twin(town, "ada", proposal)
    [told] = client.get(f"/proposals/{proposal}/ballots").json()["ballots"]
    assert (told["cast_by"], told["counts"], told["confidence"], told["consent"]) == ("twin", False, 0.9, "autonomous")
    assert refused(client, "POST", f"/proposals/{proposal}/veto") == (422, "actor_missing")
    assert client.post(f"/proposals/{proposal}/veto", json={"actor": "ada"}).status_code == 200
    [told] = client.get(f"/proposals/{proposal}/ballots").json()["ballots"]
    assert (told["vetoed"], told["counts"]) == (True, False)


def test_after_its_time_a_twins_ballot_counts_until_its_person_votes(town: Town) -> None:
    client = town.client()
    proposal = propose(client)
    as_twin(town, "ada", proposal)
    town.clock.move(hours=13)
    assert refused(client, "POST", f"/proposals/{proposal}/veto", json={"actor": "ada"}) == (409, "veto_too_late")
    assert client.get(f"/proposals/{proposal}/status").json()["tally"]["for"] == 1
    vote(client, proposal, "ada", "against")
    tally = client.get(f"/proposals/{proposal}/status").json()["tally"]
    assert (tally["for"], tally["against"]) == (0, 1)
    counts = {each["cast_by"]: each["counts"] for each in client.get(f"/proposals/{proposal}/ballots").json()["ballots"]}
    assert counts == {"twin": False, "human": True}


def test_what_was_withdrawn_is_told_by_its_hash(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada")).json()
    path, diary = f"/proposals/{made['proposal_id']}/ballots", kept(town, "diary of oaks.md")
    with town.stores.tables.transaction("ada") as connection:
        draft = BallotDraft(made["proposal_id"], "for", "Oaks give shade.")
        said = {"confidence": 0.7, "citations": [f"{diary}:0-9"], "why": "draft_only"}
        draft_id = keep_twin_draft(connection, "ada", draft, datetime.now(UTC), **said).draft_id
    body = {"draft_id": draft_id, "publish_reason": True}
    assert client.post("/vote", json=body, headers=bearer("ada")).status_code == 200

    def seen(by: str) -> tuple[str | None, bool]:
        [told] = client.get(path, headers=bearer(by)).json()["ballots"]
        assert told["reasons_sha256"] == sha256_hex(b"Oaks give shade.")
        return told["reasons"], told["reasons_withdrawn"]

    assert seen("bo") == ("Oaks give shade.", False)
    client.put(f"/twin/ada/documents/{diary}/scope", json={"scope": "private"}, headers=bearer("ada"))
    assert (seen("bo"), seen("ada")) == ((None, True), ("Oaks give shade.", False))
    with town.stores.tables.transaction("ada") as connection:
        withdraw_words(connection, "ada", [diary])
    assert seen("ada") == (None, True)


def test_ballots_come_page_by_page(town: Town) -> None:
    client = town.client(close="deadline")
    proposal, other = propose(client), propose(client, title="Other trees")
    for voter in ("ada", "bo", "cy"):
        vote(client, proposal, voter)
    path, seen, cursor = f"/proposals/{proposal}/ballots", list[str](), None
    for expected in (["ada", "bo"], ["cy"]):
        page = client.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        cursor = page["next_cursor"] or cursor
        assert [each["voter"] for each in page["ballots"]] == expected
        seen += expected
    assert page["next_cursor"] is None
    assert len(client.get(path).json()["ballots"]) == len(seen) == 3
    params = {"cursor": cursor}
    assert refused(client, "GET", f"/proposals/{other}/ballots", params=params) == (422, "cursor_invalid")


def test_what_waits_for_a_person_is_told_until_it_is_done(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada")).json()
    proposal = made["proposal_id"]

    def waits(member: str) -> list[tuple[str, str | None]]:
        told = client.get(f"/twin/{member}/notices", headers=bearer(member)).json()
        assert all(each["left_s"] > 0 for each in told["notices"])
        return [(each["kind"], each["choice"]) for each in told["notices"] if each["proposal_id"] == proposal]

    assert waits("ada") == waits("bo") == [("vote_waits", None)]
    as_twin(town, "ada", proposal)
    assert waits("ada") == [("twin_cast", "for")]
    with town.stores.tables.transaction("bo") as connection:
        draft = BallotDraft(proposal, "against", None)
        keep_twin_draft(connection, "bo", draft, datetime.now(UTC), confidence=0.7, citations=(), why="draft_only")
    assert waits("bo") == [("draft_waits", "against"), ("vote_waits", None)]
    client.post("/vote", json={"proposal": proposal, "choice": "for"}, headers=bearer("bo"))
    assert waits("bo") == []
    assert refused(client, "GET", "/twin/bo/notices", headers=bearer("ada"))[0] == 403
