"""A person who uploads, asks, proposes and votes, whatever is killed meanwhile: who is refused tries again with the same.

Belongs here: what one person does next, by a seed, and what they note of the answers.
Does not belong here: killing (`killer.py`) and what must be true afterwards (`agree.py`).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from chaos.acknowledged import Book, Talk
from lpm_kernel.records import sha256_hex

ASK_TIMEOUT_S = 120.0
LATE = {"voting_closed", "ballot_late", "ballot_final", "already_ended", "voting_not_open"}
"""A vote that ended meanwhile, or a ballot that was kept although its answer was lost."""
TOO_EARLY = {"twin_not_found", "not_a_member", "not_in_electorate"}
"""Of somebody who was not known yet, or not when the vote began."""
CALM = {409, 429, 503}
"""Statuses of a clear refusal: something is away, busy, or not there yet."""
THINGS = ("marbles", "herons", "ladders", "kettles", "lanterns", "maps", "oars", "pears")
PLACES = ("the weir", "the loft", "the allotment", "the station", "the band room", "the third shelf")


@dataclass(frozen=True)
class Rhythm:
    """How much of what one person does. `pause_s`: between two deeds, on average."""

    documents: int
    proposals: int
    pause_s: float


class Person(threading.Thread):
    def __init__(self, user_id: str, url: str, seed: int, rhythm: Rhythm, book: Book, ended: threading.Event) -> None:
        super().__init__(daemon=True, name=f"person-{user_id}")
        self.user_id, self.rhythm, self.book, self.ended = user_id, rhythm, book, ended
        self._url = url
        self._chance = random.Random(f"{seed}/{user_id}")
        self._numbers = {"document": 0, "chat": 0, "proposal": 0}
        self._again: list[tuple[str, bytes]] = []
        """Files that were refused, or of whose answer nothing is known."""
        self._unsure: list[str] = []
        """Titles of proposals likewise."""
        self._voted: set[str] = set()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=ASK_TIMEOUT_S, trust_env=False) as client:
            deeds = (self.upload, self.chat, self.chat, self.propose, self.vote, self.vote)
            while not self.ended.is_set():
                self._chance.choice(deeds)(client)
                self.ended.wait(self._chance.uniform(0, 2 * self.rhythm.pause_s))

    def settle(self, url: str) -> None:
        """What is still open, once nothing is killed any more. Raises: RuntimeError when it is not taken now."""
        with httpx.Client(base_url=url, timeout=ASK_TIMEOUT_S, trust_env=False) as client:
            for _ in range(30):
                if not self._again and not self._unsure:
                    return
                for deed in (self.upload, self.propose):
                    deed(client, new=False)
                self.ended.wait(0.2)
        raise RuntimeError(f"{self.user_id} is still refused: {len(self._again)} files, {len(self._unsure)} proposals")

    def upload(self, client: httpx.Client, new: bool = True) -> None:
        if self._again:
            name, data = self._again.pop()
        elif new and self._numbers["document"] < self.rhythm.documents:
            number = self._next("document")
            name, data = f"note-{number}.md", self._note(number).encode()
        else:
            return
        key = (self.user_id, sha256_hex(data))
        with self.book.lock:
            self.book.sent_documents.add(key)
        form, files = {"user_id": self.user_id}, {"files": (name, data, "text/markdown")}
        status, told = self._ask("upload", lambda: client.post("/upload", data=form, files=files))
        if status == 202 and told["files"][0]["sha256"] == key[1]:
            with self.book.lock:
                self.book.documents[key] = data
        else:
            self._again.append((name, data))

    def chat(self, client: httpx.Client) -> None:
        number = self._next("chat")
        session, question = f"{self.user_id}-{number}", f"Where are the {self._chance.choice(THINGS)}, {number}?"
        with self.book.lock:
            self.book.sent_sessions.add((self.user_id, session))
        body = {"question": question, "session_id": session}
        status, told = self._ask("chat", lambda: client.post(f"/twin/{self.user_id}/chat", json=body))
        if status == 200:
            with self.book.lock:
                self.book.talks.append(Talk(self.user_id, session, question, told["answer"].strip()))

    def propose(self, client: httpx.Client, new: bool = True) -> None:
        if self._unsure:
            title = self._unsure.pop()
        elif new and self._numbers["proposal"] < self.rhythm.proposals:
            title = f"Proposal {self._next('proposal')} of {self.user_id}"
        else:
            return
        with self.book.lock:
            self.book.sent_titles.add(title)
        body = {"title": title, "text": f"{title}: more {self._of(title)}.", "topic": "chaos", "proposer": self.user_id}
        headers = {"Idempotency-Key": title}
        status, told = self._ask("propose", lambda: client.post("/proposals", json=body, headers=headers))
        if status != 201:
            self._unsure.append(title)
            return
        with self.book.lock:
            known = self.book.proposals.setdefault(title, told["proposal_id"])
            if known != told["proposal_id"]:
                self.book.wrong.append(f"{title!r} was proposed twice under one key: {known}, {told['proposal_id']}")

    def vote(self, client: httpx.Client) -> None:
        status, told = self._ask("open", lambda: client.get("/proposals/open", params={"asker": self.user_id}))
        if status != 200:
            return
        standing = [each["proposal"]["proposal_id"] for each in told["proposals"]]
        waiting = [proposal for proposal in standing if proposal not in self._voted]
        for proposal in waiting[:2]:
            choice = random.Random(f"{self.user_id}/{proposal}").choice(("for", "for", "against"))
            body = {"proposal": proposal, "choice": choice, "voter": self.user_id}
            headers = {"Idempotency-Key": f"{self.user_id}-{proposal}"}
            status, told = self._ask(
                "vote", lambda body=body, headers=headers: client.post("/vote", json=body, headers=headers)
            )
            if status == 200:
                self._voted.add(proposal)
                with self.book.lock:
                    self.book.ballots[self.user_id, proposal] = choice
            elif told.get("code") in LATE | TOO_EARLY:
                self._voted.add(proposal)

    def _ask(self, kind: str, call: Any) -> tuple[int, dict[str, Any]]:
        """Status and body; 0 where no answer came. Any refusal but a clear one is noted as wrong."""
        try:
            answer = call()
            status, told = answer.status_code, answer.json()
        except (httpx.HTTPError, ValueError):
            status, told = 0, {}
        with self.book.lock:
            self.book.told[f"{kind} {status}"] += 1
            if status >= 400 and status not in CALM and told.get("code") not in TOO_EARLY:
                self.book.wrong.append(f"{kind} of {self.user_id}: {status} {str(told)[:200]}")
            if status == 503 and not told.get("code"):
                self.book.wrong.append(f"{kind} of {self.user_id}: 503 without a code")
        return status, told

    def _next(self, kind: str) -> int:
        self._numbers[kind] += 1
        return self._numbers[kind]

    def _of(self, text: str) -> str:
        return random.Random(text).choice(THINGS)

    def _note(self, number: int) -> str:
        lines = [
            f"I keep {self._chance.randrange(2, 90)} {self._chance.choice(THINGS)} at {self._chance.choice(PLACES)}."
            for _ in range(12)
        ]
        return f"# Note {number} of {self.user_id}\n\n" + "\n\n".join(lines) + "\n"


def crowd(user_ids: Sequence[str], url: str, seed: int, rhythm: Rhythm, book: Book, ended: threading.Event) -> list[Person]:
    return [Person(user_id, url, seed, rhythm, book, ended) for user_id in user_ids]
