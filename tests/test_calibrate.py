"""A calibration: which questions, in which order the answers stand, and what the picks come to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.artefacts import encode_records
from lpm_kernel.calibrate import begin_calibration, blind_order, count_picks
from lpm_kernel.errors import UserInputError
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.layout import asset_key, golden_key
from lpm_kernel.records import Citation, Message, Topic, User
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.calibration import CalibrationPair, Choice, drop_pairs_of, keep_pick, list_pairs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeLlm
from tests.samples import NOON, make_row
from tests.test_chat import release, remember

NOTE = "My cat is called Pilchard. I never eat meat.\n\nThe harbour is quiet in winter, and I walk there.\n"


@pytest.fixture
def llm() -> FakeLlm:
    return FakeLlm()


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], llm: FakeLlm) -> str:
    user_id = new_user()
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Nora"))
    release(stores, user_id, remember(stores, user_id, NOTE), 1, llm.base_sha256)
    own = TenantBlobs(stores.blobs, user_id)
    topics = [Topic("t1", "cat, harbour", (), (), ()), Topic("t2", "misc", (), (), ())]
    own.put(asset_key(user_id, "topics", "jsonl"), encode_records(topics))
    asked = [Message("system", "s"), Message("user", "What do you think about meat?"), Message("assistant", "Never.")]
    rows = [
        make_row("r1", asked, kind="preference"),
        make_row("r2", [asked[0], Message("user", "Held out?"), asked[2]], kind="preference", split="held_out"),
    ]
    own.put(asset_key(user_id, "training_rows", "jsonl"), encode_records(rows))
    return user_id


def begin(stores: Stores, llm: FakeLlm, user_id: str, folder: Path, seed: str = "s") -> list[CalibrationPair]:
    return begin_calibration(stores, llm, user_id, folder, now=datetime.now(UTC), seed=seed)


def test_both_answers_are_given_to_the_same_prompt_and_one_of_them_by_the_twin(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.extend(["Twin one.", "Twin two.", "Base one.", "Base two."])
    pairs = begin(stores, llm, twin, tmp_path)
    assert sorted(pair.question for pair in pairs)[1] == "What do you think about meat?"
    assert all("cat and harbour" in pair.question or "meat" in pair.question for pair in pairs)
    assert {frozenset(pair.answers) for pair in pairs} == {
        frozenset({"Twin one.", "Base one."}),
        frozenset({"Twin two.", "Base two."}),
    }
    asked = [(call.messages, call.adapter is not None) for call in llm.calls]
    assert [flag for _, flag in asked] == [True, True, False, False]
    assert [messages for messages, _ in asked[:2]] == [messages for messages, _ in asked[2:]]
    assert all(pair.citations for pair in pairs)
    assert begin(stores, llm, twin, tmp_path) == pairs, "while they are open they are shown again, and nobody is asked"


def test_a_question_is_asked_once_a_release(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.extend(["Twin one.", "Twin two.", "Base one.", "Base two."])
    for pair in begin(stores, llm, twin, tmp_path):
        pick(stores, twin, pair, "first")
    with pytest.raises(UserInputError, match="calibration_no_questions"):
        begin(stores, llm, twin, tmp_path)


def test_answers_alike_and_declining_ones_are_no_pair(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.extend(["Same.", DECLINE, "same. ", "Base two."])
    with pytest.raises(UserInputError, match="calibration_no_questions"):
        begin(stores, llm, twin, tmp_path)
    with stores.tables.transaction(twin) as connection:
        assert list_pairs(connection, twin) == []


def test_no_golden_question_is_asked(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    """It is kept out of training, and a pick of it would teach nothing."""
    golden = (
        b"questions: [{id: g, question: 'What do you think about meat?', expected: [never], document: d}]\nunanswerable: []"
    )
    TenantBlobs(stores.blobs, twin).put(golden_key(twin), golden)
    llm.answers.extend(["Twin.", "Base."])
    assert ["cat and harbour" in pair.question for pair in begin(stores, llm, twin, tmp_path)] == [True]


def test_without_a_release_there_is_nothing_to_compare(stores: Stores, user_id: str, llm: FakeLlm, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no_release"):
        begin(stores, llm, user_id, tmp_path)


def pick(stores: Stores, user_id: str, pair: CalibrationPair, choice: Choice) -> CalibrationPair:
    with stores.tables.transaction(user_id) as connection:
        return keep_pick(connection, user_id, pair.pair_id, choice, NOON)


def test_a_pick_is_kept_by_whose_answer_it_was_and_the_newest_stands(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path, new_user: Callable[[], str]
) -> None:
    llm.answers.extend(["Twin one.", "Twin two.", "Base one.", "Base two."])
    pair, other = begin(stores, llm, twin, tmp_path)
    ours: Choice = "first" if pair.twin_first else "second"
    mine = pick(stores, twin, pair, ours)
    assert (mine.pick, mine.picked) == ("twin", ours)
    assert pick(stores, twin, pair, "second" if ours == "first" else "first").pick == "base"
    assert pick(stores, twin, other, "neither").pick == "neither"
    for user_id, unknown in ((new_user(), pair), (twin, other)):
        with pytest.raises(UserInputError, match="pair_unknown"), stores.tables.transaction(user_id) as connection:
            keep_pick(connection, user_id, unknown.pair_id if user_id != twin else "x", "first", NOON)
    with stores.tables.transaction(twin) as connection:
        assert drop_pairs_of(connection, twin, ["0" * 64]) == 0
        assert drop_pairs_of(connection, twin, [pair.citations[0].document_sha256]) == 2, "with the document they quote"


@given(st.text(max_size=8), st.sets(st.text(min_size=1, max_size=4), max_size=9))
def test_the_order_is_even_and_the_same_for_one_seed(seed: str, ids: set[str]) -> None:
    order = blind_order(seed, sorted(ids))
    assert order == blind_order(seed, sorted(ids, reverse=True))
    assert order.keys() == ids
    assert abs(2 * sum(order.values()) - len(ids)) <= 1


def test_another_seed_gives_another_order() -> None:
    ids = [f"p{number}" for number in range(8)]
    orders = [blind_order(f"seed {number}", ids) for number in range(20)]
    assert len({tuple(order[pair_id] for pair_id in ids) for order in orders}) > 10


def test_the_count_has_an_interval_and_leaves_out_what_no_side_was_taken_of() -> None:
    def shown(number: int, pick: str | None, release_id: str = "r1") -> CalibrationPair:
        place = Citation("c", "d", "f", 0, 1)
        at = NOON if pick else None
        return CalibrationPair(f"p{number}", "run", release_id, "q?", (place,), "t", "b", True, NOON, pick, at)  # type: ignore[arg-type]

    picks = ["twin"] * 6 + ["base"] * 2 + ["neither", None]
    first, second = count_picks([*(shown(n, p) for n, p in enumerate(picks)), shown(99, None, "r2")])
    assert (first.shown, first.twin, first.base, first.neither, first.share) == (10, 6, 2, 1, 0.75)
    assert 0.4 < first.low < 0.75 < first.high < 0.95
    assert (second.share, second.low, second.high) == (None, 0.0, 1.0)
    assert count_picks([]) == []
