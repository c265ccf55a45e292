"""Columns: the space of the rows of a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..density import Density, Feature, Space
from ..io import _csv
from .arrow import Source, arrow_type, as_source, decoded, typed
from .column import Column
from .noise import uniforms

if TYPE_CHECKING:
    from .encoding import Encoded, Layout

_CATEGORIES = 30  # of a column that have an indicator of their own among the features


class Columns(Space):
    """Rows of the modelled columns of a table, as a `Source`.

    Args:
        layout: of the density.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.columns = layout.schema.modelled
        self.names, self.sizes = tuple(layout.schema.names), layout.sizes
        self.given = tuple(c.name for c in layout.given)

    def read(self, source: Any) -> Source:
        """Anything that is a table -> its modelled columns, in their own types.

        Raises:
            ValueError: columns are absent, cells do not fit them, or there are no rows.
        """
        rows = as_source(source)
        if len(rows) == 0:
            raise ValueError("the table has no rows")
        names = list(rows.names)
        if not (self.layout.schema.named and rows.named) and len(names) == len(self.layout.schema.columns):
            names = [c.name for c in self.layout.schema.columns]
        data = rows.data.rename_columns(names)
        absent = [name for name in self.names if name not in names]
        if absent:
            raise ValueError(f"{rows.where} lacks columns of the model: {', '.join(map(repr, absent))}")
        return Source(_csv.pyarrow().table({c.name: _cast(data.column(c.name), c, rows.text) for c in self.columns}))

    @property
    def feature_list(self) -> list[Feature]:
        """Of a category an indicator of each frequent value; of others the number and whether it is missing."""
        return [f for i, column in enumerate(self.columns) for f in _features_of(column, i)]

    def features(self, rows: Source) -> NDArray[np.float64]:
        """N rows -> (N, F)."""
        return np.hstack([_feature_values(decoded(rows.data.column(c.name)), c) for c in self.columns])

    def impossible(self, rows: Source) -> NDArray[np.bool_]:
        """Rows with a category never seen, or a number that its column cannot have."""
        return np.isneginf(self._encoded(rows).log_mass)

    def encode(self, rows: Source) -> Tensor:
        """N rows -> (N, M + C): states, then numbers, which are spread over the cells that they stand for."""
        encoded = self._encoded(rows)
        return torch.from_numpy(np.hstack([encoded.states, _spread(encoded)]))

    def encode_given(self, rows: Source) -> Tensor | None:
        """The given columns of N rows (N, G)."""
        given = self._encoded(rows).given
        return None if given is None else torch.from_numpy(given)

    def over(self, inner: Density) -> Density:
        """The density of rows whose states and numbers follow `inner`."""
        return _OverColumns(self, inner)

    def write(self, rows: Source, path: str | os.PathLike[str]) -> None:
        """Writes rows to a .parquet file."""
        from pyarrow import parquet

        parquet.write_table(rows.data, os.fspath(path))

    def join(self, parts: Sequence[Source]) -> Source:
        """Rows, one part after another."""
        return Source(_csv.pyarrow().concat_tables([part.data for part in parts]))

    def spread(self, n: int, context: Any) -> tuple[Source | None, int]:
        """The given columns, each row n times in a row; their number."""
        if context is None:
            return None, n
        source = as_source(context)
        return source.take(np.repeat(np.arange(len(source)), n)), n * len(source)

    def flat(self, drawn: Any) -> Source:
        """An Arrow table as rows."""
        return Source(drawn.select(list(self.names)).combine_chunks())

    def shaped(self, rows: Source, n: int, context: Any) -> Any:
        """Rows as an Arrow table."""
        return rows.data

    def matches(self, other: Space) -> bool:
        """Whether the columns are the same."""
        return isinstance(other, Columns) and self.columns == other.columns and self.given == other.given

    def _encoded(self, rows: Source) -> Encoded:
        return self.layout.encode(rows)


class _OverColumns(Density):
    """A density of states and numbers (N, M + C), as one of rows; it scores alone."""

    def __init__(self, space: Columns, inner: Density) -> None:
        super().__init__()
        self.space, self._layout, self.inner = space, space.layout, inner

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-density of each row (N,), in nats, in data units."""
        encoded = self._layout.encode(x)
        numbers = _spread(encoded)
        rows = torch.from_numpy(np.hstack([encoded.states, numbers]))
        given = None if encoded.given is None else torch.from_numpy(encoded.given)
        # The density at a number times the width of its cell is the cell's mass.
        width = np.where((encoded.width > 0) & ~np.isnan(numbers), encoded.width, 1.0)
        return self.inner.log_prob(rows, given).double() + torch.from_numpy(encoded.log_mass + np.log(width).sum(1))

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Any:
        """Raises NotImplementedError."""
        raise NotImplementedError("this density scores alone")


def _spread(encoded: Encoded) -> NDArray[np.float64]:
    return encoded.base + encoded.width * uniforms(encoded.states, encoded.base, 0)


def _cast(cells: Any, column: Column, text: bool) -> Any:
    kind = arrow_type(column.dtype)
    pa = _csv.pyarrow()
    try:
        cells = typed(cells, column.name, kind) if text else decoded(cells)
        return cells if pa.types.is_dictionary(kind) else cells.cast(kind, safe=False)
    except pa.ArrowException as error:
        raise ValueError(f"column {column.name!r} is no {kind}: {_csv.one_line(error)}") from None


def _features_of(column: Column, i: int) -> list[Feature]:
    if column.kind in ("category", "constant", "empty"):
        values = [*column.categories[:_CATEGORIES], "(other)"]
        return [Feature(f"{column.name} = {value}", i, True) for value in values]
    missing = [Feature(f"{column.name} missing", i, True)] if column.missing else []
    return [Feature(column.name, i, False), *missing]


def _feature_values(cells: Any, column: Column) -> NDArray[np.float64]:
    pa = _csv.pyarrow()
    if column.kind in ("category", "constant", "empty"):
        texts = np.array([str(v) for v in cells.cast(pa.string()).to_pylist()])
        hot = texts[:, None] == np.array(column.categories[:_CATEGORIES], dtype=str)
        return np.hstack([hot, ~hot.any(1, keepdims=True)]).astype(float)
    if pa.types.is_temporal(cells.type):
        cells = cells.cast(pa.int32() if cells.type.bit_width == 32 else pa.int64())
    values = np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(), dtype=float)
    missing, middle = np.isnan(values), 0.0 if column.extent is None else sum(column.extent) / 2
    values = np.where(missing, middle, values)
    return np.stack([values, missing.astype(float)], 1) if column.missing else values[:, None]
