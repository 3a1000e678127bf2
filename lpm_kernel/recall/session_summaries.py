"""What a session comes to, as one memory of higher importance: the person's own most telling sentences.

Belongs here: choosing those sentences, a writer's wording of them where there is one, and the memory.
Does not belong here: which sessions are due (`stores/session_summaries.py`) and when they are looked for (`twin_assets`).

Nothing that the twin said is in it, and no echo of that. A writer's summary is taken when each of its sentences says what one
sentence of the person says, and no more; else the sentences stand as they were said.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.fenced_prompt import Form, fenced_messages
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.recall.turn_preferences import own_sentences
from lpm_kernel.recall.write_gate import adds_nothing, screen, words_of, write_memories
from lpm_kernel.records import ChatMessage, Memory
from lpm_kernel.settings import GateSettings
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.memories import is_forgotten, make_memory
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.session_summaries import DueSession, count_forgettings, list_due, mark_summed, unmark_summed
from lpm_kernel.stores.text_index import asks
from lpm_kernel.stores.writer import Writer
from lpm_kernel.support import find_flaw, read_claims

if TYPE_CHECKING:
    import numpy as np

IMPORTANCE = 0.8
"""Above a turn (0.5) and below how the person writes (1.0)."""
SENTENCES = 3
MIN_WORDS = 4
MAX_TOKENS = 200
_LOG = logging.getLogger(__name__)
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Mm]ine|[Mm]yself|[Ww]e|[Oo]ur|[Uu]s)\b")
_ASKS_OF_THE_TWIN = re.compile(
    r"(?:please\b|tell\b|show\b|say\b|write\b|remind\b|explain\b|give\b|let's\b|stop\b|never mind\b|forget\b|ignore\b)",
    re.IGNORECASE,
)
_TASK = f"""Task: `said` holds what the person said in one talk, sentence by sentence. Write `sentences`: at most {SENTENCES}
short sentences in the first person, as the person would note them down, that keep what will still matter in a year. Each of
them says what one sentence of `said` says, in plainer words, and nothing else.
"""


class Summary(Form):
    sentences: list[str]


@dataclass(frozen=True, slots=True)
class SaidSentence:
    """`place`: of its message in the session, among the person's."""

    text: str
    message_id: str
    place: int


@dataclass(frozen=True, slots=True)
class SummaryReport:
    summed: dict[str, int]
    """How many sessions of each user have a new summary."""
    empty: dict[str, int]
    """In how many nothing was said that is worth one."""
    failed: dict[str, str]
    """Of whom the stores could not be asked or written, and the code of the error, or its type; left to the next time."""


def due_sessions(stores: Stores, user_id: str, now: datetime) -> list[DueSession]:
    """By the settings. Raises: StoreError."""
    serving = stores.settings.serving
    rested_since = now - timedelta(minutes=serving.session_rest_minutes)
    with stores.tables.transaction(user_id) as connection:
        return list_due(connection, user_id, rested_since=rested_since, grown_by=serving.session_summary_messages)


def summarise_users(
    stores: Stores, user_ids: Sequence[str], now: datetime, say: Callable[[str], None] = lambda _: None
) -> SummaryReport:
    """Sum up every due session of these users; a user who fails keeps no other from it. Idempotent."""
    summed: dict[str, int] = {}
    empty: dict[str, int] = {}
    failed: dict[str, str] = {}
    for user_id in user_ids:
        forgotten = Forgotten(stores, user_id)
        try:
            for due in due_sessions(stores, user_id, now):
                counts = empty if summarise_session(stores, user_id, due.session_id, now, forgotten) is None else summed
                counts[user_id] = counts.get(user_id, 0) + 1
        except TwinError as error:
            failed[user_id] = error.code
            say(f"user {user_id}: sessions not summed up, {error.code}")
        except Exception as error:  # its words may be those of a session
            failed[user_id] = type(error).__name__
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("sessions of user %s could not be summed up: %s\n%s", user_id, failed[user_id], where)
            say(f"user {user_id}: sessions not summed up, {failed[user_id]}")
    return SummaryReport(summed, empty, failed)


