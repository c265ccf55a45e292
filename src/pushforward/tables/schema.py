"""The schema of a table: what each column is, inferred from the rows, shown, overridden and saved."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..io.frames import Column, read
from ..io.names import quoted
from ..io.times import other_order
from .choose_maps import choose_cells, choose_logarithms, choose_splines
from .columns import Category, Date, Kind, Request, from_json, infer_kind, read_as, request_of
from .columns.number import as_number
from .columns.related import Dependent
from .function import functions
from .relation import related

_SPREADS, _MOST = (1e-150, 1e152), 1e300  # of the values of a column: what can be squared


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in its order.

    Attributes:
        columns: what each is, those that were left out included.
        named: False where the table has no names; columns are then matched by position.

    Example:
        >>> schema = infer_schema({"size": [0.5 + i / 97 for i in range(50)], "colour": ["red", "blue"] * 25})
        >>> [column.kind for column in schema.columns]
        ['real', 'category']
    """

    columns: tuple[Kind, ...]
    named: bool = True

    @property
    def modelled(self) -> tuple[Kind, ...]:
        """The columns that were not left out."""
        return tuple(c for c in self.columns if c.modelled)

    @property
    def names(self) -> list[str]:
        """The names of the columns that were not left out."""
        return [c.name for c in self.modelled]

    def __getitem__(self, name: str) -> Any:
        """The column of a name, a `Kind`.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def describe(self) -> str:
        """A text table for people: name, kind and facts of each column."""
        rows = [(c.name if len(c.name) <= 30 else f"{c.name[:28]}..", c.kind, c.describe()) for c in self.columns]
        widths = [max([len(r[i]) for r in rows] + [4]) for i in (0, 1)]
        lines = [f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {text}".rstrip() for name, kind, text in rows]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {"columns": [c.to_json() for c in self.columns], "named": self.named}

    @staticmethod
    def from_json(facts: Any) -> Schema:
        """The inverse of `to_json`, with each fact checked.

        Raises:
            ValueError: a fact is of a wrong kind; it is named.
        """
        if not isinstance(facts, dict) or not isinstance(facts.get("columns"), list):
            raise ValueError("the schema has no list of columns")
        if not isinstance(facts.get("named", True), bool):
            raise ValueError("bad value of 'named' in the schema")
        columns = tuple(from_json(c) for c in facts["columns"])
        if len({c.name for c in columns}) != len(columns):
            raise ValueError("the schema has two columns of one name")
        _check(columns)
        return Schema(columns, facts.get("named", True))


def _check(columns: Sequence[Kind]) -> None:
    """Refuses a column that is not complete, or is related to one that is no number without missing cells before it."""
    before: list[Kind] = []
    for column in columns:
        if not column.is_complete:
            raise ValueError(f"column {column.name!r}: its facts contradict each other")
        if isinstance(column, Dependent) and not column.others <= {c.name for c in before if column.can_follow(c)}:
            names = quoted(sorted(column.others))
            raise ValueError(
                f"column {column.name!r}: expected columns of numbers before it that it depends on: {names}"
            )
        before.append(column)


def infer_schema(
    table: Any, kinds: Mapping[str, Any] | None = None, *, max_categories: int = 256, gaussian: bool | None = None
) -> Schema:
    """Finds out what each column of a table is.

    Strings, booleans and Arrow dictionaries are categories; whole numbers are integers; decimals with many ties at a
    fixed step are quantised; numbers over a decade or more above zero are positive; text in ISO form and Arrow's times
    are dates; the rest is real. Values that hold a large share of a column become point masses (atoms); a number with
    at most 32 values, each frequent, has atoms alone. Unique strings and row numbers are left out, with a warning.
    Strings such as "?", "-" or "#N/A" are missing cells where all others of their column are numbers or dates.

    Of 1,000 rows and more, a rounded number may turn out to be a sum or difference of others before it but for a few
    values, as a total is of its parts and taxes: then what it is more than the sum is modelled in its place. A number
    that is a function of one before it, as a logarithm, a square or another unit, is calculated and not modelled.

    Args:
        table: a data frame, a pyarrow Table, a dict of columns, an array (N, D), an opened file or a `Frame`.
        kinds: overrides by column name: "real", "integer", "quantised" (or "quantised:0.5"), "positive",
            "bounded:0:1", "circular:360", "date", "category" or "drop".
        max_categories: how many categories of a column have a state of their own; the rarest others share one.
        gaussian: gaussianize each number by its quantiles, or only shift and scale it and fold its heavy tails. None
            gaussianizes continuous columns of 1,000 rows and more, but for symmetric ones of heavy tails: skewed
            columns gain by it, while rounded ones, and those that share their scale, lose. Columns that nearly
            determine each other are shifted and scaled where that leaves the table nearer to a Gaussian.

    Raises:
        ValueError: no rows or columns, an unknown column or kind, a kind that the cells do not fit, text among numbers
            (column and first rows are named), or infinities.
        ImportError: pyarrow is needed and not installed.
    """
    frame = read(table)
    if len(frame) == 0:
        raise ValueError(f"{frame.source} has no rows")
    plain = Request(named=frame.named, max_categories=max_categories, gaussian=gaussian)
    asked = {str(name): request_of(kind, plain) for name, kind in (kinds or {}).items()}
    unknown = [name for name in asked if name not in frame.names]
    if unknown:
        raise ValueError(f"kinds name a column {unknown[0]!r} that the table has not; it has {quoted(frame.names)}")
    frame = replace(frame, columns=tuple(read_as(c, asked.get(c.name, plain).kind) for c in frame.columns))
    columns = [infer_kind(column, asked.get(column.name, plain)) for column in frame.columns]
    columns = choose_cells(related(functions(columns, frame, list(asked)), frame, list(asked)), frame, gaussian)
    if gaussian is None:
        columns = choose_logarithms(choose_splines(columns, frame), frame)
    if not any(c.modelled for c in columns):
        raise ValueError("every column was left out: " + "; ".join(f"{c.name!r}: {c.note}" for c in columns))
    for kind, column in zip(columns, frame.columns, strict=True):
        _check_size(kind, column)
        _check_order(kind, column, asked.get(column.name, plain))
    _warn(columns, asked)
    return Schema(tuple(columns), frame.named)


def _check_size(kind: Kind, column: Column) -> None:
    """Raises ValueError for numbers whose squares overflow float64; warns of integers of 2^63 and more."""
    if column.numbers is None or not kind.modelled:
        return
    if column.numbers.dtype == np.uint64 and column.numbers.max(initial=0) >= 2**63:
        _say(f"column {kind.name!r} holds whole numbers of 2^63 and more, which are rounded to multiples of 2,048: as "
             "text they would be categories, exactly")  # fmt: skip
    values = column.numbers[~column.is_missing].astype(float)
    spread = float(np.ptp(values)) if len(values) else 0.0
    if (spread and not _SPREADS[0] < spread < _SPREADS[1]) or np.abs(values).max(initial=0.0) >= _MOST:
        raise ValueError(
            f"column {kind.name!r} holds numbers from {values.min():g} to {values.max():g}, which are too large or "
            "too near to each other to calculate with: change their unit, or leave the column out"
        )


def _check_order(kind: Kind, column: Column, request: Request) -> None:
    """Warns of dates of which nothing tells whether the day or the month comes first."""
    if not isinstance(kind, Date) or kind.form is None or request.form is not None or column.codes is None:
        return
    other = other_order(column.labels, kind.form)
    if other is not None and kind.form != other:
        _say(f"column {kind.name!r} holds dates such as {column.labels[0]}, taken as {kind.form}: kind date:{other} "
             f"takes them the other way round, date:{kind.form} this way without a word")  # fmt: skip


def _warn(columns: Sequence[Kind], asked: Mapping[str, Request]) -> None:
    for column in columns:
        if isinstance(column, Category) and column.grouped:
            count = len(column.categories)
            _say(f"column {column.name!r} has {count:,} categories: the {count - column.own:,} rarest are grouped")
        if not column.modelled and column.name not in asked:
            _say(f"column {column.name!r} is left out: {column.note}")
    rounded = [
        f"{c.name!r} ({as_number(c).coarse.step if as_number(c).coarse else as_number(c).step:g})"  # type: ignore[union-attr]
        for c in columns if c.kind == "quantised" and c.coded.has_number and c.name not in asked
    ]  # fmt: skip
    if rounded:
        more = f" and {len(rounded) - 12} more" if len(rounded) > 12 else ""
        _say(
            "rounded values are spread evenly over their step, so that their density cannot grow without bound: "
            f"column{'s' if len(rounded) > 1 else ''} {', '.join(rounded[:12])}{more}"
        )


def _say(text: str) -> None:
    warnings.warn(text, stacklevel=4)
