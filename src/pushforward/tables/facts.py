"""Columns of a schema as JSON, and back with each fact checked."""

from __future__ import annotations

import itertools
from dataclasses import asdict, fields
from typing import Any

from .column import KINDS, Column
from .relation import Relation


def to_facts(column: Column) -> dict[str, Any]:
    """What differs from the defaults, JSON-able."""
    plain = {f.name: f.default for f in fields(column)}
    facts = {k: v for k, v in asdict(column).items() if k in ("name", "kind", "dtype") or v != plain[k]}
    relation = column.relation
    if relation is not None:
        facts["relation"] = {"parts": relation.parts, "unit": relation.unit, "rest": to_facts(relation.rest)}
    return facts


def from_facts(facts: Any) -> Column:
    """The inverse of `to_facts`.

    Raises:
        ValueError: a fact is unknown, missing, or of a wrong kind; it is named.
    """
    if not isinstance(facts, dict):
        raise ValueError(f"a column must be an object, got {type(facts).__name__}")
    name = facts.get("name")
    if not isinstance(name, str):
        raise ValueError("a column has no name")
    for key, value in facts.items():
        check = _CHECKS.get(key)
        if check is None or not check(value):
            raise ValueError(f"column {name!r}: bad value of {key!r}")
    if not {"kind", "dtype"} <= facts.keys():
        raise ValueError(f"column {name!r} has no kind or no dtype")
    plain = {k: _tuples(v) for k, v in facts.items() if k != "relation"}
    column = Column(**plain, relation=_relation(facts.get("relation"), name))
    knots = column.knots
    steady = all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(knots)) and all(k[2] > 0 for k in knots)
    bounds = column.low is None or column.high is None or column.low < column.high
    circle = column.period is None or (column.low is not None and column.high is not None)
    if (
        column.flows != bool(knots) or len(knots) == 1 or not steady or not bounds or not circle
        or len(column.counts) != len(column.categories) or not 0 <= column.own <= len(column.categories)
        or len(set(column.categories)) != len(column.categories) or len(set(column.atoms)) != len(column.atoms)
        or (column.modelled and column.states < 1) or (column.coarse is not None and column.period is not None)
        or (column.relation is not None and (column.step is None or not column.flows or column.missing
            or not column.relation.fits(column.step, column.origin)))
    ):  # fmt: skip
        raise ValueError(f"column {name!r}: its facts contradict each other")
    return column


def check_relations(columns: tuple[Column, ...]) -> None:
    """Raises a `ValueError` where a relation names a part that is no number without missing cells before its column."""
    usable: set[str] = set()
    for column in columns:
        if column.relation is not None and not {name for name, _ in column.relation.parts} <= usable:
            raise ValueError(f"column {column.name!r}: bad value of 'relation'")
        if column.on_lattice and not column.missing and column.kind in ("integer", "quantised"):
            usable.add(column.name)


def _relation(facts: Any, name: str) -> Relation | None:
    if facts is None:
        return None
    rest = from_facts(facts["rest"])
    parts = _tuples(facts["parts"])
    if rest.relation is not None or rest.name != name or rest.dtype != "int64" or rest.missing or not rest.modelled:
        raise ValueError(f"column {name!r}: bad value of 'relation'")
    return Relation(parts, facts["unit"], rest)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _each(check: Any, size: int | None = None) -> Any:
    return lambda value: (
        isinstance(value, (list, tuple)) and size in (None, len(value)) and all(check(v) for v in value)
    )


def _optional(check: Any) -> Any:
    return lambda value: value is None or check(value)


def _is_relation(value: Any) -> bool:
    def is_part(part: Any) -> bool:
        return isinstance(part, (list, tuple)) and len(part) == 2 and _text(part[0]) and part[1] in (1, -1)

    return (
        isinstance(value, dict) and value.keys() == {"parts", "unit", "rest"} and bool(value["parts"])
        and _each(is_part)(value["parts"]) and _positive(value["unit"])
    )  # fmt: skip


_CHECKS: dict[str, Any] = {
    "name": _text, "kind": lambda v: v in KINDS, "dtype": _text, "missing": _flag, "atoms": _each(_number),
    "flows": _flag, "step": _optional(_positive), "coarse": _optional(_positive), "origin": _number,
    "digits": _optional(lambda v: type(v) is int and 1 <= v <= 17),
    "low": _optional(_number), "high": _optional(_number), "period": _optional(_positive), "cut": _number,
    "categories": _each(_text), "counts": _each(lambda v: type(v) is int and v > 0), "own": lambda v: type(v) is int,
    "knots": _each(_each(_number, 3)), "heavy": _each(_flag, 2), "form": _optional(_text),
    "extent": _optional(_each(_number, 2)), "relation": _is_relation, "note": _text,
}  # fmt: skip
