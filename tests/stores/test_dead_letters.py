"""Letters of what failed for good: kept once, listed newest first, resolved by stage."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lpm_kernel.stores.dead_letters import list_dead_letters, put_dead_letter, resolve_dead_letters
from lpm_kernel.stores.open import Stores
from tests.samples import NOON, make_letter


def test_a_letter_comes_back_whole_and_is_kept_once_a_run_and_stage(stores: Stores, user_id: str) -> None:
    first = make_letter(user_id)
    with stores.tables.transaction(user_id) as connection:
        put_dead_letter(connection, first)
        put_dead_letter(connection, replace(first, code="unforeseen"))
        assert list_dead_letters(connection, user_id) == [first]


def test_the_newest_letter_comes_first_and_a_resolved_one_only_when_asked_for(stores: Stores, user_id: str) -> None:
    of = [
        replace(make_letter(user_id, stage, f"run-{n}"), created_at=NOON + timedelta(minutes=n))
        for n, stage in enumerate(["chunks", "lora_adapter", "lora_adapter"])
    ]
    with stores.tables.transaction(user_id) as connection:
        for letter in of:
            put_dead_letter(connection, letter)
        assert list_dead_letters(connection, user_id) == of[::-1]
        assert resolve_dead_letters(connection, user_id, ("lora_adapter", "evaluation"), NOON) == 2
        assert resolve_dead_letters(connection, user_id, ("lora_adapter",), NOON) == 0
        assert list_dead_letters(connection, user_id) == of[:1]
        everything = list_dead_letters(connection, user_id, resolved=True)
    assert [letter.resolved_at for letter in everything] == [NOON, NOON, None]
