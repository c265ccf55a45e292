"""Arrays and frames: which kind a table is, its numbers, and another table of the same kind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("numpy", "pandas", "polars", "pyarrow")


def kind_of(table: Any) -> str:
    """One of `KINDS`; all that is no frame counts as numpy. Packages that the caller did not import stay out."""
    for kind, name in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")):
        module = sys.modules.get(kind)
        if module is not None and isinstance(table, getattr(module, name, ())):
            return kind
    return "numpy"


def not_numbers(table: Any) -> list[tuple[str, str]]:
    """The columns of a frame that hold no numbers, each with its type; nothing for an array."""
    kind = kind_of(table)
    if kind == "pandas":
        return [
            (str(n), str(d))
            for i, (n, d) in enumerate(zip(table.columns, table.dtypes, strict=True))
            if getattr(d, "kind", "O") not in "iuf" and not (d is np.dtype(object) and _holds_numbers(table.iloc[:, i]))
        ]
    if kind == "polars":
        return [(n, str(d)) for n, d in table.schema.items() if not d.is_numeric()]
    if kind == "pyarrow":
        types = sys.modules["pyarrow"].types
        return [
            (f.name, str(f.type))
            for f in table.schema
            if not (types.is_integer(f.type) or types.is_floating(f.type) or types.is_decimal(f.type))
        ]
    return []


def is_mixed(table: Any) -> bool:
    """Whether a frame holds anything but numbers in every cell; False for an array."""
    kind = kind_of(table)
    if kind == "numpy":
        return False
    if not_numbers(table):
        return True
    if kind == "pandas":
        return bool(table.isna().to_numpy().any())
    if kind == "polars":
        import polars.selectors as cs

        return any(sum(part.row(0)) for part in (table.null_count(), table.select(cs.float().is_nan().sum())))
    pc = sys.modules["pyarrow"].compute
    return any(pc.any(pc.is_null(c, nan_is_null=True)).as_py() for c in table.columns)


def two_axes(table: Any) -> Any:
    """A table as it is, a single column (a Series, or values (N,)) as a table of one."""
    if kind_of(table) != "numpy":
        return table
    if hasattr(table, "to_frame"):
        return table.to_frame()
    values = np.asarray(table)
    return values[:, None] if values.ndim == 1 else values


@dataclass(frozen=True)
class Form:
    """What a table looks like beside its rows, to give another one of that kind and those dtypes.

    Attributes:
        kind: one of `KINDS`.
        columns: name as text -> the caller's own name and dtype; a dtype of None is what Arrow makes of the cells.
    """

    kind: str
    columns: dict[str, tuple[Any, Any]]

    @staticmethod
    def of(table: Any, names: Sequence[str]) -> Form:
        """The form of a table whose columns have these names, as text."""
        kind = kind_of(table)
        if kind == "numpy":
            dtype = getattr(table, "dtype", np.dtype(np.float64))
            return Form(kind, {n: (n, dtype) for n in names})
        own = list(table.column_names if kind == "pyarrow" else table.columns)
        dtypes = table.schema.types if kind == "pyarrow" else list(table.dtypes)
        return Form(kind, dict(zip(names, zip(own, dtypes, strict=True), strict=True)))

    def filled(self, data: Any) -> Any:
        """An Arrow table of some of the columns -> a table of this form."""
        columns = {n: (*self.columns[n], c) for n, c in zip(data.column_names, data.columns, strict=True)}
        if self.kind == "pandas":
            import pandas as pd

            parts = {i: _as_pandas(c, dtype) for i, (_, dtype, c) in enumerate(columns.values())}
            frame = pd.DataFrame(parts)
            frame.columns = [own for own, _, _ in columns.values()]
            return frame
        if self.kind == "polars":
            import polars as pl

            frame: Any = pl.from_arrow(data)
            return frame.cast({n: dtype for n, (_, dtype, _) in columns.items() if dtype is not None})
        if self.kind == "pyarrow":
            import pyarrow as pa

            return pa.table({n: c if dtype is None else _as_arrow(c, dtype) for n, (_, dtype, c) in columns.items()})
        values = np.column_stack([np.asarray(c.to_numpy(), dtype=np.float64) for c in data.columns])
        dtype = next(iter(columns.values()))[1]
        return values if dtype is None or np.isnan(values).any() else values.astype(dtype, copy=False)


def readable(table: Any) -> Any:
    """A table as scikit-learn's checks read it: an Arrow table becomes an array, with NaN for missing cells."""
    if kind_of(table) != "pyarrow":
        return table
    types = {column.type for column in table.columns}
    dtype = np.float32 if len(types) == 1 and str(next(iter(types))) == "float" else np.float64
    columns = [np.asarray(column.to_numpy(), dtype=dtype) for column in table.columns]
    return np.column_stack(columns) if columns else np.empty((len(table), 0))


def like(kind: str, values: NDArray[Any], names: Sequence[str], index: Any = None) -> Any:
    """values (N, D) as a table of a kind, with column names and, for pandas, an index.

    Raises:
        ImportError: the package of that kind is not installed.
    """
    if kind == "pandas":
        import pandas as pd

        return pd.DataFrame(values, columns=list(names), index=index)
    if kind == "polars":
        import polars as pl

        return pl.DataFrame({name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)})
    if kind == "pyarrow":
        import pyarrow as pa

        return pa.table({name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)})
    return values


def _holds_numbers(column: Any) -> bool:
    import pandas as pd

    return pd.api.types.infer_dtype(column) in ("integer", "floating", "mixed-integer-float", "decimal")


def _as_pandas(column: Any, dtype: Any) -> Any:
    import pandas as pd

    if hasattr(dtype, "__from_arrow__"):
        return pd.Series(dtype.__from_arrow__(column))
    series = column.to_pandas()
    return series if dtype is None else series.astype(dtype)


def _as_arrow(column: Any, dtype: Any) -> Any:
    import pyarrow as pa

    if not pa.types.is_dictionary(dtype):
        return column.cast(dtype)
    encoded = column.cast(dtype.value_type).combine_chunks().dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(dtype.index_type), encoded.dictionary, ordered=dtype.ordered
    )