class Forgotten:
    """When the person said what they had memory forget, session by session; all of their memory is read for it once, and again
    only after they had more of it forgotten."""

    def __init__(self, stores: Stores, user_id: str) -> None:
        self._stores, self._user_id = stores, user_id
        self._as_of: tuple[int, int] | None = None
        self._moments: dict[str, set[datetime]] = {}

    def of(self, session_id: str) -> set[datetime]:
        """Raises: StoreError."""
        with self._stores.tables.transaction(self._user_id) as connection:
            as_of = count_forgettings(connection, self._user_id)
        if as_of != self._as_of or as_of[1] > 0:  # of one that is being forgotten nobody sees the moment
            moments: dict[str, set[datetime]] = {}
            for memory in self._stores.memories.every(self._user_id):
                if memory.session_id is not None and is_forgotten(memory):
                    moments.setdefault(memory.session_id, set()).add(memory.created_at)
            self._as_of, self._moments = as_of, moments
        return self._moments.get(session_id, set())


def summarise_session(
    stores: Stores, user_id: str, session_id: str, now: datetime, forgotten: Forgotten | None = None
) -> Memory | None:
    """Make the summary of one of the person's own sessions as it is now, in place of the one before; None when nothing in it is
    worth one. Idempotent: the same session gives the same memory. `forgotten`: of this person, by whoever sums up several.

    Raises: StoreError; LlmError `embedder_unavailable`. A writer that fails is done without.
    """
    with stores.tables.transaction(user_id) as connection:
        messages = last_messages(connection, user_id, session_id, None)
    own = [message for message in messages if message.sender == "user"]
    if not own:
        return None
    gate = stores.settings.gate
    blanks = (forgotten or Forgotten(stores, user_id)).of(session_id)
    unsaid = [message.content for message in own if message.ts in blanks]
    chosen = choose_sentences(messages, stores.embedder, gate, unsaid=unsaid)
    memory = None
    if chosen:
        memory = make_memory(
            user_id,
            "summary",
            worded(chosen, stores.writer) or " ".join(sentence.text for sentence in chosen),
            domain="chat",
            source="chat",
            importance=IMPORTANCE,
            created_at=own[-1].ts,
            session_id=session_id,
            turn=len(own),
            key=key_of(session_id),
            message_ids=tuple(dict.fromkeys(sentence.message_id for sentence in chosen)),
        )
        decision = write_memories(stores.memories, user_id, [memory], [], gate)[0]
        held = decision.other_id if decision.outcome == "duplicate" else memory.memory_id
        versions = stores.memories.history(user_id, held or memory.memory_id)
        before = [version.memory_id for version in versions if version.superseded_at is not None]
        if before:
            stores.memories.delete(user_id, before)
    with stores.tables.transaction(user_id) as connection:
        mark_summed(connection, user_id, session_id, len(own), now)
    return memory


def key_of(session_id: str) -> str:
    """Of the memory that a session comes to."""
    return f"session:{session_id}"


def drop_summary(stores: Stores, user_id: str, session_id: str) -> None:
    """Of a session of which something was forgotten: it is due again, for a summary that does not say that. One that the person
    has put into words of their own stays. Idempotent. Raises: StoreError."""
    made = [
        memory.memory_id
        for memory in stores.memories.every(user_id)
        if memory.key == key_of(session_id) and not memory.written_by
    ]
    if made:
        stores.memories.delete(user_id, made)
    with stores.tables.transaction(user_id) as connection:
        unmark_summed(connection, user_id, session_id)


