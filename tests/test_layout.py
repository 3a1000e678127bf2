"""Where things are kept, and that deleting knows every such place."""

from __future__ import annotations

import inspect

from lpm_kernel import layout
from lpm_kernel.archive.form import blob_path, is_exported, is_known_path, key_of

USER = "1"


def test_every_key_of_a_user_lies_where_deleting_looks() -> None:
    """A new kind of key that no deletion knows of would keep what was made from a deleted document. The golden file stays: it
    is the person's own and made from nothing. A file that was sent and not taken in is no document
    yet, and its time is short."""
    known = (
        *layout.document_keys(USER, "x"),
        *layout.weight_prefixes(USER),
        layout.assets_prefix(USER),
        layout.written_prefix(USER),
        layout.golden_key(USER),
        layout.staging_prefix(USER),
        layout.import_mark_key(USER),
    )
    keys = keys_of_a_user()
    assert len(keys) > 10
    assert [key for key in keys if not key.startswith(known)] == []


def test_every_key_of_a_user_that_is_exported_may_be_imported() -> None:
    """A new kind of key that the form of an archive does not know would make exports that no import takes."""
    exported = [key for key in keys_of_a_user() if is_exported(USER, key)]
    assert len(exported) > 10
    assert [
        key for key in exported if not is_known_path(blob_path(USER, key)) or key_of(USER, blob_path(USER, key)) != key
    ] == []


def keys_of_a_user() -> list[str]:
    """One of each kind that there is, by the functions that make them."""
    makers = [
        make
        for name, make in inspect.getmembers(layout, inspect.isfunction)
        if name.endswith("_key") and next(iter(inspect.signature(make).parameters)) == "user_id"
    ]
    return [
        make(
            USER,
            *(
                3 if parameter.annotation == "int" else "x"
                for parameter in list(inspect.signature(make).parameters.values())[1:]
            ),
        )
        for make in makers
    ]
