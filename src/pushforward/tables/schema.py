"""The schema of a table: one `Column` for each column, inferred from the rows, shown, overridden and saved."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .arrow import as_source
from .column import Column
from .facts import check_relations, from_facts, to_facts
from .kinds import Request, categorical, numerical, requested
from .relation import related


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in its order.

    Attributes:
        columns: a `Column` each, those that were left out included.
        named: False where the table has no names; columns are then matched by position.

    Example:
        >>> schema = infer_schema({"size": [0.5 + i / 97 for i in range(50)], "colour": ["red", "blue"] * 25})
        >>> [column.kind for column in schema.columns]
        ['real', 'category']
    """

    columns: tuple[Column, ...]
    named: bool = True

    @property
    def modelled(self) -> tuple[Column, ...]:
        """The columns that were not left out."""
        return tuple(c for c in self.columns if c.modelled)

    @property
    def names(self) -> list[str]:
        """The names of the columns that were not left out."""
        return [c.name for c in self.modelled]

    def __getitem__(self, name: str) -> Column:
        """The column of a name.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def describe(self) -> str:
        """A text table for people: name, kind and facts of each column."""
        rows = [(c.name if len(c.name) <= 30 else f"{c.name[:28]}..", c.kind, c.text) for c in self.columns]
        widths = [max([len(r[i]) for r in rows] + [4]) for i in (0, 1)]
        lines = [f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {text}".rstrip() for name, kind, text in rows]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {"columns": [to_facts(c) for c in self.columns], "named": self.named}

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
        columns = tuple(from_facts(c) for c in facts["columns"])
        if len({c.name for c in columns}) != len(columns):
            raise ValueError("the schema has two columns of one name")
        check_relations(columns)
        return Schema(columns, facts.get("named", True))


def infer_schema(
    table: Any, kinds: Mapping[str, Any] | None = None, *, max_categories: int = 256, gaussian: bool | None = None
) -> Schema:
    """Finds out what each column of a table is.

    Strings, booleans and Arrow dictionaries are categories; whole numbers are integers; decimals with many ties at a
    fixed step are quantised; numbers over a decade or more above zero are positive; text in ISO form and Arrow's times
    are dates; the rest is real. Values that hold a large share of a column become atoms; a number with at most 32
    values, each frequent, has atoms alone. Unique strings and row numbers are left out, with a warning.

    Of 1,000 rows and more, a rounded number may turn out to be a sum or difference of others before it but for a few
    values, as a total is of its parts and taxes: then what it is more than the sum is modelled in its place.

    Args:
        table: a pyarrow Table, a pandas or polars DataFrame, a `data.tables.Table`, a dict of columns or an array.
        kinds: overrides by column name: "real", "integer", "quantised" (or "quantised:0.5"), "positive",
            "bounded:0:1", "circular:360", "date", "category" or "drop".
        max_categories: how many categories of a column have a state of their own; the rarest others share one.
        gaussian: bend each number towards a normal by its quantiles, or only shift and scale it and fold its heavy
            tails. None bends continuous columns of 1,000 rows and more, but for symmetric ones of heavy tails: of
            9,000 galaxies this gained 5.8 nats, while bends of rounded columns lost .5 (thyroid) and 1.3 (taxis).

    Raises:
        ValueError: no rows or columns, an unknown column or kind, a kind that the cells do not fit, text among numbers
            (column and first rows are named), or infinities.
        ImportError: there is no pyarrow.
    """
    source = as_source(table)
    if len(source) == 0:
        raise ValueError(f"{source.where} has no rows")
    asked = {str(k): requested(v) for k, v in (kinds or {}).items()}
    unknown = [k for k in asked if k not in source.names]
    if unknown:
        raise ValueError(f"kinds name a column {unknown[0]!r} that the table has not; it has {_shown(source.names)}")
    columns = []
    for name, values in zip(source.names, source.data.columns, strict=True):
        request = asked.get(name, Request(None))
        columns.append(_column(name, values, request, source.text, source.named, max_categories, gaussian))
    columns = related(columns, source, list(asked))
    if not any(c.modelled for c in columns):
        raise ValueError("every column was left out: " + "; ".join(f"{c.name!r}: {c.note}" for c in columns))
    _warn([c for c in columns if c.name not in asked])
    return Schema(tuple(columns), source.named)


def _column(
    name: str, values: Any, request: Request, text: bool, named: bool, most: int, gaussian: bool | None
) -> Column:
    if request.kind == "dropped":
        return Column(name, "dropped", str(values.type), note="as asked")
    found = None
    if request.kind in (None, "category"):
        found = categorical(name, values, request, text, named, most)
    if found is None:
        found = numerical(name, values, request, text, named, gaussian)
    if found.kind == "category" and found.grouped:
        rare = len(found.categories) - found.own
        warnings.warn(
            f"column {name!r} has {len(found.categories):,} categories: the {rare:,} rarest are grouped",
            stacklevel=3,
        )
    return found


def _warn(columns: list[Column]) -> None:
    for column in columns:
        if column.kind == "dropped":
            warnings.warn(f"column {column.name!r} is left out: {column.note}", stacklevel=3)
    rounded = [f"{c.name!r} ({c.coarse or c.step:g})" for c in columns if c.kind == "quantised" and c.coded.flows]
    if rounded:
        warnings.warn(
            f"rounded values are spread evenly over their step, so that their density cannot grow without bound: column"
            f"{'s' if len(rounded) > 1 else ''} {', '.join(rounded[:12])}"
            f"{f' and {len(rounded) - 12} more' if len(rounded) > 12 else ''}",
            stacklevel=3,
        )


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
