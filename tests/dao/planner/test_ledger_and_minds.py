"""The planner on real stores: what it does in the ledger it does once, and it hears of a member what any other may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.artefacts import encode_records
from lpm_kernel.dao.heard import Quote
from lpm_kernel.dao.planner.choose import ChoiceRules, Question, choose
from lpm_kernel.dao.planner.council import DaoCouncil
from lpm_kernel.dao.planner.minds import StoredMinds
from lpm_kernel.dao.planner.records import Order, Plan
from lpm_kernel.dao.planner.run import run_plan, start_plan
from lpm_kernel.dao.records import Task
from lpm_kernel.dao.service import Dao
from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Document, Topic, User, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.dao_consent import Consent, set_consent
from lpm_kernel.stores.dao_plans import PgPlans
from lpm_kernel.stores.dao_words import withdraw_words
from lpm_kernel.stores.documents import mark_deleted, put_document, set_private
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user
from tests.dao.ledgers import Ledger
from tests.dao.planner.fakes import ASKER, GOAL, NOON, Town, make_desk, village
from tests.fakes import no_progress
from tests.released import put_release
from tests.samples import make_document, make_items, make_release


def found(ledger: Ledger, town: Town) -> Dao:
    for member in town.members():
        with ledger.tables.transaction(member) as connection:
            add_user(connection, User(member))
    return ledger.dao()


class Killed(BaseException):
    pass


class ForgetfulPlans(PgPlans):
    """Dies before it stores what was done, as often as it is told to."""

    deaths = 0

    def save(self, plan, state, events):  # type: ignore[no-untyped-def]
        if self.deaths and state.next is None:
            self.deaths -= 1
            raise Killed
        return super().save(plan, state, events)


def run_till_killed(ledger: Ledger, town: Town, dao: Dao, order: Order) -> Plan:
    """Everything real but minds and model; killed twice between what it did and storing that it did."""
    plans = ForgetfulPlans(ledger.tables)
    plans.deaths = 2
    desk = replace(make_desk(town, plans=plans), council=DaoCouncil(dao, opens=False))
    plan_id = start_plan(desk, order, key="k").plan_id
    for _ in range(2):
        with pytest.raises(Killed):
            run_plan(desk, ASKER, plan_id)
    return run_plan(replace(desk, council=DaoCouncil(ledger.dao(), opens=False)), ASKER, plan_id)


def test_an_amendment_is_proposed_once_however_often_the_plan_is_killed(ledger: Ledger) -> None:
    says = village(in_favour=3, opposed=3)
    says["con-00"] = ["The roof is dear; I would accept it if the old beams are used again."]
    dao = found(ledger, town := Town(says))
    with ledger.tables.transaction("con-00") as connection:
        document = sha256_hex(f"con-00 {says['con-00'][0]}".encode())
        put_document(connection, Document("con-00", document, "con-00.md", "text/markdown", 9, "upload", "user", NOON))
    first = dao.propose("pro-00", GOAL, "The yard gets a roof.", topic="works")
    plan = run_till_killed(ledger, town, dao, Order(ASKER, "", first.proposal_id, may_propose=True))
    amended = [each for each in dao.proposals() if each.amends == first.proposal_id]
    assert plan.state.conclusion is not None
    assert [each.proposal_id for each in amended] == [plan.state.conclusion.proposal_id]
    assert (amended[0].proposer, amended[0].status) == (ASKER, "draft")
    assert "“The roof is dear; I would accept it if the old beams are used again.” (con-00" in amended[0].text


def test_tasks_are_assigned_once_however_often_the_plan_is_killed(ledger: Ledger) -> None:
    town = Town({name: ["I want hinges on the gate, they are good."] for name in ("ada", "bob")} | {"cyd": ["Yes to hinges."]})
    dao = found(ledger, town)
    plan = run_till_killed(ledger, town, dao, Order(ASKER, "Print 12 hinges in PETG and repair the gate", may_assign=True))
    assert [(each.task.kind, each.plan_id) for each in dao.tasks()] == [
        ("print_job", plan.plan_id),
        ("maintenance", plan.plan_id),
    ]


class Deletes(DaoCouncil):
    """In whose council a document goes between what the plan has read of the proposal and what it does there."""

    def __init__(self, dao: Dao, gone: Callable[[], None]) -> None:
        super().__init__(dao, opens=False)
        self._gone = gone

    def propose(self, *told: Any, **more: Any) -> str:
        self._gone()
        return super().propose(*told, **more)


def quoting(ledger: Ledger, dao: Dao, words: str) -> tuple[str, Callable[[], None]]:
    """A proposal that quotes a document, and how to delete that."""
    sha256 = sha256_hex(words.encode())
    with ledger.tables.transaction("pro-00") as connection:
        put_document(connection, Document("pro-00", sha256, "diary.md", "text/markdown", 9, "upload", "user", NOON))
    made = dao.propose("pro-00", GOAL, f"A roof. {words}", topic="works", quotes=[Quote("pro-00", words, sha256)])

    def delete() -> None:
        with ledger.tables.transaction("pro-00") as connection:
            mark_deleted(connection, "pro-00", [sha256], pending=False)
            withdraw_words(connection, "pro-00", [sha256])

    return made.proposal_id, delete


def ledger_of(ledger: Ledger) -> str:
    with ledger.tables.operator_transaction() as connection:
        return "\n".join(connection.execute(text("select payload::text from dao_event")).scalars())


def test_what_a_proposal_quotes_of_a_document_that_goes_meanwhile_is_not_proposed_again(ledger: Ledger) -> None:
    """The plan had read the words, and wrote them into the ledger, which forgets nothing."""
    says = village(in_favour=3, opposed=3)
    says["con-00"] = ["The roof is dear; I would accept it if the old beams are used again."]
    dao = found(ledger, town := Town(says))
    proposal_id, delete = quoting(ledger, dao, "“My knees are bad.” (pro-00, diary.md, bytes 0-9)")
    desk = replace(make_desk(town, plans=PgPlans(ledger.tables)), council=Deletes(dao, delete))
    plan = run_plan(desk, ASKER, start_plan(desk, Order(ASKER, "", proposal_id, may_propose=True)).plan_id)
    assert plan.state.conclusion is not None
    (amended,) = (each for each in dao.proposals() if each.proposal_id == plan.state.conclusion.proposal_id)
    assert "[withdrawn by pro-00" in amended.text
    assert "knees" not in ledger_of(ledger)


def test_no_task_is_made_of_what_a_proposal_quotes_of_somebodys_memory(ledger: Ledger) -> None:
    """A task stands in the ledger for good, with the words that asked for it."""
    town = Town({name: ["I want a roof, it is good."] for name in ("ada", "bob", "pro-00")})
    dao = found(ledger, town)
    proposal_id, _ = quoting(ledger, dao, "“Repair my bad knees.” (pro-00, diary.md, bytes 0-9)")
    council = DaoCouncil(dao, opens=False)
    matter = council.matter(order := Order(ASKER, "", proposal_id, may_assign=True))
    assert "Repair my bad knees" in matter.asked
    desk = replace(make_desk(town, plans=PgPlans(ledger.tables)), council=council)
    plan = run_plan(desk, ASKER, start_plan(desk, order).plan_id)
    assert plan.state.conclusion is not None
    assert (plan.state.conclusion.advice, plan.state.conclusion.tasks) == ("for", ())


def test_weights_are_those_of_a_vote_that_began_now_and_of_one_under_way_its_own(ledger: Ledger) -> None:
    dao = found(ledger, Town({"ada": []}))
    weighed = ledger.dao(weights={"founder": 4})
    weighed.set_attributes("ada", "ada", {"founder": 2})
    council = DaoCouncil(weighed, opens=True)
    assert council.matter(Order(ASKER, GOAL)).weights == {"ada": 9, ASKER: 1}
    begun = dao.propose(ASKER, GOAL, "A roof.")
    assert council.matter(Order(ASKER, "", begun.proposal_id)).weights == begun.electorate


def test_what_was_proposed_stands_though_a_line_was_forgotten_before_it_was_stored(ledger: Ledger) -> None:
    dao = found(ledger, Town({"ada": []}))
    council = DaoCouncil(dao, opens=False)
    first = council.propose(ASKER, GOAL, "With a condition.", "works", None, "plan-1")
    assert council.propose(ASKER, GOAL, "Without it.", "works", None, "plan-1") == first
    council.assign(ASKER, Task("t", "purchase", "Buy glue"), None, "plan-1")
    council.assign(ASKER, Task("t", "purchase", "Buy glue"), None, "plan-1")
    assert len(dao.tasks()) == 1


NOTES = {
    "open.md": "The old kiln should be repaired before winter, I say.",
    "diary.md": "Between us: I broke the kiln myself and told nobody about the kiln.",
}
ASKED = "Repair the kiln"


@pytest.fixture
def potter(stores: Stores, new_user: Callable[[], str]) -> str:
    """With a shared note and a private one, a topic of each."""
    member = new_user()
    items = make_items(member, NOTES)
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(member, generation_of(table), vector_entries(items, table), table.fingerprint)
    put_release(stores, member, 1, generation_of(table), "b" * 64)
    chunks = [item.chunk for item in items]
    topics = [
        Topic(f"of-{chunk.filename}", "kiln", (), (chunk.chunk_id,), tuple(map(float, vector)))
        for chunk, vector in zip(chunks, table.vectors, strict=True)
    ]
    own = TenantBlobs(stores.blobs, member)
    own.put(asset_key(member, "chunks", "jsonl"), encode_records(chunks))
    own.put(asset_key(member, "topics", "jsonl"), encode_records(topics))
    with stores.tables.transaction(member) as connection:
        for sha256, filename in {(chunk.document_sha256, chunk.filename) for chunk in chunks}:
            put_document(connection, replace(make_document(member), sha256=sha256, filename=filename))
            if filename == "diary.md":
                assert set_private(connection, member, sha256, True)
    return member


def test_of_a_member_is_heard_what_any_other_may_hear(stores: Stores, potter: str) -> None:
    minds = StoredMinds(stores)
    lines = minds.lines(potter, ASKED, 5)
    assert [line.citation.filename for line in lines] == ["open.md"]
    assert lines[0].text in NOTES["open.md"]
    (profile,) = minds.profiles([potter, "nobody-at-all"], ASKED)
    assert [topic.topic_id for topic in profile.topics] == ["of-open.md"]
    assert float(profile.topics[0].vector @ profile.asked_with) > 0.3


def test_a_twin_that_its_person_keeps_out_of_votes_speaks_in_no_plan(stores: Stores, potter: str) -> None:
    with stores.tables.transaction(potter) as connection:
        set_consent(connection, Consent(potter, "never"), NOON)
    minds = StoredMinds(stores)
    (profile,) = minds.profiles([potter], ASKED)
    assert (profile.silent, profile.topics) == (True, ())
    assert minds.lines(potter, ASKED, 5) == []
    question = Question(ASKED, "works", "asker")
    rules = ChoiceRules(twins=9, min_expertise=0.0, same_topics=0.97, diversity=0.3, conflicts="heard")
    found = choose([profile], question, {potter: 1}, [], rules, NOON)
    assert (found.consulted, found.left_out) == ((), {"consent": 1})


def test_a_member_whose_memory_cannot_be_read_keeps_nobody_else_from_being_asked(stores: Stores, potter: str) -> None:
    """The plan failed, and was tried again for ever."""
    others = make_release(broken := f"{potter}-2")
    with stores.tables.transaction(broken) as connection:
        add_user(connection, User(broken))
        promote_release(connection, replace(others, embedding_fingerprint="a model that is gone"))
    gone, found = sorted(StoredMinds(stores).profiles([broken, potter], ASKED), key=lambda each: not each.unreadable)
    assert (gone.member, gone.topics, found.member, len(found.topics)) == (broken, (), potter, 1)
    rules = ChoiceRules(twins=9, min_expertise=0.0, same_topics=0.97, diversity=0.3, conflicts="heard")
    chosen = choose([gone, found], Question(ASKED, "works", "asker"), {broken: 1, potter: 1}, [], rules, NOON)
    assert [each.member for each in chosen.consulted] == [potter]
    assert chosen.left_out == {"memory_unreadable": 1}


def test_what_becomes_private_leaves_the_plans_it_stands_in_and_enters_no_other(
    stores: Stores, potter: str, new_user: Callable[[], str]
) -> None:
    plans, asker = PgPlans(stores.tables), new_user()
    town = Town({asker: []})
    desk = replace(make_desk(town), plans=plans)
    town.weights = {asker: 1}
    plan = start_plan(desk, Order(asker, ASKED))
    (line,) = StoredMinds(stores).lines(potter, ASKED, 5)
    plans.keep_lines(asker, plan.plan_id, potter, [line])
    assert set(plans.lines(asker, plan.plan_id)) == {line.line_id}
    with stores.tables.transaction(potter) as connection:
        set_private(connection, potter, line.citation.document_sha256, True)
    assert plans.lines(asker, plan.plan_id) == {}
    plans.keep_lines(asker, plan.plan_id, potter, [line])
    assert plans.lines(asker, plan.plan_id) == {}
