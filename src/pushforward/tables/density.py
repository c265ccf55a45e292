"""The density of mixed rows: an exact mass function of what is discrete, and a flow of the numbers given that.

    log p(row) = log P(states) + log p(numbers | states),

where the states of a row are its categories, which of its cells are missing, and which hold an atom.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._fast.kernels.chunks import map_rows
from ..density import Density, Mixture, as_generator
from ..flow import Flow
from ..io import _csv
from .arrow import Source, as_source
from .encoding import Encoded, Layout, noisy_column
from .mass import Embedder, MassFunction
from .noise import uniforms
from .parallel import in_order
from .preconditioning import folded, uncorrelated, unfolded
from .schema import Schema

Flows = Flow | Mixture
_CHUNK = 2**16  # rows that are encoded at a time
_TRIES = 20  # at a row whose numbers lie far beyond all that was seen


def with_given(source: Source, context: Any) -> Source:
    """Rows with the given columns that came beside them."""
    if context is None:
        return source
    data = source.data
    given = as_source(context).data
    for name in given.column_names:
        data = data.append_column(name, given.column(name))
    return replace(source, data=data)


class TableDensity(Density):
    """A density over the rows of a table with columns of any kind; `fit_table` makes one.

    Units: nats a row. A cell counts with its probability (mass) where its column is a category, integer, quantised, a
    date, or where it is missing or an atom; with its probability density in the column's own unit where it is another
    real, positive, bounded or circular number. Mass is in the unit of one cell: one integer, one step, one tick.

    What is exact: the mass of all states, and the density of rows whose numbers are continuous and all there (or all
    absent). What is a lower bound in expectation: numbers on a lattice are spread over their step by uniform noise, and
    cells that hold no number are filled with normal noise, whose density is subtracted; by Jensen's inequality either
    can only lose, the less the better the flow. `log_prob(..., draws=k)` averages k draws and so tightens the bound.
    The noise is a hash of the row, so that a row scores the same in any table (to rounding).

    Args:
        schema: of all columns.
        given: names of the columns that the density is conditional on.
        mass: of the columns with states; None where there are none.
        flow: of the columns with numbers (or an ensemble); None where there are none. Its context are the states and
            given columns.
    """

    whitening: Tensor

    def __init__(
        self, schema: Schema, given: Sequence[str] = (), mass: MassFunction | None = None, flow: Flows | None = None
    ) -> None:
        super().__init__()
        self.schema, self.given = schema, tuple(given)
        layout = Layout(schema, self.given)
        self.layout = layout
        if (mass is None) != (not layout.sizes) or (mass is not None and mass.sizes != layout.sizes):
            raise ValueError(f"the mass function does not fit the schema, whose states are {layout.sizes}")
        if (flow is None) != (not layout.numbers) or (
            flow is not None and flow.members[0].shape != (len(layout.numbers),)
        ):
            raise ValueError(f"the flow does not fit the schema, which has {len(layout.numbers)} columns with numbers")
        self.mass, self.flow = mass, flow
        # A linear map before the flow, lower triangular; float32 as all that is kept, but applied in float64.
        self.register_buffer("whitening", torch.eye(len(layout.numbers)))

    @property
    def flows(self) -> list[Flow]:
        """The flows of the numbers: none, one, or the members of an ensemble."""
        return [] if self.flow is None else cast("list[Flow]", self.flow.members)

    @property
    def targets(self) -> list[str]:
        """The columns whose density this is."""
        return [c.name for c in self.layout.targets]

    @torch.no_grad()
    def log_prob(self, x: Any, context: Any = None, *, draws: int = 1) -> Tensor:
        """Log-density of each row: -> (N,) float64, in nats; the class says what is exact and in which units.

        Rows that the schema makes impossible, as by a category never seen, get -inf, with one warning that counts them.

        Args:
            x: a table, as `infer_schema` takes; its columns are found by name, others are ignored.
            context: a table of the given columns, for rows that lack them.
            draws: of the noise, for rows that need any: their likelihoods are averaged.

        Raises:
            ValueError: a column is absent or of another kind, text among numbers, or infinities.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        source = with_given(as_source(x), context)
        spans = (source.slice(i, min(_CHUNK, len(source) - i)) for i in range(0, len(source), _CHUNK))
        parts, trouble = [], {}
        for part, told in in_order(lambda rows: self.scored(rows, draws), spans, device=self._device):
            parts.append(part)
            trouble.update(dict.fromkeys(told))
        log_prob = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        impossible = int(torch.isneginf(log_prob).sum())
        if trouble:
            shown = "; ".join(list(trouble)[:5])
            warnings.warn(f"{impossible:,} of {len(log_prob):,} rows have log-density -inf: {shown}", stacklevel=2)
        return log_prob

    @torch.no_grad()
    def latent(self, x: Any, context: Any = None) -> Tensor | None:
        """The numbers of each row in the flow's latent space: -> z (N, C), standard normal if the model is right.

        Columns are those of `layout.numbers`, in order; cells that hold no number come from their noise.

        Raises:
            ValueError: as `log_prob`, or the schema has no numbers, or there are several flows.
        """
        if not isinstance(self.flow, Flow):
            why = "no columns with numbers" if self.flow is None else f"{len(self.flow)} flows, no single latent space"
            raise ValueError(f"this density has {why}")
        parts = [torch.zeros(0, len(self.layout.numbers))]
        source = with_given(as_source(x), context)
        for start in range(0, len(source), _CHUNK):
            rows = self.layout.encode(source.slice(start, min(_CHUNK, len(source) - start)))
            y, _ = self.noisy(rows, uniforms(rows.states, rows.base, 0))
            parts.append(self.flow.f(torch.from_numpy(y), self.context(rows))[0].cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Any:
        """Draws n rows, or n for each row of the given columns (those of the first row come first).

        Args:
            n: how many.
            context: a table or a dict of the given columns, for a conditional density.
            generator: the source of randomness, or a seed; torch's global one when None.

        Returns:
            A `pyarrow.Table` of all modelled columns in their order and dtypes. Its rows are valid: categories that
            were seen, numbers on their lattice and within their bounds, missing cells at their rate. A row with a
            number farther beyond those seen in training than they are apart is drawn again: where there was no data,
            a flow's tail is a guess.

        Raises:
            ValueError: n is negative, or given columns are absent or superfluous.
        """
        return _csv.pyarrow().concat_tables(self.sample_batches(n, context, generator=generator))

    def sample_batches(
        self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> Iterator[Any]:
        """The rows of `sample`, in pieces of at most 65,536, so that memory stays flat in n; at least one piece.

        Raises:
            ValueError: as `sample`.
        """
        if n < 0:
            raise ValueError(f"the number of samples must be at least 0, got {n}")
        source = None
        if self.given:
            if context is None:
                raise ValueError(f"this density is conditional: give a table of {', '.join(map(repr, self.given))}")
            source = as_source(context)
            source = source.take(np.repeat(np.arange(len(source)), n))
            n = len(source)
        elif context is not None:
            raise ValueError("this density is not conditional: it takes no given columns")
        generator = as_generator(generator)
        seeds = np.random.SeedSequence(int(torch.randint(2**62, (), generator=generator)))

        def pieces() -> Iterator[tuple[int, Source | None, np.random.SeedSequence]]:
            for start in range(0, max(n, 1), _CHUNK):
                size = min(_CHUNK, n - start)
                yield size, None if source is None else source.slice(start, size), seeds.spawn(1)[0]

        yield from in_order(lambda piece: self._sample(*piece), pieces(), device=self._device)

    @torch.no_grad()
    def scored(self, table: Any, draws: int = 1) -> tuple[Tensor, tuple[str, ...]]:
        """As `log_prob`, all rows at once: -> log-density (N,), what makes rows impossible, in words."""
        rows = self.encode(table)
        return self._log_prob(rows, draws), rows.trouble

    def encode(self, table: Any) -> Encoded:
        """All rows at once, encoded; see `Encoded`."""
        return self.layout.encode(as_source(table))

    def noisy(self, rows: Encoded, u: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """What the flow sees for noise u (N, C): y (N, C), and what to add to its log-density (N,)."""
        y, added = self._mapped(rows, u)
        matrix = self._matrix()
        z, log_slope = folded(y @ matrix.T)
        return z.astype(np.float32), added + log_slope + np.log(np.diag(matrix)).sum()

    @torch.no_grad()
    def whiten(self, rows: Encoded) -> None:
        """Sets the linear maps of the numbers, before the flow and among what is given, from training rows."""
        if self.layout.numbers:
            y, _ = self._mapped(rows, uniforms(rows.states, rows.base, 0))
            self.whitening.copy_(torch.from_numpy(uncorrelated(y)))
        if rows.given is not None:
            for embed in (None if self.mass is None else self.mass.given, *(f.embed for f in self.flows)):
                if isinstance(embed, Embedder) and embed.reals:
                    # Numbers that say nearly the same, such as magnitudes, tell most by their small differences.
                    numbers = rows.given[:, -embed.reals :].astype(np.float64)
                    embed.whitening.copy_(torch.from_numpy(uncorrelated(numbers)))

    def _mapped(self, rows: Encoded, u: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Numbers by their own maps alone: y (N, C), and the log-density to add (N,)."""
        y, added = np.empty_like(rows.base), np.zeros(len(rows))
        for i, column in enumerate(self.layout.numbers):
            y[:, i], log_slope = noisy_column(column, rows.base[:, i], rows.width[:, i], u[:, i])
            added += log_slope
        return y, added

    @property
    def _device(self) -> torch.device:
        return self.whitening.device

    def _matrix(self) -> NDArray[np.float64]:
        return self.whitening.double().cpu().numpy()

    def context(self, rows: Encoded) -> Tensor | None:
        """What the flow is conditional on, (N, M + G), before its embedding; None for nothing."""
        parts = [] if not self.layout.sizes else [torch.from_numpy(rows.states).float()]
        if rows.given is not None:
            parts.append(torch.from_numpy(rows.given))
        return torch.cat(parts, 1) if parts else None

    def _log_prob(self, rows: Encoded, draws: int) -> Tensor:
        total = torch.from_numpy(rows.log_mass).clone()
        device = self._device
        if self.mass is not None:
            given = None if rows.given is None else torch.from_numpy(rows.given).to(device)
            states = torch.from_numpy(rows.states).to(device)
            mass = self.mass
            (log_mass,) = map_rows(lambda *chunk: (mass(*chunk),), states, given, [()], dtype=mass.bias_out.dtype)
            total += log_mass.double().cpu()
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

    @torch.no_grad()
    def _sample(self, n: int, given: Source | None, seed: np.random.SeedSequence) -> Any:
        torch_seed, numpy_seed = (int(s) for s in seed.generate_state(2, np.uint64))
        generator = torch.Generator().manual_seed(torch_seed % 2**63)
        picks = np.random.default_rng(numpy_seed)
        table, broken = self._drawn(n, given, generator, picks)
        for _ in range(_TRIES):  # at rows with a sum beyond the bounds of its column
            at = np.flatnonzero(broken)
            if len(at) == 0:
                break
            again, still = self._drawn(len(at), None if given is None else given.take(at), generator, picks)
            order = np.arange(n)
            order[at[~still]] = n + np.flatnonzero(~still)
            table, broken[at[~still]] = _csv.pyarrow().concat_tables([table, again]).take(order), False
        return table

    def _drawn(
        self, n: int, given: Source | None, generator: torch.Generator, picks: np.random.Generator
    ) -> tuple[Any, NDArray[np.bool_]]:
        """n rows as `Layout.decode` gives them."""
        layout = self.layout
        found = {} if given is None else dict(zip(given.names, given.data.columns, strict=True))
        absent = [c.name for c in layout.given if c.name not in found]
        if absent:
            raise ValueError(f"the given table lacks the columns {', '.join(map(repr, absent))}")
        features = layout.encode_given(found, given.text, n) if given is not None else None
        states = torch.zeros(n, 0, dtype=torch.int64)
        if self.mass is not None:
            told = None if features is None else torch.from_numpy(features)
            states = self.mass.sample(n, told, possible=layout.possible, generator=generator)
        nothing = np.zeros((n, len(layout.numbers)))
        rows = Encoded(states.numpy(), nothing, nothing, features, np.zeros(n))
        return layout.decode(rows.states, self._sample_numbers(rows, generator), given, picks)

    def _sample_numbers(self, rows: Encoded, generator: torch.Generator) -> NDArray[np.float64]:
        """Draws the numbers (N, C) of rows whose states are known, as their marginals take them."""
        w = np.zeros(rows.base.shape)
        if self.flow is None:
            return w
        context = self.context(rows)
        device = self._device
        wild = np.arange(len(rows))
        for _ in range(_TRIES):
            part = None if context is None else context[torch.from_numpy(wild)].to(device)
            z = self.flow.sample(1 if part is not None else len(wild), part, generator=generator)
            z = z.reshape(len(wild), len(self.layout.numbers)).double().cpu().numpy()
            y = np.linalg.solve(self._matrix(), unfolded(z).T).T
            tame = np.ones(len(wild), dtype=bool)
            for i, (column, m) in enumerate(zip(self.layout.numbers, self.layout.state_of, strict=True)):
                drawn = column.marginal.inverse(np.asarray(y[:, i], dtype=np.float64))
                low, high = column.reach
                with np.errstate(invalid="ignore"):
                    inside = (drawn >= low) & (drawn <= high)
                tame &= inside if m is None else inside | (rows.states[wild, m] >= column.ordinary)
                w[wild, i] = np.clip(np.nan_to_num(drawn, nan=low), low, high)
            wild = wild[~tame]
            if len(wild) == 0:
                break
        return w
