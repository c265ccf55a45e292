"""What `pushforward check` does: reads a model and its rows, and prints the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..diagnostics.subject import take
from .models import Model, open_model
from .on_fit import held_out
from .options import Reading
from .output import echo, prepare_file, say, writing
from .reading import read


def check(
    model: str, data: str, train: str | None, html: str | None, max_rows: int, seed: int, reading: Reading
) -> dict[str, Any]:
    """Prints the report on a model; writes it as a page where asked to."""
    if html is not None:
        prepare_file(html, (".html", ".htm"))
        from .. import plots  # noqa: F401  # told now where matplotlib is not installed, and not after the work
    it = open_model(model)

    def rows_of(path: str) -> Any:
        return it.rows(read(path, reading, schema=it.schema)[0])

    rows = rows_of(data)
    numbers = np.arange(1, len(rows) + 1)  # as tables count their rows in messages
    other = None if train is None else rows_of(train)
    split = _split_of_the_fit(it, rows) if other is None else None
    if split is not None:
        numbers, rest = split
        rows, other = take(rows, numbers), take(rows, rest)
        numbers = numbers + 1
        say("data", f"{data} is the table of the fit: its {len(rows):,} rows held out then are checked")
    report = it.check(rows, other, row_numbers=numbers.tolist(), max_rows=max_rows, seed=seed)
    echo(report.text())
    if html is not None:
        with writing(html):
            report.to_html(html, title=f"{Path(model).name} on {Path(data).name}")
        echo("")
        say("written", html)
    return {"model": model, "data": data, "train": train, **report.to_json()} | ({"html": html} if html else {})


def _split_of_the_fit(it: Model, rows: Any) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Numbers of the test rows and of all others, if the rows are those that `fit` took; None if they are others.

    They are the same where the mean log-density of the rows that `fit` held out is the one it wrote into the model.
    """
    written = it.training.get("test_log_density")
    if it.training.get("rows") != len(rows) or not isinstance(written, (int, float)):
        return None
    test, rest = held_out(len(rows))
    found = float(it.log_prob(take(rows, test)).mean())
    return (test, rest) if abs(found - written) < 1e-4 * max(1.0, abs(written)) else None
