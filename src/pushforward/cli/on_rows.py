"""The commands that go through rows, batch by batch: `score` and `sample`."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..density import Density
from ..io import frames, models
from ..io.atomic import writing
from ..io.frames import Frame
from ..io.tables import SUFFIXES, TableWriter, check_suffix
from ..parallel import in_order
from .options import Reading
from .output import count, listed, plus_minus, prepare_file, say
from .reading import opened, percentiles, quantiles_of, rows_of, tell_skipped
from .tally import Tally

LOG_DENSITY, PERCENTILE, UNSEEN = "log_density", "percentile", "unseen"
_EXPLAINED = 10_000  # rows of what was never seen, to tell what it is
_DRAWN = 2**18  # rows drawn at a time


def score(model: str, data: str, out: str, outlier: bool, reading: Reading) -> dict[str, Any]:
    """Writes the input's columns and `log_density`, `percentile` and `unseen` where asked to; memory stays flat."""
    prepare_file(out, SUFFIXES)
    check_suffix(out, "write")
    density = models.load(model)
    quantiles = quantiles_of(density, model) if outlier else None
    file = opened(data, reading, density)
    for name in (LOG_DENSITY, *([PERCENTILE, UNSEEN] if outlier else [])):
        if name in file.names:
            raise ValueError(f"{data} already has a column {name!r}: rename or drop it first")
    tally, unseen = Tally(), _Unseen(density)

    @torch.no_grad()
    def scored(batch: Frame) -> tuple[Frame, Any, NDArray[np.float64]]:
        rows = rows_of(density, batch)
        return batch, rows, density.log_prob(rows).double().cpu().numpy()

    with writing(out), TableWriter(out, like=file) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was never seen, which is told at the end
        for batch, rows, log_density in in_order(scored, file.batches()):
            tally.add(log_density)
            is_unseen = unseen.add(rows, log_density)
            written = batch.with_column(LOG_DENSITY, log_density)
            if quantiles is not None:
                written = written.with_column(PERCENTILE, percentiles(log_density, quantiles).round(3))
                written = written.with_column(UNSEEN, is_unseen.astype(np.int8))
            writer.write(written)
    tell_skipped(file)
    tally.finish()
    figures = _tell(tally, unseen) | {"skipped_rows": file.skipped.count, "out": out}
    say("written", out)
    return figures


def sample(
    model: str, count: int | None, given: str | None, out: str, seed: int | None, reading: Reading
) -> dict[str, Any]:
    """Writes draws, with the model's columns; memory stays flat."""
    prepare_file(out, SUFFIXES)
    check_suffix(out, "write")
    density = models.load(model)
    space = density.space
    seed = secrets.randbelow(2**32) if seed is None else seed
    if space.given and given is None:
        raise ValueError(
            f"{model} is a conditional model: give it a table with the columns {', '.join(map(repr, space.given))}, "
            "as --given FILE"
        )
    if given is not None and not space.given:
        raise ValueError(f"{model} is not conditional: leave out --given")
    generator, contexts = torch.Generator().manual_seed(seed), 0
    with writing(out), TableWriter(out) as writer:
        if given is None:
            for rows in _draws(density, count or 1000, None, generator):
                writer.write(rows)
        else:
            each, file = count or 1, opened(given, reading, density)
            absent = [name for name in space.given if name not in file.names]
            if absent:
                raise ValueError(
                    f"{given} lacks {frames.columns_text(absent)} of the model; it has {frames.quoted(file.names)}"
                )
            for batch in file.batches(max(1, _DRAWN // each)):
                _check_given(density, batch, given)
                contexts += len(batch)
                for rows in _draws(density, each, batch.select(space.given), generator):
                    writer.write(rows)
            tell_skipped(file)
        drawn = writer.rows
    each_of = "" if given is None else f", {count or 1:,} for each of the {contexts:,} rows of {given}"
    say("sampled", f"{drawn:,} {'row' if drawn == 1 else 'rows'}{each_of}, with seed {seed}")
    say("written", out)
    return {"rows": drawn, "columns": list(space.names), "seed": seed, "out": out}


def _draws(density: Density, n: int, context: Frame | None, generator: torch.Generator) -> Iterator[Frame]:
    """n rows, or n for each context, in pieces."""
    for start in range(0, n, _DRAWN):
        drawn = density.sample(min(_DRAWN, n - start), context, generator=generator)
        frame = frames.read(density.space.flatten_samples(drawn))
        yield frame if frame.named else frame.rename(density.space.names)


def _check_given(density: Density, batch: Frame, path: str) -> None:
    """Raises ValueError where a given category was never seen, with the nearest of those that were."""
    for kind in getattr(density.space, "conditions", ()):
        known = [*getattr(kind, "categories", ())]
        if not known:
            continue
        codes, labels = batch.column(kind.name).as_texts()
        for label in (str(labels[code]) for code in np.unique(codes[codes >= 0])):
            text = label.strip().lower() if kind.dtype == "bool" else label
            if text not in known:
                near = get_close_matches(text, known, 1, 0.0)
                raise ValueError(
                    f"{path}: the model never saw {label!r} in the given column {kind.name!r}; the nearest that it "
                    f"knows is {near[0]!r}, of {count(len(known), 'value')}"
                )


class _Unseen:
    """How many rows hold what a model never saw, and some of them and of those that are impossible, to say why."""

    def __init__(self, density: Density) -> None:
        self._density = density
        self._rows: list[Any] = []
        self._kept = self.count = 0

    def add(self, rows: Any, log_density: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Looks at more rows and their log-densities (N,): -> which of them hold what was never seen (N,)."""
        is_unseen = self._density.space.unseen(rows)
        self.count += int(is_unseen.sum())
        at = np.flatnonzero(is_unseen | np.isneginf(log_density))[: _EXPLAINED - self._kept]
        if len(at):
            self._rows.append(rows[at])
            self._kept += len(at)
        return is_unseen

    def reasons(self) -> list[str]:
        """Why they are, in words: those of the warning that the density gives."""
        if not self._rows:
            return []
        with warnings.catch_warnings(record=True) as messages, torch.no_grad():
            warnings.simplefilter("always")
            self._density.log_prob(self._density.space.join(self._rows))
        reasons = [part for m in messages for part in str(m.message).partition(": ")[2].split("; ") if part]
        return reasons or ["so far from all that was seen that no density is left"]


def _tell(tally: Tally, unseen: _Unseen) -> dict[str, Any]:
    reasons = unseen.reasons()
    median, (mean, se) = tally.median(), tally.mean()
    say("scored", f"{count(tally.rows, 'row')}: median log-density {median:.4f} nats per row")
    finite = " of the rows that have one" if tally.impossible else ""
    if tally.rows > tally.impossible:
        say("mean", f"{plus_minus(mean, se)}{finite}, between {tally.lowest:.4g} and {tally.highest:.4g}")
    if tally.impossible:
        say("impossible", f"{count(tally.impossible, 'row')} with log-density -inf: {listed(reasons, 5)}")
    elif unseen.count:
        say("unseen", f"{count(unseen.count, 'row')} with what was never seen in training: {listed(reasons, 5)}")
    if tally.extreme:
        far = "their log-density is more than 10 interquartile ranges below the median, so beware of the mean"
        say("extreme", f"{count(tally.extreme, 'row')}: {far}")
    return {
        "rows": tally.rows, "median_log_density": median, "mean_log_density": mean, "se": se, "min": tally.lowest,
        "max": tally.highest, "impossible_rows": tally.impossible,
        "unseen_rows": unseen.count, "extreme_rows": tally.extreme,
    }  # fmt: skip
