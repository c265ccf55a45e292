"""The density of mixed rows: an exact mass function of what is discrete, and a flow of the numbers given that.

    log p(row) = log P(states) + log p(numbers | states),

where the states of a row are its categories, which of its cells are missing, and which hold an atom.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import _csv
from ..flow import Flow
from . import cells
from .arrow import Source, as_source
from .column import Column
from .mass import Embedder, MassFunction
from .noise import uniforms
from .schema import Schema

_CHUNK = 2**16  # rows that are encoded at a time
_RIDGE = 1e-6
_LOG_NORMAL = -0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Encoded:
    """N rows, encoded; M columns with states, C with numbers.

    Attributes:
        states: (N, M) int64, 0 in impossible rows.
        base: (N, C) float64, the numbers before noise, NaN where a cell holds none.
        width: (N, C) float64, the width of the cells over which noise spreads them, 0 for none.
        given: (N, G) float32, what the density is conditional on, None where it is not.
        log_mass: (N,) float64, log-mass of cells given their states; -inf for impossible rows.
        trouble: what is impossible, in words.
    """

    states: NDArray[np.int64]
    base: NDArray[np.float64]
    width: NDArray[np.float64]
    given: NDArray[np.float32] | None
    log_mass: NDArray[np.float64]
    trouble: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.states)


class TableDensity(nn.Module):
    """A density over the rows of a table with columns of any kind; `fit_table` makes one.

    Units: nats a row. A cell counts with its probability (mass) where its column is a category, integer, quantised, a
    date, or where it is missing or an atom; with its probability density in the column's own unit where it is another
    real, positive, bounded or circular number. Mass is in the unit of one cell: one integer, one step, one tick.

    What is exact: the mass of all states, and the density of rows whose numbers are continuous and all there (or all
    absent). What is
    a lower bound in expectation: numbers on a lattice are spread over their step by uniform noise, and cells that hold
    no number are filled with normal noise, whose density is subtracted; by Jensen's inequality either can only lose,
    the less the better the flow. `log_prob(..., draws=k)` averages k draws and so tightens the bound. The noise is a
    hash of the row, so that a row scores the same in any table.

    Args:
        schema: of all columns.
        given: names of the columns that the density is conditional on.
        mass: of the columns with states; None where there are none.
        flow: of the columns with numbers; None where there are none. Its context are the states and given columns.
    """

    whitening: Tensor

    def __init__(
        self, schema: Schema, given: Sequence[str] = (), mass: MassFunction | None = None, flow: Flow | None = None
    ) -> None:
        super().__init__()
        self.schema, self.given = schema, tuple(given)
        layout = Layout(schema, self.given)
        self.layout = layout
        if (mass is None) != (not layout.sizes) or (mass is not None and mass.sizes != layout.sizes):
            raise ValueError(f"the mass function does not fit the schema, whose states are {layout.sizes}")
        if (flow is None) != (not layout.numbers) or (flow is not None and flow.shape != (len(layout.numbers),)):
            raise ValueError(f"the flow does not fit the schema, which has {len(layout.numbers)} columns with numbers")
        self.mass, self.flow = mass, flow
        # A linear map before the flow, lower triangular; float32 as all that is kept, but applied in float64.
        self.register_buffer("whitening", torch.eye(len(layout.numbers)))
        self.training_summary: dict[str, Any] | None = None

    @property
    def targets(self) -> list[str]:
        """The columns whose density this is."""
        return [c.name for c in self.layout.targets]

    @torch.no_grad()
    def log_prob(self, table: Any, *, draws: int = 1) -> Tensor:
        """Log-density of each row: -> (N,) float64, in nats; the class says what is exact and in which units.

        Rows that the schema makes impossible, as by a category never seen, get -inf, with one warning that counts them.

        Args:
            table: as `infer_schema` takes; its columns are found by name, others are ignored.
            draws: of the noise, for rows that need any: their likelihoods are averaged.

        Raises:
            ValueError: a column is absent or of another kind, text among numbers, or infinities.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        parts, trouble = [], {}
        for rows in self._chunks(table):
            parts.append(self._log_prob(rows, draws))
            trouble.update(dict.fromkeys(rows.trouble))
        log_prob = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        impossible = int(torch.isneginf(log_prob).sum())
        if trouble:
            shown = "; ".join(list(trouble)[:5])
            warnings.warn(f"{impossible:,} of {len(log_prob):,} rows have log-density -inf: {shown}", stacklevel=2)
        return log_prob

    @torch.no_grad()
    def latent(self, table: Any) -> Tensor:
        """The numbers of each row in the flow's latent space: -> z (N, C), standard normal if the model is right.

        Columns are those of `layout.numbers`, in order; cells that hold no number come from their noise.

        Raises:
            ValueError: as `log_prob`, or the schema has no numbers.
        """
        if self.flow is None:
            raise ValueError("this density has no columns with numbers")
        parts = [torch.zeros(0, len(self.layout.numbers))]
        for rows in self._chunks(table):
            y, _ = self.noisy(rows, uniforms(rows.states, rows.base, 0))
            parts.append(self.flow.f(torch.from_numpy(y), self.context(rows))[0].cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def sample(self, n: int, given: Any = None, *, seed: int | None = None) -> Any:
        """Draws n rows, or n for each row of the given columns (those of the first row come first).

        Args:
            n: how many.
            given: a table or a dict of the given columns, for a conditional density.
            seed: of the draws; a new one each time when None.

        Returns:
            A `pyarrow.Table` of all modelled columns in their order and dtypes. Its rows are valid: categories that
            were seen, numbers on their lattice and within their bounds, missing cells at their rate.

        Raises:
            ValueError: n is negative, or given columns are absent or superfluous.
        """
        if n < 0:
            raise ValueError(f"the number of samples must be at least 0, got {n}")
        fresh = np.random.SeedSequence(seed)
        torch_seed, numpy_seed = (int(s) for s in fresh.generate_state(2, np.uint64))
        generator = torch.Generator().manual_seed(torch_seed % 2**63)
        source = None
        if self.given:
            if given is None:
                raise ValueError(f"this density is conditional: give a table of {', '.join(map(repr, self.given))}")
            source = as_source(given)
            source = source.take(np.repeat(np.arange(len(source)), n))
            n = len(source)
        elif given is not None:
            raise ValueError("this density is not conditional: it takes no given columns")
        picks = np.random.default_rng(numpy_seed)
        parts = []
        for start in range(0, max(n, 1), _CHUNK):
            size = min(_CHUNK, n - start)
            part = None if source is None else source.slice(start, size)
            parts.append(self._sample(size, part, generator, picks))
        return _csv.pyarrow().concat_tables(parts)

    def to_json(self) -> dict[str, Any]:
        """What a file needs beside the weights to rebuild the density: schema, recipe and table, JSON-able."""
        table = {"given": list(self.given), "mass_width": None if self.mass is None else self.mass.width}
        return {
            "schema": self.schema.to_json(),
            "recipe": None if self.flow is None else self.flow.recipe,
            "table": table,
        }

    def encode(self, table: Any) -> Encoded:
        """All rows at once, encoded; see `Encoded`."""
        return self._encode(as_source(table))

    def noisy(self, rows: Encoded, u: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """What the flow sees for noise u (N, C): y (N, C), and what to add to its log-density (N,)."""
        y, added = np.empty_like(rows.base), np.zeros(len(rows))
        for i, column in enumerate(self.layout.numbers):
            y[:, i], log_slope = noisy_column(column, rows.base[:, i], rows.width[:, i], u[:, i])
            added += log_slope
        matrix = self._whitening()
        return (y @ matrix.T).astype(np.float32), added + np.log(np.diag(matrix)).sum()

    @torch.no_grad()
    def whiten(self, rows: Encoded) -> None:
        """Sets the linear map before the flow from training rows, so that their numbers become uncorrelated."""
        self.whitening.copy_(torch.eye(len(self.whitening)))
        y, _ = self.noisy(rows, uniforms(rows.states, rows.base, 0))
        covariance = (
            np.atleast_2d(np.cov(y.astype(np.float64), rowvar=False)) if len(y) > len(y.T) else np.eye(len(y.T))
        )
        covariance += _RIDGE * np.diag(np.diag(covariance) + _RIDGE)
        self.whitening.copy_(torch.from_numpy(np.linalg.inv(np.linalg.cholesky(covariance))).tril())

    def _whitening(self) -> NDArray[np.float64]:
        return self.whitening.double().cpu().numpy()

    def context(self, rows: Encoded) -> Tensor | None:
        """What the flow is conditional on, (N, M + G), before its embedding; None for nothing."""
        parts = [] if not self.layout.sizes else [torch.from_numpy(rows.states).float()]
        if rows.given is not None:
            parts.append(torch.from_numpy(rows.given))
        return torch.cat(parts, 1) if parts else None

    def _chunks(self, table: Any) -> Iterator[Encoded]:
        source = as_source(table)
        for start in range(0, len(source), _CHUNK):
            yield self._encode(source.slice(start, min(_CHUNK, len(source) - start)))

    def _encode(self, source: Source) -> Encoded:
        layout = self.layout
        found = dict(zip(source.names, source.data.columns, strict=True))
        wanted = layout.targets + layout.given
        if not (self.schema.named and source.named) and len(source.names) == len(self.schema.columns):
            found = {c.name: found[n] for c, n in zip(self.schema.columns, source.names, strict=True)}
        absent = [c.name for c in wanted if c.name not in found]
        if absent:
            raise ValueError(
                f"{source.where} lacks the columns {', '.join(map(repr, absent[:10]))} of the model; it has "
                f"{', '.join(map(repr, source.names[:20]))}"
            )
        n = len(source)
        log_mass = np.zeros(n)
        states = np.zeros((n, len(layout.sizes)), dtype=np.int64)
        base, width = np.empty((2, n, len(layout.numbers)))
        trouble, m, c = [], 0, 0
        for column in layout.targets:
            encoded = cells.encode(column, found[column.name], source.text)
            log_mass += np.where(encoded.state < 0, -np.inf, encoded.log_mass)
            trouble += [encoded.trouble] if encoded.trouble else []
            if column.in_mass:
                states[:, m] = np.maximum(encoded.state, 0)
                m += 1
            if column.flows:
                base[:, c], width[:, c] = encoded.base, encoded.width
                c += 1
        given = self._given(found, source.text, n) if layout.given else None
        return Encoded(states, base, width, given, log_mass, tuple(trouble))

    def _given(self, found: dict[str, Any], text: bool, n: int) -> NDArray[np.float32]:
        """The given columns: states first, an unknown one as one past the last, then numbers, 0 where absent."""
        states, numbers = [np.zeros((n, 0))], [np.zeros((n, 0))]
        for column in self.layout.given:
            encoded = cells.encode(column, found[column.name], text)
            if encoded.trouble:
                warnings.warn(f"given {encoded.trouble}: taken as unknown", stacklevel=5)
            if column.in_mass:
                states.append(np.where(encoded.state < 0, column.states, encoded.state)[:, None])
            if column.flows:
                y, _ = noisy_column(column, encoded.base, encoded.width, np.full(n, 0.5))
                numbers.append(np.clip(np.where(np.isnan(encoded.base), 0.0, y), -10, 10)[:, None])
        return np.concatenate(states + numbers, 1).astype(np.float32)

    def _log_prob(self, rows: Encoded, draws: int) -> Tensor:
        total = torch.from_numpy(rows.log_mass).clone()
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        if self.mass is not None:
            given = None if rows.given is None else torch.from_numpy(rows.given).to(device)
            states = torch.from_numpy(rows.states).to(device)
            with torch.no_grad():
                total += self.mass(states, given).double().cpu()
        if self.flow is None:
            return total
        noisy = any(c.noisy for c in self.layout.numbers) or bool(np.isnan(rows.base).any())
        context = self.context(rows)
        context = None if context is None else context.to(device)
        each = []
        for draw in range(draws if noisy else 1):
            y, added = self.noisy(rows, uniforms(rows.states, rows.base, draw))
            log_prob = self.flow.log_prob(torch.from_numpy(y).to(device), context).double().cpu()
            each.append(log_prob + torch.from_numpy(added))
        of_numbers = torch.stack(each).logsumexp(0) - math.log(len(each))
        # Noise alone integrates to one: a row without any number is exact.
        none = torch.from_numpy(np.isnan(rows.base).all(1))
        return total + torch.where(none, 0.0, of_numbers)

    def _sample(self, n: int, given: Source | None, generator: torch.Generator, picks: np.random.Generator) -> Any:
        layout = self.layout
        found = {} if given is None else dict(zip(given.names, given.data.columns, strict=True))
        absent = [c.name for c in layout.given if c.name not in found]
        if absent:
            raise ValueError(f"the given table lacks the columns {', '.join(map(repr, absent))}")
        features = self._given(found, given.text, n) if given is not None else None
        states = torch.zeros(n, 0, dtype=torch.int64)
        if self.mass is not None:
            told = None if features is None else torch.from_numpy(features)
            states = self.mass.sample(n, told, possible=layout.possible, generator=generator)
        numbers = np.zeros((n, len(layout.numbers)))
        rows = Encoded(states.numpy(), numbers, numbers, features, np.zeros(n))
        if self.flow is not None:
            context = self.context(rows)
            numbers = self.flow.sample(1 if context is not None else n, context, generator=generator)
            numbers = numbers.reshape(n, len(layout.numbers)).double().cpu().numpy()
            numbers = np.linalg.solve(self._whitening(), numbers.T).T
        columns, m, c = {}, 0, 0
        for column in layout.targets:
            state, w = np.zeros(n, dtype=np.int64), None
            if column.in_mass:
                state, m = rows.states[:, m], m + 1
            if column.flows:
                w, c = column.marginal.inverse(numbers[:, c]), c + 1
            columns[column.name] = cells.decode(column, state, w, picks)
        for column in layout.given:
            columns[column.name] = found[column.name]
        order = [c.name for c in self.schema.modelled]
        return _csv.pyarrow().table({name: columns[name] for name in order})


class Layout:
    """Which columns are targets and given, and where their states and numbers go."""

    def __init__(self, schema: Schema, given: Sequence[str]) -> None:
        unknown = [g for g in given if g not in schema.names]
        if unknown:
            raise ValueError(f"given column {unknown[0]!r} is none of the modelled ones: {', '.join(schema.names)}")
        self.targets: list[Column] = [c for c in schema.modelled if c.name not in given]
        self.given: list[Column] = [c for c in schema.modelled if c.name in given]
        if not self.targets:
            raise ValueError("every column is given: none is left to model")
        self.sizes = tuple(c.states for c in self.targets if c.in_mass)
        self.numbers = [c for c in self.targets if c.flows]
        self.given_sizes = tuple(c.states for c in self.given if c.in_mass)
        self.given_numbers = sum(c.flows for c in self.given)
        # A value never seen, in a column of few values, has a little mass but is not sampled.
        self.possible = [[s > 0 or c.flows or not c.open for s in range(c.states)] for c in self.targets if c.in_mass]

    def embedders(self, generator: torch.Generator | None = None) -> tuple[Embedder | None, Embedder | None]:
        """-> what embeds the given columns for the mass function, and states and given columns for the flow."""
        given = Embedder(self.given_sizes, self.given_numbers, generator=generator)
        both = Embedder(self.sizes + self.given_sizes, self.given_numbers, generator=generator)
        return given if given.features_in else None, both if both.features_in else None


def noisy_column(
    column: Column, base: NDArray[np.float64], width: NDArray[np.float64], u: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers base (N,), NaN for none, cells of width (N,) and noise u (N,) -> y (N,), the log-density to add (N,)."""
    absent = np.isnan(base)
    w = base + width * u if column.noisy else base
    # The mass of a cell is the mean density within it, times its width.
    of_cell = np.log(np.where(width > 0, width, 1.0))
    if not absent.any():
        y, log_slope = column.marginal.forward(w)
        return y, log_slope + of_cell
    y, added = np.empty_like(base), np.empty_like(base)
    y[~absent], log_slope = column.marginal.forward(w[~absent])
    added[~absent] = log_slope + of_cell[~absent]
    filled = torch.special.ndtri(torch.from_numpy(u[absent])).numpy()
    y[absent], added[absent] = filled, 0.5 * filled * filled - _LOG_NORMAL
    return y, added
