"""The space of a table's rows: which columns are modelled and which given, and each row as states and numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import as_count, as_generator
from ..density import Density, Feature, Space
from ..io.frames import Column, Frame, concat, read
from ..io.names import columns_text, quoted
from ..io.tables import write_table
from .columns import Category, Date, Kind, read_as
from .noise import random_noise, uniforms
from .schema import Schema

_FARTHEST = 10.0  # of a given number

Known = dict[int, tuple[Kind, NDArray[np.float64], NDArray[np.float64]]]
"""By the identity of a kind, which it holds: its numbers (N,) as they are mapped, and the log-density to add (N,)."""


@dataclass(frozen=True)
class EncodedRows:
    """N rows, encoded; M columns with states, C with numbers.

    Attributes:
        states: (N, M) int64, the number of states where a cell holds what was never seen; 0 in impossible rows.
        base: (N, C) float64, the numbers before noise, NaN where a cell holds none.
        width: (N, C) float64, the width of the cells over which noise spreads them, 0 for none.
        given: (N, G) float32, what the density is conditional on, None where it is not.
        log_mass: (N,) float64, log-mass of cells given their states; -inf for impossible rows.
        errors: what is impossible or was never seen, in words.
        is_unseen: (N,), which rows hold what was never seen; None for none.
    """

    states: NDArray[np.int64]
    base: NDArray[np.float64]
    width: NDArray[np.float64]
    given: NDArray[np.float32] | None
    log_mass: NDArray[np.float64]
    errors: tuple[str, ...] = ()
    is_unseen: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def context(self) -> Tensor | None:
        """The given columns as a tensor (N, G)."""
        return None if self.given is None else torch.from_numpy(self.given)

    def noise(self, draw: int = 0) -> Tensor:
        """Of each row its own numbers in the unit interval (N, C), another set for each draw; see `uniforms`."""
        return torch.from_numpy(uniforms(self.states, self.base, draw))

    def take(self, index: NDArray[np.integer[Any]]) -> EncodedRows:
        """The rows with these numbers, copied; `errors` and `is_unseen` are not theirs."""
        given = None if self.given is None else self.given[index]
        return EncodedRows(self.states[index], self.base[index], self.width[index], given, self.log_mass[index])

    @staticmethod
    def joined(parts: Sequence[EncodedRows]) -> EncodedRows:
        """Rows of one space, one below the other."""
        if len(parts) == 1:
            return parts[0]
        given = [p.given for p in parts if p.given is not None]
        states, base, width, log_mass = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("states", "base", "width", "log_mass")
        )
        return EncodedRows(states, base, width, np.concatenate(given) if given else None, log_mass)


class Columns(Space):
    """The rows of a table: frames with the columns of a schema.

    Args:
        schema: of all columns.
        given: names of the columns that a density is conditional on.
        make: what makes a density of (schema, given, inner), for `wrap`.

    Attributes:
        targets: the columns that are modelled, given the others.
        numbers: the kinds of the C columns with numbers.
        given_sizes: the states of the given columns that have several.
        given_numbers: how many given columns have numbers.

    Raises:
        ValueError: a given column is none of the schema, or none is left to model.
    """

    def __init__(
        self, schema: Schema, given: Sequence[str] = (),
        make: Callable[[Schema, Sequence[str], Density], Density] | None = None,
    ) -> None:  # fmt: skip
        if isinstance(given, str) or len(set(given)) < len(given):
            raise ValueError(f"given must be a list of distinct column names, got {given!r}")
        self.schema, self.given, self._make = schema, tuple(given), make
        unknown = [name for name in given if name not in schema.names]
        if unknown:
            raise ValueError(f"given column {unknown[0]!r} is none of the modelled ones: {', '.join(schema.names)}")
        self.targets: list[Kind] = [c for c in schema.modelled if c.name not in given]
        # What is known is easier to learn from without splines.
        self.conditions: list[Kind] = [c.without_spline() for c in schema.modelled if c.name in given]
        if not self.targets:
            raise ValueError("every column is given: none is left to model")
        coded = [c.coded for c in self.targets]
        self.names = tuple(schema.names)
        self.sizes = tuple(c.num_states for c in coded if c.is_discrete)
        self.numbers = [c for c in coded if c.has_number]
        self.given_sizes = tuple(c.num_states for c in self.conditions if c.is_discrete)
        self.given_numbers = sum(c.has_number for c in self.conditions)

    def describe(self) -> str:
        """What each column is, a line for each."""
        return self.schema.describe()

    def matches(self, other: Space) -> bool:
        """Whether the rows of another space are rows of this one, however the numbers of either are mapped."""
        if not isinstance(other, Columns) or self.given != other.given or self.schema.names != other.schema.names:
            return False
        return all(a.is_like(b) for a, b in zip(self.schema.columns, other.schema.columns, strict=True))

    def read(self, source: Any) -> Frame:
        """Rows from whatever `io.frames.read` takes, with the columns of the schema, found by name and in its order.

        Raises:
            ValueError: a column is absent, or there are no rows.
        """
        frame = read(source)
        if len(frame) == 0:
            raise ValueError(f"{frame.source} has no rows")
        return self.chosen(frame, self.names)

    def chosen(self, frame: Frame, names: Sequence[str]) -> Frame:
        """Some columns of a frame, by name, or by position where it has none.

        Raises:
            ValueError: one is absent.
        """
        columns = {c.name: c for c in frame.columns}
        if not (self.schema.named and frame.named) and len(columns) == len(self.schema.columns):
            columns = {c.name: own for c, own in zip(self.schema.columns, frame.columns, strict=True)}
        elif not frame.named:
            known = names if len(columns) == len(names) else self.names
            if len(columns) != len(known):
                raise ValueError(
                    f"{frame.source} has no column names and {len(columns)} columns; the model has "
                    f"{len(self.schema.columns)} ({quoted([c.name for c in self.schema.columns])})"
                )
            columns = dict(zip(known, frame.columns, strict=True))
        absent = [name for name in names if name not in columns]
        if absent:
            raise ValueError(f"{frame.source} lacks {columns_text(absent)} of the model; it has {quoted(frame.names)}")
        kinds = [self.schema[name] for name in names]
        chosen = [read_as(columns[kind.name], kind.kind, getattr(kind, "form", None)) for kind in kinds]
        return Frame(tuple(chosen), frame.named, frame.source, frame.kind).rename(names)

    @property
    def number_names(self) -> Sequence[str]:
        """The names of the targets that have a number."""
        return [c.name for c in self.numbers]

    @property
    def feature_list(self) -> list[Feature]:
        """Categories one-hot, numbers as they are, indicators of missing cells."""
        return [
            Feature(name, i, indicator)
            for i, kind in enumerate(self.schema.modelled) for name, indicator in kind.feature_names
        ]  # fmt: skip

    def features(self, rows: Frame) -> NDArray[np.float64]:
        """N rows as a matrix (N, F) of finite numbers."""
        return np.hstack([kind.features(rows.column(kind.name)) for kind in self.schema.modelled])

    def texts(self, rows: Frame) -> dict[str, NDArray[Any]]:
        """The modelled columns of categories, by name: (N,) strings, None where a cell is missing."""
        names = [kind.name for kind in self.targets if isinstance(kind, Category)]
        return {name: np.array(rows.column(name).texts, dtype=object) for name in names}

    def impossible(self, rows: Frame) -> NDArray[np.bool_]:
        """Rows (N,) with what no column may hold; none but in models of older files, which keep no mass for it."""
        return np.isneginf(self.rows(rows).log_mass)

    def unseen(self, rows: Frame) -> NDArray[np.bool_]:
        """Rows (N,) with a category or value that was never seen, or a number that its column cannot have."""
        encoded = self.rows(rows)
        new = np.isneginf(encoded.log_mass)
        return new if encoded.is_unseen is None else new | encoded.is_unseen

    @property
    def unseen_share(self) -> float:
        """The probability of rows with what was never seen, given columns aside."""
        return 1 - math.prod(1 - target.coded.unseen for target in self.targets)

    def rows(self, frame: Frame) -> EncodedRows:
        """Rows of a table, encoded.

        Raises:
            ValueError: a column is absent or of another kind, text among numbers, or infinities.
        """
        frame = self.chosen(frame, self.names)
        columns = {c.name: c for c in frame.columns}
        n = len(frame)
        log_mass = np.zeros(n)
        states = np.zeros((n, len(self.sizes)), dtype=np.int64)
        base, width = np.empty((2, n, len(self.numbers)))
        is_unseen = np.zeros(n, dtype=bool)
        errors, m, c = [], 0, 0
        for target in self.targets:
            cells = target.encode_in(columns)
            log_mass += np.where(cells.state < 0, -np.inf, cells.log_mass)
            errors += [cells.error] if cells.error else []
            if cells.is_unseen is not None:
                is_unseen |= cells.is_unseen
            if target.coded.is_discrete:
                states[:, m] = np.maximum(cells.state, 0)
                m += 1
            if target.coded.has_number:
                base[:, c], width[:, c] = cells.base, cells.width
                c += 1
        given = self._conditions(columns, n) if self.conditions else None
        return EncodedRows(states, base, width, given, log_mass, tuple(errors), is_unseen if errors else None)

    def encode(self, rows: Frame, generator: torch.Generator | int | None = None) -> Tensor:
        """N rows as states and numbers (N, M + C) float64; see `Space.encode`."""
        encoded, source = self.rows(rows), as_generator(generator)
        noise = encoded.noise() if source is None else random_noise(encoded.base.shape, source)
        return self.tensor(encoded, noise)[0]

    def encode_given(self, rows: Frame) -> Tensor | None:
        """The given columns of N rows (N, G): states first, an unknown one as one past the last, then numbers."""
        if not self.conditions:
            return None
        frame = self.chosen(rows, [c.name for c in self.conditions])
        return torch.from_numpy(self._conditions({c.name: c for c in frame.columns}, len(rows)))

    def tensor(self, rows: EncodedRows, noise: Tensor, known: Known | None = None) -> tuple[Tensor, Tensor]:
        """Encoded rows and noise (N, C) of the unit interval -> x (N, M + C) and the log-density to add (N,), float64.

        Numbers are spread over their cells by the noise and mapped by their own marginals; they are NaN where there is
        none. The mass of a cell is the mean density within it, times its width.

        Args:
            rows: N of them.
            noise: of them.
            known: what columns of the same rows and noise were mapped to before, to which further ones are added; None
                maps all.
        """
        known = {} if known is None else known
        x, added = np.empty((len(rows), len(self.sizes) + len(self.numbers))), rows.log_mass.copy()
        x[:, : len(self.sizes)] = rows.states
        spread = noise.numpy()
        for i, kind in enumerate(self.numbers):
            if id(kind) not in known:
                known[id(kind)] = kind, *_mapped(kind, rows.base[:, i], rows.width[:, i], spread[:, i])
            _, x[:, len(self.sizes) + i], log_slope = known[id(kind)]
            added += log_slope
        return torch.from_numpy(x), torch.from_numpy(added)

    def is_noisy(self, rows: EncodedRows) -> bool:
        """Whether any cell needs noise."""
        return any(kind.is_dequantized for kind in self.numbers) or bool(np.isnan(rows.base).any())

    def decode(
        self, x: NDArray[np.float64], given: Frame | None, rng: np.random.Generator
    ) -> tuple[Frame, NDArray[np.bool_]]:
        """The inverse of `encode`: all modelled columns, in the order of the schema; which rows may be sampled (N,).

        Args:
            x: (N, M + C).
            given: N rows of the given columns.
            rng: which of the rare categories that share a state.
        """
        columns = {c.name: self._typed(c) for c in (() if given is None else given.columns)}
        states, numbers = iter(x[:, : len(self.sizes)].T.astype(np.int64)), iter(x[:, len(self.sizes) :].T)
        good = np.ones(len(x), dtype=bool)
        nothing, first = np.full(len(x), np.nan), np.zeros(len(x), dtype=np.int64)
        for target in self.targets:
            coded = target.coded
            state = next(states) if coded.is_discrete else first
            number = coded.marginal.inverse(next(numbers)) if coded.has_number else nothing
            columns[target.name], accepted = target.decode_in(state, number, rng, columns)
            good &= accepted
        named = given.named if given is not None else self.schema.named
        return Frame(tuple(columns[name] for name in self.names), named), good

    def _typed(self, column: Column) -> Column:
        """A column with the cells of a text file as one of the dtype that its kind gives back."""
        dtype = self.schema[column.name].dtype
        if column.dtype != "text":
            return column
        if Date.is_temporal(dtype):  # of another unit, perhaps
            date = Date(name=column.name, dtype=dtype)
            return date.write(date.read(column), column.is_missing)
        return replace(column, cells=None, dtype=dtype)

    def wrap(self, inner: Density) -> Density:
        """The density over these rows of a density over the tensors of `encode`."""
        if self._make is None:
            raise ValueError("this space knows no density: take that of a TableDensity")
        return self._make(self.schema, self.given, inner)

    def write(self, rows: Frame, path: str | PathLike[str]) -> None:
        """Writes rows to a file; the suffix decides on the format."""
        write_table(rows, path)

    def join(self, parts: Sequence[Frame]) -> Frame:
        """Rows, one part after another."""
        return concat(list(parts))

    def contexts(self, context: Any) -> Frame | None:
        """The given columns of a table.

        Raises:
            ValueError: they are absent, or superfluous.
        """
        if not self.given:
            if context is not None:
                raise ValueError("this density is not conditional: it takes no given columns")
            return None
        if context is None:
            raise ValueError(f"this density is conditional: give context, a table of {quoted(self.given)}")
        frame = read(context)
        absent = [c.name for c in self.conditions if c.name not in frame.names]
        if absent and frame.named and len(frame.columns) != len(self.schema.columns):
            raise ValueError(f"the given table lacks the columns {quoted(absent)}")
        return self.chosen(frame, [c.name for c in self.conditions])

    def index_contexts(self, n: int, context: Any) -> tuple[Frame | None, NDArray[np.int64], int]:
        """-> the given columns, each row's number n times, and how many; (None, none, n) where nothing is given."""
        n, frame = as_count(n), self.contexts(context)
        if frame is None:
            return None, np.empty(0, dtype=np.int64), n
        index = np.repeat(np.arange(len(frame)), n)
        return frame, index, len(index)

    def flatten_samples(self, drawn: Any) -> Frame:
        """What `sample` returned, as rows."""
        return read(drawn)

    def unflatten_samples(self, rows: Frame, n: Any, context: Any) -> Any:
        """Rows as a pyarrow Table."""
        return rows.to_arrow()

    def _conditions(self, columns: Mapping[str, Column], n: int) -> NDArray[np.float32]:
        """The given columns: states first, an unknown one as one past the last, then numbers, 0 where absent."""
        states, numbers = [np.zeros((n, 0))], [np.zeros((n, 0))]
        for kind in self.conditions:
            cells = kind.encode(columns[kind.name])
            if cells.error:
                warnings.warn(f"given {cells.error}: taken as unknown", stacklevel=5)
            if kind.is_discrete:
                states.append(np.where(cells.state < 0, kind.num_states, cells.state)[:, None])
            if kind.has_number:
                y, _ = _mapped(kind, cells.base, cells.width, np.full(n, 0.5))
                numbers.append(np.clip(np.nan_to_num(y), -_FARTHEST, _FARTHEST)[:, None])
        return np.concatenate(states + numbers, 1).astype(np.float32)


def _mapped(
    kind: Kind, base: NDArray[np.float64], width: NDArray[np.float64], u: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers base (N,), NaN for none, cells of width (N,) and noise u (N,) -> y (N,), the log-density to add (N,).

    Raises:
        ArithmeticError: a map makes NaN of a number, which would pass for none.
    """
    absent = np.isnan(base)
    w = base + width * u if kind.is_dequantized else base
    of_cell = np.log(np.where(width > 0, width, 1.0)) if kind.is_dequantized else width  # or zeros
    if not absent.any():
        y, log_slope = kind.marginal.forward(w)
        added = log_slope + of_cell
    else:
        y, added, there = np.full_like(base, np.nan), np.zeros_like(base), ~absent
        y[there], log_slope = kind.marginal.forward(w[there])
        added[there] = log_slope + of_cell[there]
    if np.count_nonzero(np.isnan(y)) > np.count_nonzero(absent):
        raise ArithmeticError(f"column {kind.name!r}: its map makes a number NaN")
    return y, added
