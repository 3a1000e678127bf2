"""Rows and objects name the request or run that wrote them, without anybody handing it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection, text

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.addresses import GraphAddress
from lpm_kernel.stores.ballot_drafts import keep_twin_draft
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.changes import put_change, transaction_id
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.dao_consent import Consent, set_consent
from lpm_kernel.stores.dao_plans import PgPlans
from lpm_kernel.stores.dao_twin_turns import end_turn, take_turn
from lpm_kernel.stores.documents import put_document
from lpm_kernel.stores.graph import GraphitiGraph
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import Memories
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.session_summaries import mark_summed
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.vectors import PgVectors, Vectors
from tests.embedded.fixtures import EngineHome
from tests.fakes import FakeEmbedder
from tests.samples import NOON, RANKING, make_document, make_entries, make_memory_of, make_message, make_plan
from tests.social.said import say_something

RUN = "4a0d7f1e-run"
EMBEDDER = FakeEmbedder()
NAMED_BY_OTHERS = {
    "alembic_version": "of the schema, and nobody's",
    "change_words": "go with their change, which names it",
    "dao_projection": "how far each target was told: a cursor",
    "dao_proposal": "derived of events of the ledger, which name theirs",
    "dao_resolution": "derived of events of the ledger, which name theirs",
    "fence": "who changes a user's stores right now, gone when they are done",
    "memory_version": "a counter of all writes of a user's memories",
    "social_cursor": "how far a chat was read: a cursor",
}
"""Tables whose rows say of no transaction that it wrote them, and why."""


def written_by(connection: Connection, table: str) -> str | None:
    return connection.execute(text(f"select transaction_id from {table}")).scalar_one()


def test_every_table_names_the_transactions_of_its_rows(stores: Stores, user_id: str) -> None:
    """A table that is made next year is found here."""
    nameless = (
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not exists "
        "(select from pg_attribute where attrelid = pg_class.oid and attname = 'transaction_id' and not attisdropped)"
    )
    with stores.tables.transaction(user_id) as connection:
        found = {*connection.execute(text(nameless)).scalars()}
    assert found == NAMED_BY_OTHERS.keys()


def test_what_a_request_writes_names_it_and_what_came_of_it_later_too(stores: Stores, user_id: str) -> None:
    with within_request(RequestContext("asked-17", frozenset({user_id}))), stores.tables.transaction(user_id) as connection:
        put_document(connection, make_document(user_id))
        put_change(connection, user_id, "graph", "delete_documents", {"sha256s": []}, at=NOON)
    with stores.tables.transaction(user_id) as connection:
        assert [written_by(connection, table) for table in ("document", "change")] == ["asked-17"] * 2
        append_message(connection, make_message(user_id, 1))
        own = written_by(connection, "chat_message")
        assert own == transaction_id(connection) != "asked-17", "what nobody asked for names a transaction of its own"


def test_what_was_said_on_telegram_and_x_names_the_run_that_stored_it_last(stores: Stores, user_id: str) -> None:
    for run, words in (("run-1", "It is red."), ("run-2", "It is blue.")):
        with within_request(RequestContext(run, frozenset({user_id}))), stores.tables.transaction(user_id) as connection:
            say_something(connection, user_id, words)
        with stores.tables.transaction(user_id) as connection:
            assert [written_by(connection, table) for table in ("social_message", "social_document")] == [run] * 2
            assert written_by(connection, "social_account") == "run-1"


def test_a_run_is_named_where_no_request_is_under_way(stores: Stores, engine_home: EngineHome, user_id: str) -> None:
    url = engine_home.environment[engine_home.settings.stores.database_url]
    tables = Tables(url, pool_size=1, run_id=RUN)
    try:
        with tables.transaction(user_id) as connection:
            put_document(connection, make_document(user_id))
            assert (written_by(connection, "document"), transaction_id(connection)) == (RUN,) * 2
        with tables.operator_transaction() as connection:
            assert transaction_id(connection) == RUN
        with within_request(RequestContext("asked-17")), tables.transaction(user_id) as connection:
            assert transaction_id(connection) == "asked-17", "a request within a run is the nearer of the two"
    finally:
        tables.close()


def test_a_transaction_of_nobody_has_an_id_of_its_own_and_keeps_it(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        made = transaction_id(connection)
        assert transaction_id(connection) == made
        put_document(connection, make_document(user_id))
        assert written_by(connection, "document") == made
    with stores.tables.transaction(user_id) as connection:
        assert transaction_id(connection) != made


@contextmanager
def as_request(name: str, user_id: str) -> Iterator[None]:
    with within_request(RequestContext(name, frozenset({user_id}))):
        yield


def test_memories_and_vectors_name_the_request_or_the_run(
    stores: Stores, engine_home: EngineHome, new_user: Callable[[], str]
) -> None:
    def write(user_id: str, memories: Memories, vectors: Vectors) -> list[str | None]:
        memories.add_batch(user_id, [make_memory_of(user_id, "red cat")])
        vectors.sync(user_id, "g", make_entries(user_id, ["red cat"], EMBEDDER), EMBEDDER.fingerprint)
        with stores.tables.transaction(user_id) as connection:
            return [written_by(connection, table) for table in ("memory", "chunk_vector", "memory_generation")]

    asker, owner = new_user(), new_user()
    with as_request("asked-17", asker):
        assert write(asker, stores.memories, stores.vectors) == ["asked-17"] * 3
    url = engine_home.environment[engine_home.settings.stores.database_url]
    with (
        closing(Tables(url, pool_size=1, run_id=RUN)) as tables,
        closing(Mem0Memories(tables.engine.url, EMBEDDER, RANKING, RUN)) as memories,
    ):
        assert write(owner, memories, PgVectors(tables)) == [RUN] * 3


def test_what_replaces_a_row_names_itself(stores: Stores, user_id: str) -> None:
    plan, started, _ = make_plan(user_id)

    def write(connection: Connection, minutes: int) -> None:
        at = NOON + timedelta(minutes=minutes)
        set_consent(connection, Consent(user_id, "never"), at)
        mark_summed(connection, user_id, "s", 1 + minutes, at)
        assert take_turn(connection, user_id, "p", f"basis {minutes}", at, at)
        end_turn(connection, user_id, "p", f"basis {minutes}", "drafted", "", at, None)
        keep_twin_draft(connection, user_id, BallotDraft("p", "for", None), at, confidence=0.5, citations=(), why="low")
        put_document(connection, make_document(user_id))

    tables = ("dao_consent", "session_summary", "dao_twin_turn", "ballot_draft", "document")
    for minutes, request in enumerate(("asked-1", "asked-2")):
        with as_request(request, user_id), stores.tables.transaction(user_id) as connection:
            write(connection, minutes)
            assert [written_by(connection, table) for table in tables] == [request] * len(tables)
    with as_request("asked-3", user_id):
        plans = PgPlans(stores.tables)
        kept = plans.begin(plan, started)
    with as_request("asked-4", user_id):
        assert plans.lease(user_id, plan.plan_id, "worker", 60.0)
        with stores.tables.transaction(user_id) as connection:
            assert written_by(connection, "dao_plan") == "asked-3", "who only takes it has written nothing in it"
        plans.save(kept, replace(kept.state, number=kept.state.number + 1), [])
        with stores.tables.transaction(user_id) as connection:
            assert [written_by(connection, table) for table in ("dao_plan", "dao_plan_event")] == ["asked-4", "asked-3"]


def test_a_memory_that_ends_names_what_ended_it(stores: Stores, user_id: str) -> None:
    red = make_memory_of(user_id, "My cat is red.")
    with as_request("asked-1", user_id):
        stores.memories.add_batch(user_id, [red])
    with as_request("asked-2", user_id):
        blue = stores.memories.correct(user_id, red.memory_id, "My cat is blue.", by="ada", at=NOON + timedelta(hours=1))
    kept = stores.memories.history(user_id, red.memory_id)
    assert [memory.superseded_by for memory in kept] == [blue.memory_id, None]
    with stores.tables.transaction(user_id) as connection:
        assert {*connection.execute(text("select transaction_id from memory")).scalars()} == {"asked-2"}


def test_an_object_names_the_request_or_the_run(stores: Stores, user_id: str) -> None:
    assert isinstance(stores.blobs, S3Blobs)
    key = tenant_prefix(user_id) + "raw/named"
    of_run = S3Blobs(stores.blobs.client, stores.blobs.bucket, run_id=RUN)

    def named() -> object:
        return of_run.client.head_object(Bucket=of_run.bucket, Key=key)["Metadata"]

    of_run.put(key, b"a")
    assert named() == {"transaction-id": RUN}
    with as_request("asked-17", user_id):
        of_run.put(key, b"a")
    assert named() == {"transaction-id": "asked-17"}
    stores.blobs.put(key, b"a")
    assert named() == {}


def test_facts_and_entities_name_the_request_or_the_run_and_are_no_others_for_it(engine_home: EngineHome, user_id: str) -> None:
    def fact(text: str) -> Fact:
        ends = GraphEntity("User", user_id), GraphEntity("Document", text)
        return Fact(user_id, ends[0], "MENTIONS", ends[1], text, NOON, NOON)

    def names(graph: GraphitiGraph, pattern: str) -> list[str]:
        query = f"MATCH {pattern} RETURN x.transaction_id AS named ORDER BY named"
        return [row["named"] for row in graph._read(graph.group_of(user_id), query)]

    red, blue = fact("red"), fact("blue")
    with closing(GraphitiGraph(lambda: GraphAddress(engine_home.redis_url), EMBEDDER, run_id=RUN)) as graph:
        graph.write_facts(user_id, [red])
        with as_request("asked-17", user_id):
            assert graph.write_facts(user_id, [red, blue]).written == 1
        assert names(graph, "()-[x:RELATES_TO]->()") == [RUN, "asked-17"]
        assert names(graph, "(x:Entity)") == [RUN, RUN, "asked-17"]
        assert {*graph.list_facts(user_id)} == {red, blue}
        graph.delete_user(user_id)
