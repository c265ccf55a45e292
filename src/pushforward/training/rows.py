"""Rows, contexts and weights as a training takes them: checked, and in the dtype and on the device of a density."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import as_numbers, has_dtype, like
from ..bijections import warn_of_rounding
from ..density import Density, Tensors
from .objective import Batch

FAR = 1e4  # a column whose mean is this many standard deviations from zero loses detail in float32
FLOAT32_RANGE = (1e-30, 1e30)  # of values whose squares and ratios it holds
_LONG, _LOOKED_AT = (torch.float64, torch.int32, torch.int64), 2**16  # with more digits than float32; rows
_LARGEST = 1e150  # number whose square float64 holds, with room for a sum


def as_rows(
    density: Density,
    x: Any,
    context: Any = None,
    weights: Any = None,
    name: str = "x",
    dtype: torch.dtype | None = None,
) -> Batch:
    """Checks rows x (N, *shape), context (N, ...) and weights (N,), and brings them to the density's dtype and device.

    Rows and contexts that come in another dtype than the density's get `dtype` where that is given.

    Raises:
        ValueError: wrong shape, no rows, a value that is not finite (its row and column are named), or bad weights.
    """
    check_no_table(x, name)
    reference, shape = like(density), row_shape(density)
    rows = as_numbers(x, name, reference, None if has_dtype(x, reference.dtype) else dtype).detach()
    if rows.shape[1:] != shape or rows.ndim != len(shape) + 1:
        expected = ", ".join(("N", *map(str, shape)))
        raise ValueError(f"expected {name} of shape ({expected}), got {tuple(rows.shape)}")
    if len(rows) == 0:
        raise ValueError(f"{name} has no rows")
    _check_finite(rows, name, x)
    check_squares(rows, name)
    _look_at_rounding(x, rows, name, "rows")
    contexts = None
    if context is not None:
        own = None if has_dtype(context, reference.dtype) else dtype
        contexts = as_numbers(context, "context", reference, own).detach()
        if contexts.ndim == 0:
            raise ValueError(f"expected a context of shape (N, K), or (K,) for all rows, got the number {context!r}")
        if contexts.shape == (len(rows),) != (1,) and getattr(density, "context_dim", None) != len(rows):
            got = f"({len(rows)},), a number for each row"
            raise ValueError(f"expected a context of shape (N, K), or (K,) for all rows, got {got}: give c[:, None]")
        if contexts.ndim < 2 or len(contexts) == 1:  # one for all
            contexts = contexts.reshape(1, *contexts.shape[-1:] if contexts.ndim < 2 else contexts.shape[1:])
            contexts = contexts.expand(len(rows), *contexts.shape[1:])
        if len(contexts) != len(rows):
            raise ValueError(f"expected a context for each of the {len(rows):,} rows of {name}, got {len(contexts):,}")
        _check_finite(contexts, "context", context)
        check_squares(contexts, "context")
        _look_at_rounding(context, contexts, "context", "contexts")
    if weights is not None:
        exact = checked_weights(as_numbers(weights, "weights", reference, torch.float64), len(rows))
        weights = exact.to(reference.dtype)
    return Batch(rows.contiguous(), contexts, weights)


def row_shape(density: Density) -> tuple[int, ...]:
    """The shape of one row.

    Raises:
        ValueError: the density is not over tensors.
    """
    if not isinstance(density.space, Tensors):
        raise ValueError(
            f"train takes densities over tensors, got a {type(density).__name__}; fit_table "
            "fits tables, and fit_images images"
        )
    return density.space.shape


def check_no_table(data: Any, name: str = "data") -> None:
    """Refuses data with named columns, and files.

    Raises:
        ValueError: which names `fit_table`.
    """
    if isinstance(data, str | PathLike | Mapping) or hasattr(data, "columns") or hasattr(data, "column_names"):
        raise ValueError(
            f"{name} is a table ({type(data).__name__}), which fit_table fits; train and fit take numbers: arrays, "
            "tensors, or a function that draws them"
        )


def needs_float64(x: NDArray[np.float64]) -> bool:
    """Whether float32 would lose detail of rows (N, D): a column far from zero for its spread, or beyond its range."""
    with np.errstate(over="ignore"):
        spread, centre = x.std(0), np.abs(x.mean(0))
    varies = spread > 0
    low, high = FLOAT32_RANGE
    return bool((centre > FAR * spread)[varies].any() or (np.abs(x) > high).any() or (spread[varies] < low).any())


def checked_weights(weights: Tensor, rows: int) -> Tensor:
    """Weights (N,) of the rows -> the same with mean 1.

    Raises:
        ValueError: they have another shape, are not finite, negative, or all zero.
    """
    if weights.shape != (rows,):
        raise ValueError(f"expected weights of shape ({rows},), got {tuple(weights.shape)}")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool((weights > 0).any()):
        raise ValueError("weights must be finite, not negative, and not all zero")
    return weights / weights.mean()


def normalised(weights: Tensor) -> Tensor:
    """Weights of a part of the rows (N,) -> the same with mean 1; ones if the part got zeros alone."""
    mean = weights.mean()
    return weights / mean if bool(mean > 0) else torch.ones_like(weights)


def check_squares(values: Tensor, name: str) -> None:
    """Refuses columns of values (N, ...) whose squares, and with these their variance, float64 does not hold.

    Raises:
        ValueError: a number is beyond 1e150, or numbers that differ do so by less than 1e-150.
    """
    if values.dtype != torch.float64:
        return
    flat = values.flatten(1)
    low, high = flat.amin(0), flat.amax(0)
    is_bad = (torch.maximum(-low, high) > _LARGEST) | ((high > low) & (high - low < 1 / _LARGEST))
    if bool(is_bad.any()):
        column = int(is_bad.nonzero()[0])
        raise ValueError(
            f"column {column} of {name} goes from {float(low[column]):g} to {float(high[column]):g}: float64 does not "
            "hold the squares of such numbers; divide the column by a power of ten"
        )


def _check_finite(values: Tensor, name: str, given: Any) -> None:
    """Refuses values (N, ...) that are not finite; given is what they were before they took the density's dtype."""
    bad = ~torch.isfinite(values.flatten(1))
    if bool(bad.any()):
        row, column = (int(i) for i in bad.nonzero()[0])
        exact = as_numbers(given, name, values, torch.float64)
        value = exact.expand_as(values).flatten(1)[row, column].item()
        where = f"the first at row {row}, column {column}: {value}"
        if math.isfinite(value):
            raise ValueError(
                f"{name} has values beyond the range of {values.dtype}, {where}; rescale that column, or train in "
                "float64: flow.double()"
            )
        raise ValueError(f"{name} has {int(bad.sum())} values that are not finite numbers, {where}")


def _look_at_rounding(given: Any, taken: Tensor, name: str, what: str) -> None:
    """Warns where numbers (N, ...) lost digits that show as they took the dtype of the density."""
    if taken.dtype == torch.float32 and any(has_dtype(given, dtype) for dtype in _LONG):
        exact = as_numbers(given[:_LOOKED_AT], name, taken, torch.float64)
        warn_of_rounding(exact, taken[:_LOOKED_AT].flatten(1), what)
