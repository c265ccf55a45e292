"""Arrow columns as typed cells, and typed cells as Arrow columns: with `arrow_types` the only place that knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrow_types import arrow_type, is_string, meant_type
from .cells import (
    Labels,
    all_numbers,
    are_marks,
    are_missing,
    as_arrow,
    narrowed,
    parse_numbers,
    pyarrow,
    quick_numbers,
    some_of,
)
from .notation import Notation, find_notation, padding
from .times import ISO_FORMS, is_of_day, parse_times, unit_of, write_times

if TYPE_CHECKING:
    from .column import Column

_FIRST, _LAST = -62135596800, 253402300799  # the years 1 to 9999 in seconds since 1970: what calendars know
_SECONDS = {"D": 86400.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DAY = 86400
_LOOKED_AT, _SAME = 2000, 0.95  # texts, and the share of them that numbers are written back as


def views_of(cells: Any, text: bool, like: Column | None = None) -> dict[str, Any]:
    """What `Column` knows of the cells of an Arrow column, but for the name.

    Args:
        cells: a pyarrow array, chunked or not.
        text: whether they are those of a text file.
        like: the column whose types it is to have where its cells allow: that of the file's first reading.
    """
    pa = pyarrow()
    t = pa.types
    kind = cells.type
    if text:
        return _of_file(cells, like)
    if str(kind) == "extension<arrow.json>":  # values of several types, such as one text among numbers
        return _of_file(_json_texts(cells), like)
    facts = {"dtype": str(kind), "cells": cells, "is_missing": _missing(cells)}
    if t.is_dictionary(kind):
        facts |= _of_dictionary(cells)
    elif is_string(kind):
        facts |= _of_strings(cells)
    elif t.is_boolean(kind):
        values = cells.cast(pa.int64()).fill_null(0).to_numpy(**_copying(cells))
        codes = np.where(facts["is_missing"], -1, values).astype(np.int32)
        facts |= {"holds": "truths", "numbers": values, "codes": codes, "labels": ("false", "true")}
    elif t.is_temporal(kind) and kind != pa.month_day_nano_interval():
        narrow = kind.bit_width == 32
        ticks = cells.cast(pa.int32()) if narrow else cells
        facts |= {"holds": "times", "times": ticks.cast(pa.int64()).fill_null(0).to_numpy(**_copying(cells))}
        facts["unit"] = "D" if t.is_date32(kind) else "ms" if t.is_date64(kind) else kind.unit
    elif (numbers := _numbers(cells)) is not None:
        values, facts["is_missing"] = numbers
        facts |= {"holds": "numbers", "numbers": values}
    else:
        facts["holds"] = "other"
    if facts["holds"] != "other" and facts["is_missing"].all():
        facts["holds"] = "nothing"
    return facts


def arrow_array(column: Column) -> Any:
    """The cells of a column as a pyarrow array of its dtype: whole and within the type's range where it needs that."""
    pa = pyarrow()
    t = pa.types
    kind = arrow_type(column.dtype)
    if column.is_missing.all():
        return pa.nulls(len(column), kind)
    if column.times is not None:
        return _times_array(column, kind)
    if column.codes is not None and column.holds != "numbers":
        return _texts_array(column.codes, column.labels, kind)
    assert column.numbers is not None
    values, missing = column.numbers, column.is_missing if column.is_missing.any() else None
    if is_string(kind):
        words = Notation.of(column.form or "0.#").write(values).cast(kind)
        return words if missing is None else pa.compute.if_else(pa.array(missing), pa.scalar(None, kind), words)
    if t.is_boolean(kind):
        return pa.array(values.astype(bool), mask=missing)
    if t.is_integer(kind):
        info = np.iinfo(kind.to_pandas_dtype())
        if values.dtype == np.float64:
            most = min(float(info.max), 2.0**64 - 2048 if info.min == 0 else 2.0**63 - 1024)
            values = np.clip(values, float(info.min), most).astype(np.uint64 if info.min == 0 else np.int64)
        return pa.array(
            np.clip(values, max(info.min, _least(values)), min(info.max, _most(values))), mask=missing
        ).cast(kind)
    if t.is_decimal(kind):
        return pa.compute.round(pa.array(values.astype(np.float64), mask=missing), kind.scale).cast(kind, safe=False)
    return pa.array(values.astype(np.float64), mask=missing).cast(kind, safe=False)


