"""A row before it is one: what is asked, from which lines, and what is answered.

Belongs here: the record that the makers of rows, the writer and the gate pass on.
Does not belong here: how a draft is made, judged or rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

from lpm_kernel.L2.records import Person, RowForm, RowKind
from lpm_kernel.records import Evidence, Message


@dataclass(frozen=True, slots=True)
class Draft:
    row_id: str
    kind: RowKind
    form: RowForm
    person: Person
    question: str
    lines: tuple[Evidence, ...]
    """What the answer rests on and what is shown beside it."""
    answer: str
    history: tuple[Message, ...] = ()
