"""What an estimator reads: tables and contexts checked as scikit-learn checks them, seeds, constant columns."""

from __future__ import annotations

import secrets
import warnings
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

from . import _frames
from ._rows import Array, WeightedRows, merged


def training_rows(
    estimator: Any, X: Any, context: Any, sample_weight: Any, *, reset: bool, least: int  # noqa: N803
) -> WeightedRows:  # fmt: skip
    """The distinct rows to train on, in the columns that vary, with their weights.

    On `reset` the estimator learns from them which columns there are and which are constant.

    Raises:
        ValueError: as `read` and `read_context`; bad weights; a column that was constant before and now varies.
    """
    x = read(estimator, X, reset=reset, least=least)
    weights = read_weights(sample_weight, len(x))
    rows = merged(x, read_context(estimator, context, len(x), reset=reset), weights)
    if reset:
        constant = rows.x.min(0) == rows.x.max(0)
        estimator.constant_columns_ = {int(i): float(rows.x[0, i]) for i in np.flatnonzero(constant)}
        estimator._varying = np.flatnonzero(~constant)
        estimator._kind, estimator._dtype = _frames.kind_of(X), float_dtype(X)
        estimator._columns = column_names(X, x.shape[1])
    elif (departs := departing(estimator, rows.x)).any():
        names = [estimator._columns[i] for i in np.flatnonzero(departs.any(0))]
        raise ValueError(f"columns {names} were constant when first fitted and vary now: fit afresh")
    return WeightedRows(rows.x[:, estimator._varying], rows.context, rows.weights)


def read(estimator: Any, X: Any, *, reset: bool, least: int = 1) -> Array:  # noqa: N803
    """A table -> (N, D) float64; its width and column names are kept on `reset`, else compared with those kept.

    Raises:
        ValueError: as `sklearn.utils.validation.validate_data`, or a column does not hold numbers.
    """
    _only_numbers("X", X)
    values = _numbers(estimator, X, "X", least)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return values


def read_context(estimator: Any, context: Any, rows: int | None = None, *, reset: bool = False) -> Array | None:
    """A context -> (N, K) float64 or None; its width and names are kept on `reset`, else compared with those kept.

    Args:
        estimator: any.
        context: (N, K), a table; (N,) stands for one column.
        rows: N, if it is known.
        reset: whether this is the first time.

    Raises:
        ValueError: it has the wrong shape or other columns, holds no finite numbers, or is there or missing against
            expectation.
    """
    width, names, values = 0, None, None
    if context is not None:
        _only_numbers("context", context)
        if getattr(context, "ndim", 2) == 1:  # a Series or a flat array: one column
            context = np.asarray(context)[:, None]
        values = _numbers(estimator, context, "context", 1)
        width = values.shape[1]
        names = None if _frames.kind_of(context) == "numpy" else column_names(context, width)
    if reset:
        estimator.n_context_features_in_, estimator._context_columns = width, names
    check_context_width(estimator.n_context_features_in_, width)
    if None not in (names, estimator._context_columns) and names != estimator._context_columns:
        raise ValueError(f"context must have the columns {estimator._context_columns} in this order, got {names}")
    if values is not None and rows is not None and len(values) != rows:
        raise ValueError(f"X has {rows} rows and context {len(values)}: they must have the same number")
    return values


def check_context_width(kept: int, width: int) -> None:
    """Compares the columns of a context with those in `fit`.

    Raises:
        ValueError: it is there or missing against expectation, or has another width.
    """
    if width != kept:
        raise ValueError(
            f"this density is {f'conditional on a context of {kept} columns' if kept else 'not conditional'}, "
            f"got {f'a context of {width}' if width else 'no context'}"
        )


