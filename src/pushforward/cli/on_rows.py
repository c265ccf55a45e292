"""The commands that go through rows: `score` and `sample`."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.tables import SUFFIXES, Table, read_table, write_table
from . import bad_rows
from .models import Model, open_model
from .output import count, listed, plus_minus, prepare_file, say, writing
from .tally import Tally

LOG_DENSITY, PERCENTILE = "log_density", "percentile"
_LOOKED_AT = 10_000  # impossible rows, to tell why they are


def score(model: str, data: str, out: str, outlier: bool, skip_bad_rows: bool) -> dict[str, Any]:
    """Writes the input's columns and `log_density`, and `percentile` where asked to."""
    prepare_file(out, SUFFIXES)
    it = open_model(model)
    quantiles = _quantiles(it) if outlier else None
    table = read_table(data)
    for name in (LOG_DENSITY, *([PERCENTILE] if outlier else [])):
        if name in table.names:
            raise ValueError(f"{data} already has a column {name!r}: rename or drop it first")
    tally, skipped = Tally(), 0
    if skip_bad_rows:
        rows = len(table)
        table, why = bad_rows.left_out(table, it.kinds)
        skipped = rows - len(table)
        if skipped:
            say("skipped", bad_rows.told(skipped, why))
    log_density, impossible = _log_density(it, table)
    tally.add(log_density)
    scored = table.with_column(LOG_DENSITY, log_density)
    if quantiles is not None:
        scored = scored.with_column(PERCENTILE, _percentile(log_density, quantiles))
    with writing(out):
        write_table(scored, out)
    tally.finish()
    figures = _tell(tally, it, impossible) | {"skipped_rows": skipped, "out": out}
    say("written", out)
    return figures


def sample(model: str, count: int | None, given: str | None, out: str, seed: int | None) -> dict[str, Any]:
    """Writes draws, with the model's columns."""
    prepare_file(out, SUFFIXES)
    it = open_model(model)
    seed = secrets.randbelow(2**32) if seed is None else seed
    if it.given and given is None:
        raise ValueError(
            f"{model} is a conditional model: give it a table with the columns {', '.join(map(repr, it.given))}, "
            "as --given FILE"
        )
    if given is not None and not it.given:
        raise ValueError(f"{model} is not conditional: leave out --given")
    told = None if given is None else read_table(given)
    drawn = it.sample(count or (1000 if told is None else 1), seed, told)
    with writing(out):
        write_table(drawn, out)
    each = "" if told is None else f", {count or 1:,} for each of the {len(told):,} rows of {given}"
    say("sampled", f"{len(drawn):,} {'row' if len(drawn) == 1 else 'rows'}{each}, with seed {seed}")
    say("written", out)
    return {"rows": len(drawn), "columns": list(drawn.names), "seed": seed, "out": out}


def _log_density(it: Model, table: Table) -> tuple[NDArray[np.float64], Table]:
    """Log-densities (N,) of rows, and some of the impossible ones among them."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of impossible rows, which are told all together
        log_density = it.log_prob(it.rows(table))
    return log_density, bad_rows.picked(table, np.flatnonzero(np.isneginf(log_density))[:_LOOKED_AT])


def _tell(tally: Tally, it: Model, impossible: Table) -> dict[str, Any]:
    median, (mean, se) = tally.median(), tally.mean()
    say("scored", f"{count(tally.rows, 'row')}: median log-density {median:.4f} nats per row")
    finite = " of the rows that have one" if tally.impossible else ""
    say("mean", f"{plus_minus(mean, se)}{finite}, between {tally.lowest:.4g} and {tally.highest:.4g}")
    if tally.impossible:
        reasons = it.impossible(it.rows(impossible)) or ("so far from all that was seen that no density is left",)
        say("impossible", f"{count(tally.impossible, 'row')} with log-density -inf: {listed(list(reasons), 5)}")
    if tally.extreme:
        far = "their log-density is more than 10 interquartile ranges below the median, so beware of the mean"
        say("extreme", f"{count(tally.extreme, 'row')}: {far}")
    return {
        "rows": tally.rows, "median_log_density": median, "mean_log_density": mean, "se": se, "min": tally.lowest,
        "max": tally.highest, "impossible_rows": tally.impossible, "extreme_rows": tally.extreme,
    }  # fmt: skip


def _quantiles(it: Model) -> NDArray[np.float64]:
    """The held-out log-densities of a model's fit, in order.

    Raises:
        ValueError: it kept none.
    """
    kept = it.training.get("quantiles")
    good = isinstance(kept, list) and len(kept) > 1 and all(isinstance(q, (int, float)) for q in kept)
    if not good or sorted(kept) != kept:
        raise ValueError(
            f"{it.path} keeps no quantiles of held-out log-densities to rank rows among: --outlier needs a model that "
            "`pushforward fit` wrote"
        )
    return np.array(kept, dtype=np.float64)


def _percentile(log_density: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of the held-out rows, in percent, that were less likely: (N,)."""
    rank = np.interp(log_density, quantiles, np.linspace(0, 100, len(quantiles)))
    return rank.round(3)
