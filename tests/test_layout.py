"""Where things are kept, and that deleting knows every such place."""

from __future__ import annotations

import inspect

from lpm_kernel import layout

USER = "1"


def test_every_key_of_a_user_lies_where_deleting_looks() -> None:
    """A new kind of key that no deletion knows of would keep what was made from a deleted document. The golden file stays: it
    is the person's own and made from nothing."""
    known = (
        *layout.document_keys(USER, "x"),
        *layout.weight_prefixes(USER),
        layout.assets_prefix(USER),
        layout.written_prefix(USER),
        layout.golden_key(USER),
    )
    makers = [
        make
        for name, make in inspect.getmembers(layout, inspect.isfunction)
        if name.endswith("_key") and next(iter(inspect.signature(make).parameters)) == "user_id"
    ]
    keys = [
        make(
            USER,
            *(
                3 if parameter.annotation == "int" else "x"
                for parameter in list(inspect.signature(make).parameters.values())[1:]
            ),
        )
        for make in makers
    ]
    assert len(keys) > 10
    assert [key for key in keys if not key.startswith(known)] == []
