"""The commands that go through rows, batch by batch: `score` and `sample`."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io.old_tables import SUFFIXES, Table, TableWriter, check_suffix, joined
from ..tables.parallel import in_order
from .models import Model, open_model
from .options import Reading
from .output import count, listed, plus_minus, prepare_file, say, writing
from .reading import opened, tell_skipped
from .tally import Tally

LOG_DENSITY, PERCENTILE = "log_density", "percentile"
_LOOKED_AT = 10_000  # impossible rows, to tell why they are


def score(model: str, data: str, out: str, outlier: bool, reading: Reading) -> dict[str, Any]:
    """Writes the input's columns and `log_density`, and `percentile` where asked to; memory stays flat."""
    prepare_file(out, SUFFIXES)
    check_suffix(out, "write")
    it = open_model(model)
    quantiles = _quantiles(it) if outlier else None
    file = opened(data, reading, schema=it.schema)
    for name in (LOG_DENSITY, *([PERCENTILE] if outlier else [])):
        if name in file.names:
            raise ValueError(f"{data} already has a column {name!r}: rename or drop it first")
    it.check_columns(file)
    tally, impossible = Tally(), _Impossible()
    with writing(out), TableWriter(out, like=file) as writer:
        for batch, log_density in in_order(lambda batch: (batch, it.log_prob(it.rows(batch))), file.batches()):
            tally.add(log_density)
            impossible.add(batch, log_density)
            scored = batch.with_column(LOG_DENSITY, log_density)
            if quantiles is not None:
                scored = scored.with_column(PERCENTILE, _percentile(log_density, quantiles))
            writer.write(scored)
    tell_skipped(file)
    tally.finish()
    figures = _tell(tally, impossible.reasons(it)) | {"skipped_rows": file.skipped.count, "out": out}
    say("written", out)
    return figures


def sample(
    model: str, count: int | None, given: str | None, out: str, seed: int | None, reading: Reading
) -> dict[str, Any]:
    """Writes draws, with the model's columns; memory stays flat."""
    prepare_file(out, SUFFIXES)
    check_suffix(out, "write")
    it = open_model(model)
    seed = secrets.randbelow(2**32) if seed is None else seed
    if it.given and given is None:
        raise ValueError(
            f"{model} is a conditional model: give it a table with the columns {', '.join(map(repr, it.given))}, "
            "as --given FILE"
        )
    if given is not None and not it.given:
        raise ValueError(f"{model} is not conditional: leave out --given")
    told = 0
    with writing(out), TableWriter(out) as writer:
        if given is None:
            for piece in it.sample(count or 1000, seed):
                writer.write(piece)
        else:
            file = opened(given, reading, schema=it.schema)
            for i, batch in enumerate(file.batches()):
                told += len(batch)
                for piece in it.sample(count or 1, seed + i, batch):
                    writer.write(piece)
            tell_skipped(file)
        drawn = writer.rows
    each = "" if given is None else f", {count or 1:,} for each of the {told:,} rows of {given}"
    say("sampled", f"{drawn:,} {'row' if drawn == 1 else 'rows'}{each}, with seed {seed}")
    say("written", out)
    return {"rows": drawn, "columns": it.columns, "seed": seed, "out": out}


class _Impossible:
    """Some of the rows that a model holds for impossible, to say why."""

    def __init__(self) -> None:
        self._rows: list[Table] = []
        self._count = 0

    def add(self, batch: Table, log_density: NDArray[np.float64]) -> None:
        """Looks at another batch and its log-densities (N,)."""
        at = np.flatnonzero(np.isneginf(log_density))[: _LOOKED_AT - self._count]
        if len(at):
            self._rows.append(batch.take(at))
            self._count += len(at)

    def reasons(self, it: Model) -> list[str]:
        """Why they are, in words."""
        if not self._rows:
            return []
        found = list(it.impossible(it.rows(joined(self._rows))))
        return found or ["so far from all that was seen that no density is left"]


def _tell(tally: Tally, reasons: list[str]) -> dict[str, Any]:
    median, (mean, se) = tally.median(), tally.mean()
    say("scored", f"{count(tally.rows, 'row')}: median log-density {median:.4f} nats per row")
    finite = " of the rows that have one" if tally.impossible else ""
    say("mean", f"{plus_minus(mean, se)}{finite}, between {tally.lowest:.4g} and {tally.highest:.4g}")
    if tally.impossible:
        say("impossible", f"{count(tally.impossible, 'row')} with log-density -inf: {listed(reasons, 5)}")
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
    if (
        not isinstance(kept, list)
        or len(kept) < 2
        or not all(isinstance(q, float) for q in kept)
        or sorted(kept) != kept
    ):
        raise ValueError(
            f"{it.path} keeps no quantiles of held-out log-densities to rank rows among: --outlier needs a model that "
            "`pushforward fit` wrote"
        )
    return np.array(kept, dtype=np.float64)


def _percentile(log_density: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of the held-out rows, in percent, that were less likely: (N,)."""
    rank = np.interp(log_density, quantiles, np.linspace(0, 100, len(quantiles)))
    return rank.round(3)
