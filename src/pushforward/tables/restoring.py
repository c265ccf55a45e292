"""Values of a column as cells of the Arrow type that it came with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import _csv
from .column import Column


def restored(column: Column, values: NDArray[Any], missing: NDArray[np.bool_], dtype: Any) -> Any:
    """Numbers (N,), where missing (N,) of any value, -> an Arrow array of the type."""
    pa = _csv.pyarrow()
    pc, t = pa.compute, pa.types
    if column.form is not None:
        when = pa.array(_in_range(values, "s"), pa.int64(), mask=missing).cast(pa.timestamp("s"))
        return cast(pc.strftime(when, column.form), dtype)
    if t.is_temporal(dtype):
        narrow = dtype.bit_width == 32
        values = _in_range(values, str(dtype))
        return pa.array(values, pa.int64(), mask=missing).cast(pa.int32() if narrow else pa.int64()).cast(dtype)
    if t.is_integer(dtype):
        info = np.iinfo(dtype.to_pandas_dtype())
        values = np.clip(
            values, float(info.min) if info.bits < 64 else -(2.0**63), min(float(info.max), 2.0**63 - 1024)
        )
        return pa.array(values.astype(np.int64), pa.int64(), mask=missing).cast(dtype, safe=False)
    if t.is_boolean(dtype):
        return pa.array(values.astype(bool), mask=missing)
    array = pa.array(values.astype(np.float64), pa.float64(), mask=missing)
    if t.is_decimal(dtype):
        array = pc.round(array, dtype.scale)
    return array.cast(dtype, safe=False)


def _in_range(values: NDArray[Any], dtype: str) -> NDArray[np.int64]:
    """Times that calendars know: the years 1 to 9999, or what the dtype holds."""
    unit = {"date32": 86400.0}.get(dtype[:6], 1.0)
    for mark, seconds in (("date64", 1e-3), ("[ns", 1e-9), ("[us", 1e-6), ("[ms", 1e-3)):
        unit = seconds if mark in dtype else unit
    if dtype.startswith("time") and not dtype.startswith("timestamp"):
        return np.clip(values, 0, int(86400 / unit) - 1).astype(np.int64)
    first, last = -62135596800 / unit, 253402300799 / unit
    bound = 2**63 - 1024
    return np.clip(values, max(first, -bound), min(last, bound)).astype(np.int64)


def cast(words: Any, dtype: Any) -> Any:
    """An Arrow array of text -> one of the type."""
    pa = _csv.pyarrow()
    if pa.types.is_dictionary(dtype):
        return cast(words, dtype.value_type).dictionary_encode().cast(dtype)
    return words.cast(dtype)