def choose_sentences(
    messages: Sequence[ChatMessage], embedder: Embedder, gate: GateSettings, unsaid: Sequence[str] = ()
) -> list[SaidSentence]:
    """At most SENTENCES of what the person stated, in the order it was said: of themself before of others, with names and
    numbers before without, and near to what the session was about. Nothing the twin had said before, nothing twice, and nothing
    that stands in what is to be `unsaid`.

    Deterministic. Raises: LlmError `embedder_unavailable`.
    """
    said = _statements(messages, gate, unsaid)
    if not said:
        return []
    vectors = embedder.embed([sentence.text for sentence in said])
    scores = _salience(said, vectors)
    ranked = sorted(range(len(said)), key=lambda i: (-scores[i], -said[i].place, i))
    chosen: list[int] = []
    for i in ranked:
        words = words_of(said[i].text)
        known = [words_of(said[j].text) for j in chosen]
        if len(chosen) < SENTENCES and not any(adds_nothing(words, other) or adds_nothing(other, words) for other in known):
            chosen.append(i)
    return [said[i] for i in sorted(chosen)]


def worded(chosen: Sequence[SaidSentence], writer: Writer | None) -> str | None:
    """The writer's words for these sentences; None without a writer, when it fails, and when one of its sentences is not borne
    out by one of theirs."""
    if writer is None:
        return None
    sources = [sentence.text for sentence in chosen]
    try:
        schema = Summary.model_json_schema()
        told = writer.write(fenced_messages(_TASK, {"said": sources}), max_tokens=MAX_TOKENS, schema=schema)
        sentences = [" ".join(sentence.split()) for sentence in Summary.model_validate_json(told).sentences]
    except (LlmError, ValidationError) as error:
        _LOG.warning("no writer for a summary: %s", error.code if isinstance(error, LlmError) else "of another form")
        return None
    written = [part.text for sentence in sentences for part in split_sentences(sentence)]
    if not written or len(written) > SENTENCES or not all(is_borne_out(sentence, sources) for sentence in written):
        return None
    return " ".join(written)


def is_borne_out(sentence: str, sources: Sequence[str]) -> bool:
    """Whether one source alone says all of it, as surely and of the same person: two of them joined may say a third thing."""
    told = read_claims(sentence)
    return bool(told.stems) and any(
        find_flaw(sentence, [source]) is None
        and told.negated == read_claims(source).negated
        and bool(_FIRST_PERSON.search(sentence)) == bool(_FIRST_PERSON.search(source))
        for source in sources
    )


def _statements(messages: Sequence[ChatMessage], gate: GateSettings, unsaid: Sequence[str]) -> list[SaidSentence]:
    """What the person stated, sentence by sentence; what the twin had said before it is an echo."""
    found: list[SaidSentence] = []
    heard = list(unsaid)
    place = 0
    for message in messages:
        if message.sender != "user":
            heard.append(message.content)
            continue
        place += 1
        for sentence in own_sentences(message.content):
            text = " ".join(sentence.text.split())
            if asks(text) or len(words_of(text)) < MIN_WORDS or _ASKS_OF_THE_TWIN.match(text):
                continue
            candidate = make_memory(
                message.user_id, "summary", text, domain="chat", source="chat", importance=0.0, created_at=message.ts
            )
            if screen(candidate, heard, gate) is None:
                found.append(SaidSentence(text if text[-1] in ".!…" else f"{text}.", message.message_id, place))
    return found


def _salience(said: Sequence[SaidSentence], vectors: np.ndarray) -> list[float]:
    centre = vectors.mean(axis=0)
    near = vectors @ (centre / max(float((centre @ centre) ** 0.5), 1e-9))
    scores = []
    for sentence, cosine in zip(said, near.tolist(), strict=True):
        claims = read_claims(sentence.text)
        names_something = bool(claims.names or claims.numbers)
        scores.append(round(float(bool(_FIRST_PERSON.search(sentence.text))) + 0.5 * names_something + 0.5 * cosine, 6))
    return scores
