"""Arrow's types: by their names, of what columns hold, and those that hold two others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .cells import pyarrow
from .notation import Notation
from .times import has_zone, is_of_day

if TYPE_CHECKING:
    from .column import Column

_UNITS = ("s", "ms", "us", "ns")  # from coarse to fine


def is_string(kind: Any) -> bool:
    """Whether an Arrow type is one of strings."""
    t = pyarrow().types
    return t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)


def arrow_type(name: str) -> Any:
    """The Arrow type of a name, such as int64, double or timestamp[us, tz=UTC].

    Raises:
        ValueError: there is no such type.
    """
    pa = pyarrow()
    if match := re.fullmatch(r"timestamp\[(s|ms|us|ns), tz=([\w/+:-]+)\]", name):
        return pa.timestamp(*match.groups())
    if match := re.fullmatch(r"decimal(?:32|64|128|256)?\((\d{1,2}), (-?\d{1,2})\)", name):
        return pa.decimal128(min(int(match[1]), 38), int(match[2]))
    if match := re.fullmatch(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>", name):
        return pa.dictionary(pa.int32(), arrow_type(match[1]), ordered=match[3] == "1")
    other = {"halffloat": "float16", "float": "float32", "string_view": "string", "null": "float64", "text": "string"}
    try:
        return pa.type_for_alias(other.get(name, name))
    except ValueError:
        raise ValueError(f"unknown dtype {name!r}") from None


def meant_type(column: Column) -> Any:
    """The Arrow type of what the cells of a text file mean: of numbers, ticks of times in their unit, ..."""
    pa = pyarrow()
    if column.holds == "numbers" and column.numbers is not None:
        return pa.from_numpy_dtype(column.numbers.dtype)
    if column.holds == "times":
        return pa.date32() if column.unit == "D" else pa.timestamp(column.unit)
    return {"truths": pa.bool_(), "nothing": pa.null()}.get(column.holds, pa.string())


def plain_type(column: Column) -> Any:
    """The Arrow type of a column; of the cells of a text file that of what they mean.

    Digits with leading zeros, and times of day, are strings, which lose nothing of them.
    """
    pa = pyarrow()
    if column.dtype != "text":
        return arrow_type(column.dtype) if column.cells is None else column.cells.type
    if column.form is not None and column.holds == "numbers" and Notation.of(column.form).width > 1:
        return pa.string()
    if column.form is not None and column.holds == "times":
        if is_of_day(column.form):
            return pa.string()
        if has_zone(column.form):
            return pa.timestamp("s" if column.unit == "D" else column.unit, "UTC")
    return meant_type(column)


def common_type(kind: Any, other: Any) -> Any:
    """The Arrow type of a column of which one part has one type, and another part another: strings where none fits."""
    pa = pyarrow()
    t = pa.types
    kinds = [k for k in (kind, other) if not t.is_null(k)]
    if len(set(kinds)) < 2:
        return kinds[0] if kinds else kind
    if all(t.is_timestamp(k) or t.is_date32(k) for k in kinds):
        zones = {None if t.is_date32(k) else k.tz for k in kinds}
        unit = max(("s" if t.is_date32(k) else k.unit for k in kinds), key=_UNITS.index)
        return pa.timestamp(unit, zones.pop()) if len(zones) == 1 else pa.string()
    return pa.float64() if set(kinds) <= {pa.int64(), pa.uint64(), pa.float64()} else pa.string()
