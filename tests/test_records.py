"""Ids, keys and errors: what everything else is named by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel import errors, layout
from lpm_kernel.errors import LlmError, StoreError, TwinError, UserInputError
from lpm_kernel.records import check_user_id, content_id, sha256_hex

GOOD_IDS = ["1", "nora", "user_2-b", "a" * 63, "0--"]
BAD_IDS = ["", "-a", "_a", "A", "ä", "a b", "a/b", "../x", "a.b", "a\n", "a" * 64, "\x00", "1 "]


@pytest.mark.parametrize("user_id", GOOD_IDS)
def test_a_good_user_id_passes_unchanged(user_id: str) -> None:
    assert check_user_id(user_id) == user_id


@pytest.mark.parametrize("user_id", BAD_IDS)
def test_a_bad_user_id_is_refused_at_every_door(user_id: str) -> None:
    for door in (
        check_user_id,
        layout.tenant_prefix,
        lambda u: layout.raw_key(u, "a"),
        lambda u: layout.asset_key(u, "a", "b"),
    ):
        with pytest.raises(UserInputError) as caught:
            door(user_id)
        assert caught.value.code == "user_id_invalid"
        assert not caught.value.retryable


def test_a_refusal_of_a_long_id_stays_short() -> None:
    with pytest.raises(UserInputError) as caught:
        check_user_id("x" * 100_000)
    assert len(caught.value.message) < 300


@given(st.lists(st.text(alphabet="ab1"), min_size=1, max_size=4), st.lists(st.text(alphabet="ab1"), min_size=1, max_size=4))
def test_ids_are_equal_only_for_equal_parts(one: list[str], two: list[str]) -> None:
    assert (content_id(*one) == content_id(*two)) == (one == two)


def test_an_id_is_a_sha256_of_what_it_names() -> None:
    assert content_id("ab", "c") != content_id("a", "bc")
    assert content_id("a", 1) == content_id("a", "1")
    assert content_id("x") == sha256_hex(b"x")
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_key_of_a_user_lies_under_the_users_prefix_and_no_two_collide() -> None:
    keys = [
        layout.raw_key("1", "a"),
        layout.text_key("1", "a"),
        layout.asset_key("1", "chunks", "jsonl"),
        layout.lora_key("1", "a"),
        layout.lora_config_key("1", "a"),
        layout.lora_recipe_key("1", "a"),
        layout.gguf_key("1", "a"),
        layout.golden_key("1"),
    ]
    assert all(key.startswith(layout.tenant_prefix("1")) for key in keys)
    assert len(set(keys)) == len(keys)
    assert not layout.tenant_prefix("10").startswith(layout.tenant_prefix("1"))


def tree(kind: type[TwinError]) -> list[type[TwinError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == {kind.__name__ for kind in tree(TwinError) if kind.__module__ == errors.__name__}


def test_an_error_knows_its_code_and_whether_a_retry_can_help() -> None:
    assert str(UserInputError("question_empty", "there is no question")) == "question_empty: there is no question"
    assert [UserInputError("a", "").retryable, StoreError("a", "").retryable, LlmError("a", "").retryable] == [
        False,
        True,
        True,
    ]
    assert not StoreError("a", "", retryable=False).retryable
    assert UserInputError("a", "", retryable=True).retryable