def array_of_type(column: Column, kind: Any) -> Any:
    """The cells of a column as an Arrow array of a type."""
    pa = pyarrow()
    if column.dtype != "text":
        array = column.to_arrow()
        return array if array.type == kind else array.cast(kind)
    if is_string(kind):
        cells = column.cells.cast(pa.string())
        return pa.compute.if_else(pa.array(column.is_missing), pa.scalar(None, pa.string()), cells)
    typed = replace(column, cells=None, dtype=str(meant_type(column))).to_arrow()
    return typed.cast(kind, safe=not pa.types.is_floating(kind))  # whole numbers beyond 2^53 among decimals are rounded


def like_type(column: Column, other: Column) -> Any:
    """The cells of a column as those of another one: of its Arrow type, its categories in their order."""
    pa = pyarrow()
    kind, cells = other.cells.type, arrow_array(column) if column.cells is None else column.cells
    if pa.types.is_null(kind):
        return pa.nulls(len(column))
    if not pa.types.is_dictionary(kind):
        return cells if cells.type == kind else cells.cast(kind, safe=False)
    known = other.cells.chunk(0).dictionary if isinstance(other.cells, pa.ChunkedArray) else other.cells.dictionary
    words = cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells
    words = words.cast(kind.value_type)
    words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    new = pa.compute.unique(words).drop_null()
    new = new.filter(pa.compute.invert(pa.compute.is_in(new, value_set=known)))
    categories = pa.concat_arrays([known, new]) if len(new) else known
    indices = pa.compute.index_in(words, value_set=categories).cast(kind.index_type)
    return pa.DictionaryArray.from_arrays(indices, categories, ordered=kind.ordered)


def _least(values: NDArray[Any]) -> int:
    return int(np.iinfo(values.dtype).min)


def _most(values: NDArray[Any]) -> int:
    return int(np.iinfo(values.dtype).max)


def _times_array(column: Column, kind: Any) -> Any:
    pa = pyarrow()
    t = pa.types
    assert column.times is not None
    ticks, missing = column.times, column.is_missing if column.is_missing.any() else None
    unit = _SECONDS[column.unit]
    if t.is_time(kind) or (is_string(kind) and is_of_day(column.form or "%Y")):
        ticks = np.clip(ticks, 0, int(86400 / unit) - 1)
    elif not t.is_duration(kind):
        bound = 2**63 - 1024
        ticks = np.clip(ticks, int(max(_FIRST / unit, -bound)), int(min(_LAST / unit, bound)))
    if is_string(kind):
        form = column.form or "%Y-%m-%d"
        per_tick = round(unit / _SECONDS[unit_of(form)])  # days are coarser than what a form counts in
        return write_times(pa.array(ticks * per_tick, pa.int64(), mask=missing), form).cast(kind)
    narrow = kind.bit_width == 32
    array = pa.array(ticks, pa.int64(), mask=missing)
    return (array.cast(pa.int32()) if narrow else array).cast(kind)


def _texts_array(codes: NDArray[np.int32], labels: Sequence[str], kind: Any) -> Any:
    pa = pyarrow()
    indices = pa.array(codes, pa.int32(), mask=codes < 0)
    words = as_arrow(labels)
    if pa.types.is_dictionary(kind):
        if not is_string(kind.value_type):
            words = words.cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(indices, words.cast(kind.value_type), ordered=kind.ordered)
    if pa.types.is_boolean(kind):
        words = pa.compute.utf8_lower(words)
    return words.take(indices).cast(kind)


def _json_texts(cells: Any) -> Any:
    """Values of JSON as texts, such as stand in a file of text."""
    pa = pyarrow()
    texts = cells.cast(pa.string())
    return pa.compute.replace_substring_regex(texts, r'^"(.*)"$', r"\1")


def _of_file(cells: Any, like: Column | None) -> dict[str, Any]:
    """The cells of a text file: numbers, truth values, times or texts, whichever all of them are."""
    is_plain = like is None or (like.holds == "numbers" and like.form is None)
    quick = quick_numbers(cells) if is_plain else None
    if quick is not None:
        facts = {"holds": "numbers", "dtype": "text", "numbers": quick[0], "is_missing": quick[1], "cells": cells}
        if like is None and (padded := padding(cells, quick[0])):
            facts["form"] = padded.pattern
    else:
        facts = _of_distinct(_encoded(cells), like)
    if like is not None and like.numbers is not None and like.numbers.dtype == np.float64 and "numbers" in facts:
        facts["numbers"] = facts["numbers"].astype(np.float64, copy=False)
    return facts


