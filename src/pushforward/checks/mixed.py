"""Tables of mixed columns under a density over tables: their rows as numbers, and simple densities of them to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import _csv
from ..tables import arrow
from ..tables.arrow import as_source
from .encode import Encoder
from .mixture import Mixture, fit_mixture
from .stats import Array
from .subject import FlowSubject

_CATEGORIES = 30  # of a column that get an indicator of their own; the others share one
_FIT_ROWS = 20_000


@dataclass
class TableSubject:
    """Rows of an Arrow table under a density over tables.

    The density gives `log_prob(table)`, `sample(n, given, seed=)` as an Arrow table, `latent(table)`, standard normal
    if it is right, and perhaps `given` (names), `flow` and `encode`, as a `TableDensity` does.

    Attributes:
        density: over tables.
        names: of the columns, the given ones last; known when the first rows were seen.
        given: how many are given.
        contexts: a table of the given columns, for which samples are drawn.
    """

    density: Any
    names: list[str] = field(default_factory=list)
    given: int = 0
    contexts: Any = None
    _types: Any = None

    def rows(self, values: Any, name: str) -> Any:
        """An Arrow table, a `Table` or a frame -> an Arrow table of the model's columns and their types.

        Raises:
            ValueError: columns are absent, cells do not fit them, or there are no rows.
        """
        table = self._typed(as_source(values))
        if len(table) == 0:
            raise ValueError(f"{name} has no rows")
        told = list(getattr(self.density, "given", ()))
        if not self.names:
            drawn = self._draw(1, table.select(told).slice(0, 1) if told else None, 0)
            self.names = [c for c in drawn.column_names if c not in told] + told
            self.given, self._types = len(told), drawn.schema
        absent = [c for c in self.names if c not in table.column_names]
        if absent:
            raise ValueError(f"{name} lacks columns of the model: {', '.join(map(repr, absent))}")
        pa = _csv.pyarrow()
        columns = {}
        for column in self.names:
            kind = self._types.field(column).type
            try:
                columns[column] = table.column(column).combine_chunks().cast(kind, safe=False)
            except pa.ArrowException as error:
                raise ValueError(f"{name}: column {column!r} is no {kind}: {_csv.one_line(error)}") from None
        table = pa.table(columns)
        if told and self.contexts is None:
            self.contexts = table.select(told)
        return table

    def log_prob(self, rows: Any) -> Array:
        """Log-density of each row (N,), in nats."""
        return np.asarray(self.density.log_prob(rows), float)

    def impossible(self, rows: Any) -> NDArray[np.bool_]:
        """Rows with a category that the training never saw, or a number that its column cannot have."""
        if not hasattr(self.density, "encode"):
            return np.zeros(len(rows), bool)
        return np.isneginf(self.density.encode(rows).log_mass)

    def sample(self, n: int, seed: int) -> Any:
        """Draws n rows; of a conditional density one for each of n rows of the contexts."""
        if self.contexts is None:
            return self._draw(n, None, seed).select(self.names).combine_chunks()
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(len(self.contexts)) for _ in range(-(-n // len(self.contexts)))])[:n]
        return self._draw(1, self.contexts.take(order), seed).select(self.names).combine_chunks()

    def latent(self, rows: Any) -> Array | None:
        """The latents z (N, C) of the numbers; None where there are none, or several flows."""
        if len(getattr(self.density, "flows", [self])) != 1:
            return None
        z = np.asarray(self.density.latent(rows), float)
        return z if z.ndim == 2 and z.shape[1] else None

    def base_sample(self, n: int, seed: int) -> tuple[Array, Array] | None:
        """The base of the inner flow, as of a flow."""
        flows = getattr(self.density, "flows", [])
        return None if len(flows) != 1 else FlowSubject(flows[0], []).base_sample(n, seed)

    def base_log_prob(self, z: Array) -> Array:
        """log p(z) (N,) of latents (N, C)."""
        return FlowSubject(self.density.flow, []).base_log_prob(z)

    def encoder(self, real: Any) -> Encoder:
        """Categories one-hot, numbers as they are with missing cells at the median, an indicator of missing cells."""
        parts = [_encoded_column(real.column(name), name) for name in self.names]
        names = [n for p in parts for n in p.names]
        owner = [i for i, p in enumerate(parts) for _ in p.names]
        indicator = [flag for p in parts for flag in p.indicator]

        def numbers(rows: Any) -> Array:
            return np.hstack([p.encode(rows.column(n)) for p, n in zip(parts, self.names, strict=True)])

        return Encoder.measured(real, numbers, names, owner, indicator)

    def matrix(self, rows: Any) -> Array | None:
        """Mixed rows are no matrix."""
        return None

    def inner(self, rows: Any) -> tuple[FlowSubject, Array] | None:
        """The (first) flow of the numbers, and what it sees of rows: numbers (N, C), then its context (N, K)."""
        flows = getattr(self.density, "flows", [])
        if not flows or not hasattr(self.density, "noisy"):
            return None
        encoded = self.density.encode(rows)
        y, _ = self.density.noisy(encoded, np.random.default_rng(0).random(encoded.base.shape))
        context = self.density.context(encoded)
        known = np.isfinite(y).all(1)
        context = np.empty((len(y), 0)) if context is None else np.asarray(context, float)
        names = [f"number {i}" for i in range(y.shape[1] + context.shape[1])]
        return FlowSubject(flows[0], names, context.shape[1]), np.hstack([y, context])[known].astype(float)

    def baselines(self, fit: Any, rows: Any, seed: int) -> dict[str, tuple[str, Array]]:
        """Independent categories, atoms and missing cells, times a Gaussian, or a mixture, of the numbers there are.

        They count in the model's own units: numbers on a lattice are spread over their step, given columns are
        conditioned on.
        """
        if not hasattr(self.density, "encode"):
            return {}
        rng = np.random.default_rng(seed)
        parts = [self.density.encode(part) for part in (fit, rows)]
        discrete = parts[1].log_mass.copy()
        for a, b in zip(parts[0].states.T, parts[1].states.T, strict=True):
            discrete += _log_frequency(a, b)
        # A number that stands for a cell is spread over it, and its density times the cell's width is a mass.
        x, y = (p.base + p.width * rng.random(p.base.shape) for p in parts)
        has_cell = (parts[1].width > 0) & np.isfinite(parts[1].base)
        discrete += np.log(np.where(has_cell, parts[1].width, 1.0)).sum(1)
        width = x.shape[1]
        if width == 0:
            return {"frequencies": ("independent frequencies", discrete)}
        if parts[0].given is not None:
            varying = np.ptp(parts[0].given, axis=0) > 0
            x, y = (np.hstack([own, p.given[:, varying]]) for own, p in zip((x, y), parts, strict=True))
        if (np.isfinite(x).sum(0) < 2).any() or (np.nanmin(x, 0) == np.nanmax(x, 0)).any():
            return {}
        filled = np.where(np.isnan(x), np.nanmean(x, 0), x)[rng.permutation(len(x))[:_FIT_ROWS]]
        found = {}
        for name, most in (("gaussian", 1), ("mixture", 36)):
            try:
                mixture = fit_mixture(filled, seed, most)
            except (ImportError, ValueError):
                continue
            label = "Gaussian" if most == 1 else f"Gaussian mixture of {len(mixture.weights)}"
            found[name] = (f"{label}, frequencies", discrete + _observed(mixture, y, width))
        return found

    def _typed(self, source: arrow.Source) -> Any:
        """The Arrow table of a source; of a CSV the model's columns alone, with the types that the model has for it."""
        if not source.text:
            return source.data
        kinds = {c.name: arrow.arrow_type(c.dtype) for c in self.density.schema.modelled if c.name in source.names}
        return _csv.pyarrow().table({n: arrow.typed(source.data.column(n), n, kind) for n, kind in kinds.items()})

    def _draw(self, n: int, given: Any, seed: int) -> Any:
        return (
            self.density.sample(n, generator=seed) if given is None else self.density.sample(n, given, generator=seed)
        )


