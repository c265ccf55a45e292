"""Vectors of plain numbers: arrays, tensors and lists of Python, for which Arrow is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def are_vectors(source: Any) -> bool:
    """Whether something is a dict of vectors (N,) of plain numbers, all of one length."""
    vectors = isinstance(source, Mapping) and bool(source) and all(map(_is_vector, source.values()))
    return vectors and len({len(values) for values in source.values()}) == 1


def _is_vector(values: Any) -> bool:
    """Whether something is a vector (N,) of plain numbers."""
    if isinstance(values, (list, tuple)):
        return bool(values) and (all(type(v) is float for v in values) or all(type(v) is int for v in values))
    is_vector = isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim == 1
    return is_vector and as_numpy(values).dtype.kind in "fiub"


def as_numpy(values: Any) -> NDArray[Any]:
    """An array, a tensor or a list as an array; masked numbers are NaN.

    Raises:
        OverflowError: no type of 64 bits holds the integers of a list.
    """
    if np.ma.is_masked(values):
        return np.ma.filled(values.astype(np.float64), np.nan)
    if isinstance(values, list | tuple) and values and all(type(v) is int for v in values):
        return np.array(values, np.int64 if max(values) < 2**63 else np.uint64)  # numpy makes floats of 1 and 2^63
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