def _of_distinct(cells: Any, like: Column | None) -> dict[str, Any]:
    """The same of cells that were dictionary-encoded: the distinct ones are parsed."""
    labels, codes = Labels(cells.dictionary), _codes(cells)
    nothing = are_missing(labels) if len(labels) else np.zeros(0, bool)
    is_missing = np.append(nothing, True)[codes]
    return {"dtype": "text", "cells": cells} | _of_codes(codes, labels, is_missing, like)


def _of_codes(
    codes: NDArray[np.int32], labels: Labels, is_missing: NDArray[np.bool_], like: Column | None = None
) -> dict[str, Any]:
    """Places (N,) in texts (L,), some of which are missing (N,): numbers, truth values, times or texts."""
    codes = np.where(is_missing, -1, codes).astype(np.int32)
    facts: dict[str, Any] = {"holds": "texts", "is_missing": is_missing, "codes": codes, "labels": labels}
    used = np.bincount(codes[~is_missing], minlength=len(labels)) > 0
    if not used.any():
        return facts | {"holds": "nothing"}
    chosen = Labels(labels.arrow.filter(pyarrow().array(used)))
    at = np.where(is_missing, 0, (np.cumsum(used) - 1)[codes])
    as_texts = like is not None and like.holds == "texts"
    numbers, form = _numbers_in(chosen, like)
    if numbers is not None:
        facts |= {"holds": "numbers", "numbers": np.where(is_missing, numbers.dtype.type(0), numbers[at]), "form": form}
        if not as_texts and {label.strip().lower() for label in chosen[:9]} <= {"true", "false"}:
            truths = np.where(is_missing, -1, facts["numbers"]).astype(np.int32)
            facts |= {"holds": "truths", "codes": truths, "labels": ("false", "true")}
    else:
        known = None if like is None or like.holds != "times" or like.form in ISO_FORMS else like.form
        times, good, form = parse_times(chosen, known, mixed=known is None)
        if good.all():
            days = form in ISO_FORMS and bool((times % _DAY == 0).all()) and (like is None or like.unit in ("", "D"))
            ticks = np.where(is_missing, 0, (times // _DAY if days else times)[at])
            facts |= {"holds": "times", "times": ticks, "unit": "D" if days else unit_of(form), "form": form}
    return facts | ({"holds": "texts"} if as_texts else {})


def values_of_texts(column: Column, known: bool) -> dict[str, Any]:
    """What a column of texts knows as numbers or times, see `Column.parsed`; nothing where its texts may be words."""
    assert column.codes is not None
    labels = column.labels if isinstance(column.labels, Labels) else Labels(as_arrow(column.labels))
    marks = are_marks(labels)
    if column.dtype == "text" and not marks.any():  # they were parsed when they were read
        return {}
    is_missing = column.is_missing | np.append(marks, False)[column.codes]
    if column.dtype != "text" and not known and not _may_be_numbers(labels, marks):
        return {}
    facts = _of_codes(column.codes, labels, is_missing)
    if facts["holds"] == "truths" or (facts["holds"] in ("texts", "nothing") and not known):
        return {}
    if column.dtype != "text" and facts["holds"] == "numbers" and not known:
        used = np.unique(facts["codes"][~is_missing])
        meant = Labels(labels.arrow.take(pyarrow().array(used)))
        notation = find_notation(meant, plain=True)
        if notation is None or (notation.is_plain and not _is_written_back(meant, notation)):
            return {}
        facts["form"] = notation.pattern
    return facts


def _may_be_numbers(labels: Labels, marks: NDArray[np.bool_]) -> bool:
    """Whether some texts of a frame, apart from marks (L,), may be numbers and are no codes, or times beside marks."""
    some = Labels(labels.arrow.filter(pyarrow().array(~marks)).slice(0, _LOOKED_AT))
    notation = find_notation(some, plain=True)
    if notation is None:
        return bool(marks.any())
    if notation.is_plain and notation.decimals == 0:
        return bool((marks & ~are_missing(labels)).any())  # beside an empty cell digits may be codes
    return True


def _is_written_back(labels: Labels, notation: Notation) -> bool:
    """Whether plain numbers are written as their texts are, but for a zero behind the point: 1.10 may be a version."""
    some = some_of(labels.arrow, _LOOKED_AT)
    written = notation.write(parse_numbers(some)[0]).to_pylist()
    same = [text.strip() in (plain, f"{plain}.0") for text, plain in zip(some, written, strict=True)]
    return sum(same) >= _SAME * len(same)


def _numbers_in(labels: Labels, like: Column | None) -> tuple[NDArray[Any] | None, str | None]:
    """-> the numbers of distinct texts (L,), None where one is none; the pattern that they are written by, if any."""
    known = None if like is None or like.holds != "numbers" else like.form
    plain = all_numbers(labels) if known is None else None
    if plain is not None:
        padded = padding(labels.arrow, plain) if like is None else None
        return plain, None if padded is None else padded.pattern
    notation = find_notation(labels) if known is None else Notation.of(known)
    if notation is None:
        return None, None
    numbers, good = notation.parse(labels)
    return (numbers, notation.pattern) if good.all() else (None, None)


def _of_strings(cells: Any) -> dict[str, Any]:
    coded = _encoded(cells)
    labels, codes = Labels(coded.dictionary.cast(pyarrow().string())), _codes(coded)
    facts: dict[str, Any] = {"holds": "texts", "codes": codes, "labels": labels}
    if not len(labels):
        return facts
    times, good, form = parse_times(labels)
    if good.all():
        return facts | {"holds": "times", "times": np.append(times, 0)[codes], "unit": unit_of(form), "form": form}
    notation = find_notation(labels)  # plain numbers may be codes: see `Column.parsed`
    if notation is not None:
        numbers, good = notation.parse(labels)
        if good.all():
            values = np.where(codes < 0, numbers.dtype.type(0), np.append(numbers, numbers[:1])[codes])
            facts |= {"holds": "numbers", "numbers": values, "form": notation.pattern}
    return facts


def _of_dictionary(cells: Any) -> dict[str, Any]:
    """A dictionary column: texts, whatever its values are; those that are numbers stand beside them."""
    pa = pyarrow()
    coded = _encoded(cells)
    values, codes = coded.dictionary, _codes(coded)
    facts: dict[str, Any] = {"holds": "texts", "is_missing": codes < 0, "codes": codes}
    numbers = None if is_string(values.type) else _numbers(values)
    if numbers is not None:
        gone = np.append(numbers[1], True)[codes]
        facts |= {"is_missing": gone, "codes": np.where(gone, -1, codes).astype(np.int32)}
        facts["numbers"] = (
            np.where(gone, numbers[0].dtype.type(0), np.append(numbers[0], numbers[0][:1])[codes])
            if len(values)
            else None
        )
    try:
        return facts | {"labels": Labels(values.cast(pa.string()))}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return {"holds": "other"}


def _numbers(cells: Any) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
    """Numbers (N,), 0 where missing or NaN, and which are missing (N,); None where cells are of another kind."""
    pa = pyarrow()
    t = pa.types
    kind = cells.type
    missing = _missing(cells)
    if t.is_integer(kind):
        wide = pa.uint64() if kind == pa.uint64() else pa.int64()
        return narrowed(cells.cast(wide).fill_null(0).to_numpy(**_copying(cells))), missing
    if not (t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind)):
        return None
    exact = cells.cast(pa.string()) if t.is_decimal(kind) else cells  # Arrow's own cast is off by a last place
    values = exact.cast(pa.float64(), safe=False).to_numpy(**_copying(cells))
    missing = np.isnan(values)
    return np.where(missing, 0.0, values) if missing.any() else values, missing


def _missing(cells: Any) -> NDArray[np.bool_]:
    if cells.null_count == 0:
        return np.zeros(len(cells), dtype=bool)
    return np.asarray(pyarrow().compute.is_null(cells).to_numpy(**_copying(cells)))


def _copying(cells: Any) -> dict[str, bool]:
    """The argument that lets an array, but not a chunked one, be copied."""
    return {} if isinstance(cells, pyarrow().ChunkedArray) else {"zero_copy_only": False}


def _encoded(cells: Any) -> Any:
    """A dictionary array of one piece, with distinct values."""
    pa = pyarrow()
    if not pa.types.is_dictionary(cells.type):
        cells = pa.compute.dictionary_encode(cells)
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.unify_dictionaries().combine_chunks()
        cells = cells.chunk(0) if isinstance(cells, pa.ChunkedArray) else cells
    return cells


def _codes(coded: Any) -> NDArray[np.int32]:
    return coded.indices.cast(pyarrow().int64()).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
