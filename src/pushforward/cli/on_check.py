"""What `pushforward check` does: reads a model and its rows, and prints the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..io.old_tables import Table, TableFile
from .models import Model, open_model
from .options import Reading
from .output import echo, prepare_file, say, writing
from .reading import SOME_ROWS, loaded, opened, parted, some_of, tell_skipped


def check(
    model: str, data: str, train: str | None, html: str | None, max_rows: int, seed: int, reading: Reading
) -> dict[str, Any]:
    """Prints the report on a model; writes it as a page where asked to."""
    if html is not None:
        prepare_file(html, (".html", ".htm"))
        from .. import plots  # noqa: F401  # told now where matplotlib is not installed, and not after the work
    it = open_model(model)

    def table_of(path: str) -> Table | TableFile:
        file = opened(path, reading, schema=it.schema)
        table = loaded(file)
        tell_skipped(file)
        return table

    table = table_of(data)
    split = _split_of_the_fit(it, table) if train is None else None
    if split is not None:
        rows, other, numbers = split
        say("data", f"{data} is the table of the fit: its {len(rows):,} rows held out then are checked")
    else:
        rows, other = some_of(table, SOME_ROWS), None if train is None else some_of(table_of(train), SOME_ROWS)
        numbers = list(range(1, len(rows) + 1))  # as tables count their rows in messages
    rows, other = it.rows(rows), None if other is None else it.rows(other)
    report = it.check(rows, other, row_numbers=numbers or None, max_rows=max_rows, seed=seed)
    echo(report.text())
    if html is not None:
        with writing(html):
            report.to_html(html, title=f"{Path(model).name} on {Path(data).name}")
        echo("")
        say("written", html)
    return {"model": model, "data": data, "train": train, **report.to_json()} | ({"html": html} if html else {})


def _split_of_the_fit(it: Model, table: Table | TableFile) -> tuple[Table, Table, list[int]] | None:
    """The rows that `fit` held out, those it did not, numbers of the former; None if the table is another than it took.

    It is the same where the mean log-density of the rows held out is the one that `fit` wrote into the model.
    """
    written, rows = it.training.get("test_log_density"), it.training.get("rows")
    if not isinstance(written, (int, float)) or (isinstance(table, Table) and len(table) != rows):
        return None
    test, rest, numbers = parted(table)
    if len(test) != it.training.get("test_rows"):
        return None
    found = float(it.log_prob(it.rows(test)).mean())
    return (test, some_of(rest, SOME_ROWS), numbers) if abs(found - written) < 1e-4 * max(1.0, abs(written)) else None
