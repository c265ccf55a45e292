"""Tables as the commands read them: whole, or a uniform sample of a large one, or batch by batch; bad rows left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..data.tables import Skipped, Table, TableFile, open_table
from ..tabular import Schema, drop_bad_rows
from .options import Reading
from .output import say

MOST_ROWS = 1_000_000  # held in memory; of more rows a uniform sample is drawn


def read(
    path: str, how: Reading, *, schema: Schema | None = None, kinds: Mapping[str, str] | None = None,
    most: int = MOST_ROWS,
) -> tuple[Table, Skipped]:  # fmt: skip
    """-> a table in memory, or a uniform sample of its rows where it has more; the bad rows left out, where asked to.

    What was left out is told. The sample is the same at each reading.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `open_table`.
    """
    file = opened(path, how)
    table = file.read() if file.rows is not None and file.rows <= most else file.sample(most)
    skipped = file.skipped
    if how["skip_bad_rows"]:
        table, skipped = drop_bad_rows(table, schema, kinds=kinds, report=skipped)
        tell_skipped(path, skipped)
    return table, skipped


def batches(path: str, how: Reading, schema: Schema | None) -> tuple[TableFile, Iterator[Table]]:
    """-> the opened file; its rows in batches, the bad ones left out where asked to and counted in `file.skipped`.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `open_table`.
    """
    file = opened(path, how)

    def cleaned() -> Iterator[Table]:
        start = 0
        for batch in file.batches():
            kept = drop_bad_rows(batch, schema, report=file.skipped, start=start)[0] if how["skip_bad_rows"] else batch
            start += len(batch)
            if len(kept):
                yield kept

    return file, cleaned()


def tell_skipped(path: str, skipped: Skipped) -> None:
    """Says what was left out of a table."""
    if skipped:
        say("skipped", f"{path}: {skipped}")


def opened(path: str, how: Reading) -> TableFile:
    """The file, read as asked for.

    Raises:
        OSError: it cannot be read.
        ValueError: as `open_table`.
    """
    return open_table(path, delimiter=how["delimiter"], header=how["header"], skip_bad_rows=how["skip_bad_rows"])
