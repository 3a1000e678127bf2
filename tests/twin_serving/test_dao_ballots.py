"""Ballots as others read them: reasons for all members, and of what a ballot rests on what its voter shares."""

from __future__ import annotations

from datetime import UTC, datetime

from lpm_kernel.dao.service import Dao
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.settings import DaoSettings
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


def as_twin(town: Town, voter: str, proposal: str, *citations: str, **rules: object) -> None:
    settings = DaoSettings(**{**town.stores.settings.dao.model_dump(), **PLAIN, **rules})
    dao = Dao(town.stores.tables, settings, town.clock)
    said = {"confidence": 0.9, "consent": "autonomous", "reasons": "I like shade.", "citations": citations}
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
    as_twin(town, "ada", made["proposal_id"], f"{shared}:0-9")

    def reasons() -> str | None:
        [told] = client.get(f"/proposals/{made['proposal_id']}/ballots", headers=bearer("bo")).json()["ballots"]
        return told["reasons"]

    assert reasons() == "I like shade."
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