def read_weights(sample_weight: Any, rows: int) -> Array:
    """Weights of the rows -> (N,) float64; ones for None.

    Raises:
        ValueError: they have another shape, are not finite, negative, or all zero.
    """
    weights = _check_sample_weight(sample_weight, np.empty((rows, 0)), dtype=np.float64, ensure_non_negative=True)
    if not weights.any():  # scikit-learn before 1.9 lets them pass
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def read_latent(estimator: Any, z: Any) -> Array:
    """z (N, D), a table of any kind -> (N, D) float64."""
    values = _numbers(estimator, z, "X", 1)
    if values.shape[1] != estimator.n_features_in_:
        raise ValueError(f"expected z with {estimator.n_features_in_} columns, got {values.shape[1]}")
    return values


def float_dtype(table: Any) -> np.dtype[Any]:
    """float32 if all of a table is, else float64: the precision of what is given back for it."""
    kind = _frames.kind_of(table)
    if kind == "numpy":
        single = getattr(table, "dtype", None) == np.float32
    elif kind == "pandas":
        single = all(d == np.float32 for d in table.dtypes)
    else:
        types = table.dtypes if kind == "polars" else table.schema.types
        single = all(str(t) in ("Float32", "float") for t in types)
    return np.dtype(np.float32 if single else np.float64)


def column_names(table: Any, width: int) -> list[Any]:
    """The names of a frame's columns; x0, x1, ... for an array."""
    kind = _frames.kind_of(table)
    if kind == "numpy":
        return [f"x{i}" for i in range(width)]
    return list(table.column_names if kind == "pyarrow" else table.columns)


def seed_of(random_state: Any) -> int:
    """A seed from an int, a numpy generator (which moves on), or None: a new one each time, from the system.

    scikit-learn takes None as numpy's global generator, which here is left alone.
    """
    if random_state is None:
        return secrets.randbelow(2**31)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    raise ValueError(f"random_state must be None, a whole number of at least 0 or a generator, got {random_state!r}")


def departing(estimator: Any, x: Array) -> NDArray[np.bool_]:
    """(N, D): where a row departs from a column that was constant in training, to that data's precision."""
    departs = np.zeros(x.shape, dtype=bool)
    for i, value in estimator.constant_columns_.items():
        departs[:, i] = x[:, i].astype(estimator._dtype) != np.asarray(value, estimator._dtype)
    return departs


def tell_departing(estimator: Any, departs: NDArray[np.bool_]) -> None:
    """Warns of rows outside of the support."""
    count = int(departs.any(1).sum())
    if count:
        columns = [f"{estimator._columns[i]!r} (always {estimator.constant_columns_[int(i)]:g})"
                   for i in np.flatnonzero(departs.any(0))]  # fmt: skip
        warnings.warn(
            f"{count} of {len(departs)} rows depart from columns that were constant in training, so their log-density "
            f"is -inf: {', '.join(columns[:10])}{', ...' if len(columns) > 10 else ''}",
            stacklevel=4,
        )


def asks_for_frames(estimator: Any) -> bool:
    """Whether `set_output` or scikit-learn's configuration asks `transform` for a certain kind of table."""
    of_estimator = getattr(estimator, "_sklearn_output_config", {}).get("transform")
    return (of_estimator or sklearn.get_config()["transform_output"]) != "default"


def _numbers(estimator: Any, table: Any, name: str, least: int) -> Array:
    values = check_array(
        _frames.readable(table), dtype=[np.float64, np.float32], estimator=estimator, input_name=name,  # type: ignore[arg-type]
        ensure_min_samples=least,
    )  # fmt: skip
    values = values.astype(np.float64, copy=False)
    return values if values.flags.writeable else values.copy()  # torch warns of what it could overwrite


def _only_numbers(name: str, table: Any) -> None:
    """Tells a table of mixed rows from one that holds only numbers.

    Raises:
        ValueError: a column does not hold numbers.
    """
    columns = _frames.not_numbers(table)
    if columns:
        shown = ", ".join(f"{column!r} ({kind})" for column, kind in columns[:10])
        raise ValueError(
            f"{name} has columns that do not hold numbers: {shown}{', ...' if len(columns) > 10 else ''}; "
            "the estimator was fitted to numbers alone"
        )
