"""The kinds of columns that there are: asked for by name, inferred in turn, written to files and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ...io.frames import Column
from ...io.notation import is_pattern
from ...io.times import COMPACT, is_form
from .base import Facts, Kind, Request

KINDS: dict[str, type[Kind]] = {}
OF_TEXTS = ("category", "dropped", "empty")  # the tags of kinds that read the texts of columns as they are
_MANY = 20  # distinct numbers such as 20240229, of which chance makes no dates


def register(cls: type[Kind], *, before: str | None = None) -> type[Kind]:
    """Makes a kind one that schemas infer, write and read.

    Args:
        cls: a frozen dataclass, derived from `Plain`.
        before: the tag of the kind before which it is tried; None tries it after all others.
    """
    order = [tag for tag in KINDS if tag != cls.tag]
    order.insert(len(order) if before is None else order.index(before), cls.tag)
    known = {**KINDS, cls.tag: cls}
    KINDS.clear()
    KINDS.update({tag: known[tag] for tag in order})
    return cls


def read_as(column: Column, kind: str | None, form: str | None = None) -> Column:
    """A column as what a kind reads: texts as numbers or dates, among which "?" and the like mark missing cells.

    Args:
        column: of any table; one of words is given back as it is.
        kind: its tag; None for what the cells look like.
        form: how the kind writes its cells: texts are read as it does, numbers may be compact dates then.
    """
    if kind in OF_TEXTS:
        return column
    if kind is None and _are_ids(column):
        codes, labels = column.as_texts()
        return replace(column, holds="texts", numbers=None, codes=codes, labels=labels)
    column = column.parsed(known=kind is not None)
    of_texts = column.dtype == "text" or column.codes is not None
    if form == COMPACT or (of_texts and kind in (None, "date")):
        return column.as_compact_dates(_MANY if kind is None else 0)
    return column.in_form(form) if is_pattern(form) else column


def _are_ids(column: Column) -> bool:
    """Whether whole numbers of 2^63 and more differ by less than float64 tells, or it changes the only one."""
    if column.numbers is None or column.numbers.dtype != np.uint64:
        return False
    distinct = np.unique(column.numbers[~column.is_missing])
    rounded = np.unique(distinct.astype(np.float64))
    return len(rounded) < len(distinct) or (len(distinct) == 1 and int(rounded[0]) != int(distinct[0]))


def infer_kind(column: Column, request: Request) -> Kind:
    """What a column is.

    Raises:
        ValueError: its cells do not fit the kind that was asked for, or fit none.
    """
    request = replace(request)  # with a cache for this column
    for cls in KINDS.values():
        kind = cls.infer(column, request)
        if kind is not None:
            return kind
    raise ValueError(f"column {column.name!r} holds {column.dtype}, which is no number, date, text or category")


def request_of(text: Any, default: Request = Request()) -> Request:  # noqa: B008  # it is immutable
    """Reads "integer", "quantised:0.5", "bounded:0:1", "date:%d/%m/%Y", ... or a tuple such as ("bounded", 0, 1).

    Raises:
        ValueError: the kind is unknown or has the wrong numbers.
    """
    parts = list(text) if isinstance(text, tuple | list) else str(text).split(":")
    word = str(parts[0]).strip().lower() if parts else ""
    asked = {name: cls for cls in KINDS.values() if cls.usage for name in (cls.tag, *cls.aliases)}
    if word not in asked:
        known = [cls.usage.partition(":")[0].partition(" ")[0] for cls in KINDS.values() if cls.usage]
        raise ValueError(f"unknown kind {text!r}; expected one of {', '.join(known)}")
    cls = asked[word]
    form = ":".join(map(str, parts[1:]))
    if cls.tag == "date" and is_form(form):
        return replace(default, kind=cls.tag, form=form)
    try:
        values = tuple(float(v) for v in parts[1:])
    except (TypeError, ValueError):
        values = (np.nan,)
    if not all(np.isfinite(v) for v in values) or not cls.accepts_request(values):
        raise ValueError(f"kind {text!r}: expected {cls.usage}")
    return replace(default, kind=cls.tag, values=values)


def from_json(facts: Any) -> Kind:
    """The inverse of `to_json`, with each fact checked.

    Raises:
        ValueError: a fact is unknown, missing or of a wrong kind; it and the column are named.
    """
    if not isinstance(facts, Mapping):
        raise ValueError(f"a column must be an object, got {type(facts).__name__}")
    what = f"column {_name(facts)!r}"
    tag = facts.get("kind")
    cls = KINDS.get(tag) if isinstance(tag, str) else None
    if cls is None or not issubclass(cls, Facts):
        raise ValueError(f"{what}: bad value of 'kind'")
    built = {
        name: from_json(value) if isinstance(value, Mapping) and "kind" in value else value
        for name, value in facts.items() if name != "kind"
    }  # fmt: skip
    return cast(Kind, cls.checked(built, what))


def _name(facts: Any) -> str:
    while isinstance(facts, Mapping) and "name" not in facts and "inner" in facts:
        facts = facts["inner"]
    name = facts.get("name") if isinstance(facts, Mapping) else None
    if not isinstance(name, str):
        raise ValueError("a column has no name")
    return name
