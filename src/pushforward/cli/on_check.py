"""What `pushforward check` does: reads a model and its rows, and prints the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from .. import diagnostics
from ..data.tables import read_table
from ..flow import Flow
from . import on_tables


def check(model: str, data: str, train: str | None, html: str | None, max_rows: int, seed: int) -> dict[str, Any]:
    """Prints the report on a model; writes it as a page where asked to."""
    if html is not None:
        if Path(html).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"cannot write {html}: expected a name ending in .html")
        on_tables.prepare_file(html, Path(html).suffix)
        from .. import plots  # noqa: F401  # told now where matplotlib is not installed, and not after the work
    flow, columns, width = on_tables.load_model(model)
    x = read_table(data).model_matrix(columns, width)
    numbers = np.arange(1, len(x) + 1)  # as tables count their rows in messages
    other = None if train is None else read_table(train).model_matrix(columns, width)
    split = _split_of_the_fit(flow, x) if other is None else None
    if split is not None:
        numbers, rest = split
        x, other = x[numbers], x[rest]
        numbers = numbers + 1
        on_tables.say("data", f"{data} is the table of the fit: its {len(x):,} rows held out then are checked")
    report = diagnostics.check(
        flow, x, other, columns=columns, row_numbers=numbers.tolist(), max_rows=max_rows, seed=seed
    )
    click.echo(report.text())
    if html is not None:
        with on_tables.writing(html):
            report.to_html(html, title=f"{Path(model).name} on {Path(data).name}")
        click.echo()
        on_tables.say("written", html)
    return {"model": model, "data": data, "train": train, **report.to_json()} | ({"html": html} if html else {})


def _split_of_the_fit(flow: Flow, x: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Numbers of the test rows and of all others, if x is the table that `fit` took; None if it is another.

    It is the same table where the mean log-density of the rows that `fit` held out is the one it wrote into the model.
    """
    written = (flow.training_summary or {}).get("test_log_density")
    if (flow.training_summary or {}).get("rows") != len(x) or not isinstance(written, (int, float)):
        return None
    test, rest = on_tables.held_out(len(x))
    with torch.no_grad():
        found = float(flow.log_prob(x[test]).double().mean())
    return (test, rest) if abs(found - written) < 1e-4 * max(1.0, abs(written)) else None
