"""The density of the rows of a table: each is encoded as states and numbers, of which an inner density is one."""

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

from ..arguments import as_count, as_generator
from ..density import Density, InnerFlow
from ..io.frames import Frame, concat, read
from ..io.registry import Builder, describe, register
from ..parallel import in_order
from .schema import Schema
from .space import Columns, EncodedRows, Known

_CHUNK = 2**16  # rows that are encoded at a time
_TRIES = 20  # at a row that may not be sampled
_MEASURED = 4096  # rows that are drawn to estimate `unsampled`


class TableDensity(Density):
    """A density over the rows of a table with columns of any kind; `fit_table` makes one.

    Units: nats a row. A cell counts with its probability (mass) where its column is a category, integer, quantised, a
    date, or where it is missing or a point mass; with its probability density in the column's own unit where it is
    another real, positive, bounded or circular number. Mass is in the unit of one cell: one integer, step or tick.

    What is exact: the mass of all states, and the density of rows whose numbers are continuous and all there (or all
    absent). What is a lower bound in expectation: numbers on a lattice are spread over their step by uniform noise
    (uniform dequantization, Theis et al. 2016, arXiv 1511.01844), and cells that hold no number may be filled with
    normal noise, whose density is subtracted; by Jensen's inequality either can only lose, the less the better the
    flow. `log_prob(..., draws=k)` averages k draws and so tightens the bound. The noise is a hash of the row, so that a
    row scores the same in any table (to rounding).

    Each column keeps a share of its mass for what was never seen in it, such as a new category: `Kind.unseen`, after
    Good and Turing, whatever is in the other columns. What they are given that is as if the cell were not known. New
    numbers where there were few are spread far and wide within that share; in a column of texts all that is new is one
    event. In older files the share is 0, and such rows have log-density -inf.

    Sampling is `log_prob` conditioned on rows that may be sampled: no value is new. Others are drawn again, as a whole:
    those with a number three times as far beyond those seen in training as they are apart (ten times where a tail is
    heavy), with a negative number where none was, or with a sum beyond the bounds of its column. `unsampled` is the
    share of the mass that is left out, new values included, estimated after training.

    Args:
        schema: of all columns.
        given: names of the columns that the density is conditional on.
        inner: a density over the tensors (B, M + C) of `Columns.encode`: M states, then C numbers, NaN where there is
            none; its context is `Columns.encode_given`. One that takes noise fills such cells, others integrate
            them out.
        unsampled: the share of the mass that `sample` leaves out; None takes that of values never seen.

    Raises:
        ValueError: the inner density does not fit the schema.
    """

    space: Columns  # type: ignore[override]  # set once, never replaced by another space

    def __init__(self, schema: Schema, given: Sequence[str], inner: Density, unsampled: float | None = None) -> None:
        super().__init__()
        self.space = Columns(schema, given, TableDensity)  # type: ignore[override]
        states, numbers = len(self.space.sizes), len(self.space.numbers)
        width = math.prod(getattr(inner.space, "shape", ()))
        if width != states + numbers or inner.space.sizes not in ((), self.space.sizes):
            raise ValueError(f"the inner density, over {width} columns, does not fit the schema, which has {states} "
                             f"columns with states and {numbers} with numbers")  # fmt: skip
        self.inner, self.unsampled = inner, self.space.unseen_share if unsampled is None else unsampled

    @property
    def schema(self) -> Schema:
        """Of all columns."""
        return self.space.schema

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that it is conditional on."""
        return self.space.given

    @property
    def targets(self) -> list[str]:
        """The columns whose density this is."""
        return [c.name for c in self.space.targets]

    @torch.no_grad()
    def log_prob(self, x: Any, context: Any = None, *, draws: int = 1) -> Tensor:
        """Log-density of each row: -> (N,) float64, in nats; the class says what is exact and in which units.

        One warning counts and names rows with what was never seen, as a new category; only in models of older files
        they get -inf.

        Args:
            x: a table, as `infer_schema` takes; its columns are found by name, others are ignored.
            context: a table of the given columns, for rows that lack them.
            draws: of the noise, for rows that need any: their likelihoods are averaged.

        Raises:
            ValueError: a column is absent or of another kind, text among numbers, or infinities.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        frame = self._with_given(read(x), context)
        parts, errors, unseen = [], {}, 0
        for part, count, what in in_order(lambda rows: self.scored(rows, draws), _pieces(frame), device=self.device):
            parts.append(part)
            unseen += count
            errors.update(dict.fromkeys(what))
        log_prob = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        impossible = int(torch.isneginf(log_prob).sum())
        if errors:
            what = f"{impossible:,} of {len(log_prob):,} rows have log-density -inf"
            if not impossible:
                what = f"{unseen:,} of {len(log_prob):,} rows hold what was never seen in training"
            warnings.warn(f"{what}: {'; '.join(list(errors)[:5])}", stacklevel=2)
        return log_prob

    @torch.no_grad()
    def scored(self, frame: Frame, draws: int = 1) -> tuple[Tensor, int, tuple[str, ...]]:
        """As `log_prob`, all rows at once: -> log-density (N,), how many rows hold what was never seen, and what."""
        rows = self.space.rows(frame)
        return self.log_prob_of(rows, draws), 0 if rows.is_unseen is None else int(rows.is_unseen.sum()), rows.errors

    def log_prob_of(self, rows: EncodedRows, draws: int = 1, known: Known | None = None) -> Tensor:
        """Log-density of encoded rows: -> (N,) float64; of one draw, `known` is as in `Columns.tensor`."""
        context = self._context(rows)
        each = []
        for draw in range(draws if self.space.is_noisy(rows) else 1):
            noise = rows.noise(draw)
            x, added = self.space.tensor(rows, noise, known if draw == 0 else None)
            log_prob = self.inner.log_prob(x.to(self.device), context, **self._noise(noise))
            each.append(log_prob.double().cpu() + added)
        return each[0] if len(each) == 1 else torch.stack(each).logsumexp(0) - math.log(len(each))

    @torch.no_grad()
    def latent(self, x: Any, context: Any = None) -> Tensor | None:
        """The numbers of each row in the latent space of the inner density, z (N, C).

        They are distributed as the base of its flow, about standard normal, if the density is right. Columns are those
        of `space.numbers`, in order; cells that hold no number come from their noise. None where there is no single
        latent space.

        Raises:
            ValueError: as `log_prob`.
        """
        frame, parts = self._with_given(read(x), context), []
        for piece in _pieces(frame) if len(frame) else [frame]:
            rows = self.space.rows(piece)
            noise = rows.noise()
            x_rows, _ = self.space.tensor(rows, noise)
            z = cast(Any, self.inner).latent(x_rows.to(self.device), self._context(rows), **self._noise(noise))
            if z is None:
                return None
            parts.append(z.cpu())
        return torch.cat(parts)

    def inner_flows(self, x: Any, context: Any = None) -> list[InnerFlow]:
        """The flows of the inner density, with what they see of rows."""
        rows = self.space.rows(self._with_given(read(x), context))
        x_rows, _ = self.space.tensor(rows, rows.noise())
        return self.inner.inner_flows(x_rows.to(self.device), self._context(rows))

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Any:
        """Draws n rows, or n for each row of the given columns (those of the first row come first).

        Args:
            n: how many.
            context: a table or a dict of the given columns, for a conditional density.
            generator: the source of randomness, or a seed; torch's global one when None.

        Returns:
            A `pyarrow.Table` of all modelled columns in their order and dtypes. Its rows are valid: categories that
            were seen, numbers on their lattice and within their bounds, missing cells at their rate.

        Raises:
            ValueError: n is negative, or given columns are absent or superfluous.
        """
        return concat(list(self.sample_frames(n, context, generator=generator))).to_arrow()

    def sample_batches(
        self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> Iterator[Any]:
        """The rows of `sample`, in pieces of at most 65,536, so that memory stays flat in n; at least one piece.

        Raises:
            ValueError: as `sample`.
        """
        for frame in self.sample_frames(n, context, generator=generator):
            yield frame.to_arrow()

    def sample_frames(
        self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> Iterator[Frame]:
        """As `sample_batches`, as frames.

        Raises:
            ValueError: as `sample`.
        """
        n = as_count(n)
        given, count = self.space.expand_context(n, context)
        generator = as_generator(generator)
        seeds = np.random.SeedSequence(int(torch.randint(2**62, (), generator=generator)))

        def pieces() -> Iterator[tuple[int, Frame | None, np.random.SeedSequence]]:
            for start in range(0, max(count, 1), _CHUNK):
                size = min(_CHUNK, count - start)
                yield size, None if given is None else given[start : start + size], seeds.spawn(1)[0]

        yield from in_order(lambda piece: self._sample(*piece), pieces(), device=self.device)

    def measure_unsampled(self, given: Frame | None = None, seed: int = 0) -> float:
        """Estimates `unsampled` from 4,096 draws, keeps and returns it.

        Args:
            given: rows of the given columns for which to draw, at least one; None where nothing is given.
            seed: of the draws.
        """
        if given is not None:
            given = given[np.arange(_MEASURED) % len(given)]
        generator = torch.Generator(self.device).manual_seed(seed)
        _, good = self._drawn(_MEASURED, given, generator, np.random.default_rng(seed))
        self.unsampled = float(1 - good.mean() * (1 - self.space.unseen_share))
        return self.unsampled

    @torch.no_grad()
    def _sample(self, n: int, given: Frame | None, seed: np.random.SeedSequence) -> Frame:
        torch_seed, numpy_seed = (int(s) for s in seed.generate_state(2, np.uint64))
        generator = torch.Generator(self.device).manual_seed(torch_seed % 2**63)
        rng = np.random.default_rng(numpy_seed)
        x, good = self._drawn(n, given, generator, rng)
        for _ in range(_TRIES):
            again = np.flatnonzero(~good)
            if not len(again):
                break
            x[again], good[again] = self._drawn(
                len(again), None if given is None else given[again], generator, rng
            )  # fmt: skip
        if not good.all():
            warnings.warn(
                f"{int((~good).sum()):,} of {n:,} sampled rows were beyond what may be sampled in each of {_TRIES} "
                "tries: they were moved within the bounds of their columns", stacklevel=2,
            )  # fmt: skip
        return self.space.decode(x, given, rng)[0]

    @torch.no_grad()
    def _drawn(
        self, n: int, given: Frame | None, generator: torch.Generator, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """n rows (n, M + C), and which of them may be sampled (n,)."""
        context = None if given is None else cast(Tensor, self.space.encode_given(given)).to(self.device)
        x = self.inner.sample(n if context is None else 1, context, generator=generator)
        rows = x.reshape(n, x.shape[-1]).double().cpu().numpy()
        return rows, self.space.decode(rows, given, rng)[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((t.device for t in self.state_dict(keep_vars=True).values()), torch.device("cpu"))

    def _context(self, rows: EncodedRows) -> Tensor | None:
        context = rows.context
        return None if context is None else context.to(self.device)

    def _noise(self, noise: Tensor) -> dict[str, Tensor]:
        return {"noise": noise.to(self.device)} if self.inner.takes_noise else {}

    def _with_given(self, frame: Frame, context: Any) -> Frame:
        """Rows with the given columns that came beside them.

        Raises:
            ValueError: they are not as many.
        """
        if context is None:
            return frame
        given = self.space.contexts(context)
        if given is None or len(given) != len(frame):
            raise ValueError(f"x has {len(frame):,} rows and context {len(given or ()):,}: one is needed for each")
        frame = self.space.chosen(frame, self.targets)
        columns = {c.name: c for c in (*frame.columns, *given.columns)}
        return replace(frame, columns=tuple(columns[name] for name in self.space.names), named=True)


def _pieces(frame: Frame) -> Iterator[Frame]:
    for start in range(0, len(frame), _CHUNK):
        yield frame[start : start + _CHUNK]


def _settings(density: TableDensity) -> dict[str, Any]:
    return {
        "schema": density.schema.to_json(),
        "given": list(density.given),
        "unsampled": density.unsampled,
        "inner": describe(density.inner),
    }


def _build(settings: dict[str, Any], builder: Builder) -> TableDensity:
    given, unsampled = settings.get("given"), settings.get("unsampled", 0.0)
    if not isinstance(given, list) or not all(isinstance(g, str) for g in given) or len(set(given)) != len(given):
        raise ValueError("given must be a list of column names")
    if not isinstance(unsampled, int | float) or not 0 <= unsampled <= 1:
        raise ValueError(f"bad unsampled {unsampled!r}")
    schema = Schema.from_json(settings.get("schema"))
    Columns(schema, given)  # so that what is wrong with the columns is said first
    return TableDensity(schema, given, builder.build(settings.get("inner")), float(unsampled))


register("table", TableDensity, _settings, _build)
