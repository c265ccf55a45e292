"""Schemas of version 1, in which a column was one flat object of all facts, as nested kinds of columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
_KNOWN = {
    "name", "kind", "dtype", "missing", "atoms", "flows", "step", "origin", "coarse", "digits", "low", "high", "period",
    "cut", "categories", "counts", "own", "knots", "heavy", "form", "extent", "relation", "note",
}  # fmt: skip


def upgraded_schema(schema: Any) -> Any:
    """A schema of version 1 in the present form; what is no schema comes back as it is, and is refused later.

    Raises:
        ValueError: a fact is unknown or missing.
    """
    if not isinstance(schema, dict) or not isinstance(schema.get("columns"), list):
        return schema
    return schema | {"columns": [_column(c) if isinstance(c, dict) else c for c in schema["columns"]]}


def layout_of(schema: Any, given: Any) -> Facts:
    """The sizes of an inner density over the rows of a schema of version 1.

    Raises:
        ValueError: a fact is missing.
    """
    sizes: list[int] = []
    given_sizes: list[int] = []
    given_numbers = 0
    columns = schema.get("columns") if isinstance(schema, dict) else None
    for facts in columns if isinstance(columns, list) else []:
        if not isinstance(facts, dict) or facts.get("kind") == "dropped":
            continue
        is_given = isinstance(given, list) and facts.get("name") in given
        relation = facts.get("relation")
        coded = facts if is_given or not isinstance(relation, dict) else relation.get("rest")
        count = _states(coded) if isinstance(coded, dict) else 0
        if count > 1:
            (given_sizes if is_given else sizes).append(count)
        given_numbers += is_given and bool(facts.get("flows"))
    return {"sizes": sizes, "given_sizes": given_sizes, "given_numbers": given_numbers}


def _states(facts: Facts) -> int:
    missing = bool(facts.get("missing"))
    if facts.get("kind") == "category":
        own = facts.get("own", 0)
        return own + (own < len(facts.get("categories", ()))) + missing
    atoms = len(facts.get("atoms", ()))
    if facts.get("kind") in ("constant", "empty"):
        return atoms + missing
    ordinary = 1 + (facts.get("coarse") is not None) if facts.get("flows") else int(atoms > 1)
    return ordinary + atoms + missing


def _column(facts: Facts) -> Facts:
    name = facts.get("name")
    unknown = [fact for fact in facts if fact not in _KNOWN]
    if unknown:
        raise ValueError(f"column {name!r}: bad value of {unknown[0]!r}")
    kind = facts.get("kind")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    if make is None:
        raise ValueError(f"column {name!r}: bad value of 'kind'")
    column = make(facts)
    relation = facts.get("relation")
    if relation is None:
        return column
    if not isinstance(relation, dict) or not isinstance(relation.get("rest"), dict):
        raise ValueError(f"column {name!r}: bad value of 'relation'")
    return {"kind": "related", "inner": column, "summands": relation.get("parts"), "grain": relation.get("unit"),
            "rest": _column(relation["rest"])}  # fmt: skip


def _chosen(facts: Facts, *names: str) -> Facts:
    """Some of the facts, where they are there."""
    return {name: facts[name] for name in ("name", "dtype", "missing", "note", *names) if name in facts}


def _category(facts: Facts) -> Facts:
    return {"kind": "category", "own": 0, **_chosen(facts, "categories", "counts", "own")}


def _constant(facts: Facts) -> Facts:
    atoms = facts.get("atoms")
    if not isinstance(atoms, list) or len(atoms) != 1:
        raise ValueError(f"column {facts.get('name')!r}: bad value of 'atoms'")
    return {"kind": "constant", **_chosen(facts, "form"), "value": atoms[0]}


def _plain(facts: Facts) -> Facts:
    return {"kind": facts["kind"], **_chosen(facts)}


def _number(facts: Facts) -> Facts:
    names = {"date": ("form",), "circular": ("period", "cut", "low"), "bounded": ("low", "high")}
    own = names.get(facts["kind"], () if facts["kind"] in ("real", "positive") else ("low",))
    number = {"kind": facts["kind"], **_chosen(facts, "knots", "heavy", "extent", *own)}
    if facts["kind"] == "circular":
        number.setdefault("low", 0.0)
    origin, digits = facts.get("origin", 0), facts.get("digits")
    if facts.get("step") is not None:
        number["lattice"] = {"step": facts["step"], "origin": origin, "digits": digits}
    if facts.get("coarse") is not None:
        number = {"kind": "with_coarse", "inner": number,
                  "coarse": {"step": facts["coarse"], "origin": origin, "digits": digits}}  # fmt: skip
    return {"kind": "with_atoms", "inner": number, "atoms": facts["atoms"]} if facts.get("atoms") else number


_NUMBERS = ("real", "positive", "bounded", "circular", "quantised", "integer", "date")
_MAKERS: dict[str, Callable[[Facts], Facts]] = {
    "category": _category, "constant": _constant, "empty": _plain, "dropped": _plain, **dict.fromkeys(_NUMBERS, _number)
}  # fmt: skip
