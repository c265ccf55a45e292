"""Tables as the commands read them: opened, parted into held-out rows and the rest, or sampled; bad rows left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..io.old_tables import Table, TableFile, open_table
from ..tables import Schema, without_bad_rows
from ..tables.drawing import exceeds_memory
from .options import Reading
from .output import say

SOME_ROWS = 100_000  # of a table that memory does not hold: held out for the test, or judged by a check
_TEST_FRACTION = 0.1
_SEED = 20160527  # of what is held out, whatever that of the training: so that models of one table compare


def opened(
    path: str, how: Reading, *, schema: Schema | None = None, kinds: Mapping[str, Any] | None = None
) -> TableFile:
    """The file, read as asked for; what a schema, or kinds that were asked for, make bad rows is left out if wanted.

    Raises:
        OSError: it cannot be read.
        ValueError: as `open_table`.
    """
    file = open_table(path, delimiter=how["delimiter"], header=how["header"], skip_bad_rows=how["skip_bad_rows"])
    return without_bad_rows(file, schema, kinds=kinds) if how["skip_bad_rows"] else file


def loaded(file: TableFile) -> TableFile | Table:
    """The table, if memory holds it; else the file."""
    return file if exceeds_memory(file, None) else file.read()


def parted(table: TableFile | Table) -> tuple[Table, TableFile | Table, list[int]]:
    """-> the held-out rows; the others, as a file where memory does not hold them; numbers of the held-out rows.

    A tenth of the rows is held out, at most `SOME_ROWS` of a file that memory does not hold, where rows have no
    numbers.
    """
    if isinstance(table, TableFile):
        test, rest = table.split(min(SOME_ROWS, round(_TEST_FRACTION * (table.rows or 10 * SOME_ROWS))), _SEED)
        return test, rest, []
    order = np.random.default_rng(_SEED).permutation(len(table))
    held = round(_TEST_FRACTION * len(table))
    return table.take(order[:held]), table.take(order[held:]), (order[:held] + 1).tolist()


def some_of(rows: TableFile | Table, most: int) -> Table:
    """The table, or a uniform sample of so many rows where a file has more."""
    return rows if isinstance(rows, Table) else rows.sample(most)


def tell_skipped(file: TableFile) -> None:
    """Says what the last pass over a file left out."""
    if file.skipped:
        say("skipped", f"{file.path}: {file.skipped}")
