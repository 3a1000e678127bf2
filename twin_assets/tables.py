"""What a person sees of a stage in the Dagster UI: a few of its rows, as a table.

Belongs here: the form of such a table.
Does not belong here: which rows a stage shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg

from lpm_kernel.records import Chunk, Citation


def table(columns: Sequence[str], rows: Iterable[Sequence[str | float | bool]]) -> dg.TableMetadataValue:
    """Rows under named columns; no row is a table without one."""
    records = [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows]
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(name) for name in columns]))


def place(of: Citation | Chunk) -> str:
    return f"{of.filename} [{of.byte_start}, {of.byte_end})"
