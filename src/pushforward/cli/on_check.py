"""What `pushforward check` does: reads a model and its rows, and prints the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import checks
from ..density import Density
from ..io import models
from ..io.atomic import writing
from ..io.frames import Frame
from ..io.tables import TableFile
from .options import Reading
from .output import ThrottledProgress, echo, prepare_file, say
from .reading import SOME_ROWS, digest, known_share, loaded, opened, parted, rows_of, some_of, tell_same, tell_skipped

_LEAST_SHARE = 0.1  # of the rows of the fit, that a table is warned of


def check(
    model: str, data: str, train: str | None, html: str | None, max_rows: int, seed: int, reading: Reading
) -> dict[str, Any]:
    """Prints the report on a model; writes it as a page where asked to."""
    if html is not None:
        prepare_file(html, (".html", ".htm"))
        from .. import plots  # noqa: F401  # so that a lack of matplotlib is told before the work
    density = models.load(model)

    def table_of(path: str) -> Frame | TableFile:
        file = opened(path, reading, density)
        table = loaded(file)
        tell_skipped(file)
        return table

    tell_same(data, train)
    table = table_of(data)
    split = _split_of_the_fit(density, table) if train is None else None
    if split is not None:
        rows, other, numbers = split
        say("data", f"{data} is the table of the fit: its {len(rows):,} rows held out then are checked")
    else:
        rows, other = some_of(table, SOME_ROWS), None if train is None else some_of(table_of(train), SOME_ROWS)
        numbers = list(range(1, len(rows) + 1))  # as tables count their rows in messages
        if train is None:
            _say_other(density, data, rows)
    test, fitted = rows_of(density, rows), None if other is None else rows_of(density, other)
    report = checks.check(
        density, test, fitted, row_numbers=numbers or None, max_rows=max_rows, seed=seed,
        progress=ThrottledProgress("checking"),
    )  # fmt: skip
    echo(report.text())
    if html is not None:
        with writing(html):
            report.to_html(html, title=f"{Path(model).name} on {Path(data).name}")
        echo("")
        say("written", html)
    return {"model": model, "data": data, "train": train, **report.to_json()} | ({"html": html} if html else {})


def _say_other(density: Density, data: str, rows: Frame) -> None:
    """Says that a table is not that of the fit; warns if it has rows of it all the same."""
    names = density.space.names
    known = set(names) <= set(rows.names)
    share = known_share((density.training_summary or {}).get("sketch", []), rows.select(names)) if known else 0.0
    if share < _LEAST_SHARE:
        say("data", f"{data} is another table than that of the fit: all of its rows count as held out")
        return
    echo(
        f"warning: {data} holds about {share:.0%} of the rows that the model was fitted to, in another order or among "
        "others: all figures are too good. Give rows that the fit has not seen, or the very table of the fit",
        err=True,
    )


def _split_of_the_fit(density: Density, table: Frame | TableFile) -> tuple[Frame, Frame, list[int]] | None:
    """The rows that `fit` held out, those it did not, numbers of the former; None if the table is another than it took.

    It is the same where the rows held out have the digest that `fit` wrote into the model.
    """
    training = density.training_summary or {}
    if not training.get("test_digest") or (isinstance(table, Frame) and len(table) != training.get("rows")):
        return None
    test, rest, numbers = parted(table)
    known = [name for name in density.space.names if name in test.names]
    if digest(test.select(known)) != training["test_digest"]:
        return None
    return test, some_of(rest, SOME_ROWS), numbers