@dataclass(frozen=True)
class _Column:
    names: list[str]
    indicator: list[bool]
    encode: Callable[[Any], Array]


def _encoded_column(column: Any, name: str) -> _Column:
    """How a column becomes numbers, from its real cells."""
    values = _numbers(column)
    if values is not None:
        missing = bool(np.isnan(values).any())
        middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0

        def number(column: Any) -> Array:
            x = _numbers(column)
            assert x is not None
            gone = np.isnan(x)
            x = np.where(gone, middle, x)
            return np.stack([x, gone.astype(float)], 1) if missing else x[:, None]

        return _Column([name, f"{name} missing"] if missing else [name], [False, True] if missing else [False], number)
    found, counts = np.unique(_texts(column), return_counts=True)
    kept = found[np.argsort(-counts, kind="stable")][:_CATEGORIES]

    def category(column: Any) -> Array:
        hot = _texts(column)[:, None] == kept
        return np.hstack([hot, ~hot.any(1, keepdims=True)]).astype(float)

    return _Column([*(f"{name} = {k}" for k in kept), f"{name} = (other)"], [True] * (len(kept) + 1), category)


def _numbers(column: Any) -> Array | None:
    """A column of numbers or times -> (N,), NaN where missing; None for categories."""
    pa = _csv.pyarrow()
    kind = column.type
    t = pa.types
    if t.is_temporal(kind):
        column, kind = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()), pa.int64()
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind):
        values = column.cast(pa.float64(), safe=False)
        return np.asarray(values.to_numpy(zero_copy_only=False) if hasattr(values, "type") else values, float)
    return None


def _texts(column: Any) -> Any:
    """A column of categories -> (N,) strings; a missing cell is one of its own."""
    pa = _csv.pyarrow()
    return np.array([_MISSING if v is None else v for v in column.cast(pa.string()).to_pylist()], dtype=str)


_MISSING = "(missing)"


def _observed(mixture: Mixture, y: Array, width: int) -> Array:
    """y (N, D + G), NaN where missing -> the log-density (N,) of the D numbers that are there, given the G others."""
    out = np.zeros(len(y))
    told = list(range(width, y.shape[1]))
    patterns, which = np.unique(np.isnan(y), axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        rows, present = which.reshape(-1) == k, np.flatnonzero(~pattern[:width]).tolist()
        if present:
            out[rows] = mixture.log_prob(y[rows], present + told) - (mixture.log_prob(y[rows], told) if told else 0.0)
    return out


def _log_frequency(fit: Any, rows: Any) -> Array:
    """Log of the frequency (with one added to each count) among `fit` (M,) of each value of `rows` (N,)."""
    values, counts = np.unique(fit, return_counts=True)
    at = np.searchsorted(values, rows).clip(0, len(values) - 1)
    count = np.where(values[at] == rows, counts[at], 0)
    return np.log((count + 1) / (len(fit) + len(values) + 1))
