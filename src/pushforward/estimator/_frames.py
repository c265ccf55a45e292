"""Arrays and frames: which kind a table is, its numbers, and a table of the same kind from numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
