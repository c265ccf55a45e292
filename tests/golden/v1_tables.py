"""The tables whose golden files `make_v1_more.py` wrote: rows to learn from, and rows to score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from v1_rows import (
    ARROW_EDITS,
    ARROW_KINDS,
    BILL_EDITS,
    DATE_EDITS,
    DISCRETE_EDITS,
    GIVEN_EDITS,
    HEAVY_EDITS,
    MIXED_EDITS,
    MIXED_KINDS,
    ONE_EDITS,
    PLAIN_EDITS,
    ROUNDED_EDITS,
    SUM_EDITS,
    arrow_types,
    bills,
    dates,
    discrete,
    heavy,
    mixed,
    named_mixed,
    one_number,
    plain,
    rounded,
    sums,
)

MASS_WIDTH = 16  # hidden units of the mass functions, so that files are small
PLAIN = 9  # rows to score that are like those learned from


@dataclass(frozen=True)
class Case:
    """One table density.

    Attributes:
        covers: in words.
        rows: n, seed -> a table.
        edits: further rows to score: what differs from a plain row, by column.
        n: rows to learn from.
        kinds: of `fit_table`.
        most: categories with a state of their own; None for the default.
        options: further arguments of `fit_table`.
        array: whether rows are given as an array without names.
        csv: whether the density is learned from the text of a CSV.
        double: whether it is saved in float64.
        check: asserts that the density is what it is to cover.
    """

    covers: str
    rows: Callable[[int, int], pa.Table]
    edits: Sequence[Mapping[str, Any]] = ()
    n: int = 600
    kinds: Mapping[str, Any] | None = None
    most: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    array: bool = False
    csv: bool = False
    double: bool = False
    check: Callable[[Any], bool] = lambda density: True


def to_score(case: Case) -> pa.Table:
    """Plain rows and edited ones."""
    plain = case.rows(200, 99).slice(0, PLAIN)
    rows = plain.to_pylist()
    return pa.Table.from_pylist(rows + [rows[i % 3] | dict(edit) for i, edit in enumerate(case.edits)], plain.schema)


def _mixed_check(density: Any) -> bool:
    of = density.schema
    kinds = {"always": "constant", "empty": "empty", "id": "dropped", "rain": "real", "price": "quantised"}
    return (
        of["town"].grouped and of["town"].states > 24 and of["count"].missing and of["rain"].atoms == (0.0,)
        and all(of[name].kind == kind for name, kind in kinds.items())
    )  # fmt: skip


def _related(density: Any) -> bool:
    relations = {c.name: dict(c.relation.parts) for c in density.schema.columns if c.relation is not None}
    return relations == {"total": {"fare": 1, "tip": 1}, "free": {"seats": 1, "rides": -1}}


def _heavy_check(density: Any) -> bool:
    knots = [len(c.knots) for c in density.layout.numbers]
    off = density.whitening.abs().sum() - density.whitening.diag().abs().sum()
    return max(knots) > 2 and min(knots) == 2 and any(any(c.heavy) for c in density.layout.numbers) and off > 0.1


def _components(density: Any) -> int:
    return density.flows[0].recipe["arguments"]["components"]


TABLES: dict[str, Case] = {
    "table_mixed_v1": Case(
        "grouped rare categories, more than 24 states, integers, rounded decimals, positive, bounded, circular, atoms, "
        "missing cells, a bool, constant, empty and dropped columns; scored as a CSV too",
        mixed, MIXED_EDITS, 900, MIXED_KINDS, most=30,
        check=_mixed_check,
    ),
    "table_csv_v1": Case(
        "the same columns, learned from the text of a CSV", mixed, MIXED_EDITS, 900, MIXED_KINDS, most=30, csv=True,
        check=lambda d: d.schema["town"].grouped and d.schema["flag"].dtype == "bool",
    ),
    "table_given_v1": Case(
        "conditional on a category, a number, an integer with missing cells, and a category of more than 24 states",
        named_mixed, GIVEN_EDITS, 900, options={"given": ["grade", "rain", "count", "town"]},
        check=lambda d: d.mass is not None and d.schema["count"].missing and d.schema["town"].states > 24,
    ),
    "table_given_numbers_v1": Case(
        "conditional, without states to model", plain, PLAIN_EDITS, options={"given": ["x1"]},
        check=lambda d: d.mass is None,
    ),
    "table_given_discrete_v1": Case(
        "conditional, without numbers to model", discrete, DISCRETE_EDITS, options={"given": ["key", "rooms"]},
        check=lambda d: d.flow is None,
    ),
    "table_ensemble_v1": Case(
        "three members", named_mixed, GIVEN_EDITS, options={"members": 3}, check=lambda d: len(d.flows) == 3,
    ),
    "table_ensemble_given_v1": Case(
        "two members, conditional", named_mixed, GIVEN_EDITS, options={"members": 2, "given": ["town", "size"]},
        check=lambda d: len(d.flows) == 2,
    ),
    "table_relation_v1": Case("a total of parts and tax, and a difference", bills, BILL_EDITS, 1500, check=_related),
    "table_relation_given_v1": Case(
        "the same, conditional on the total and on a part of the difference", bills, BILL_EDITS, 1500,
        options={"given": ["total", "seats"]}, check=_related,
    ),
    "table_sum_v1": Case(
        "a sum whose rest is constant: no states", sums, SUM_EDITS, 1500,
        check=lambda d: d.schema["sum"].relation.rest.kind == "constant" and d.mass is None,
    ),
    "table_dates_v1": Case(
        "dates, timestamps with and without a zone, ISO text with and without a time, times of day, durations",
        dates, DATE_EDITS, 400,
        check=lambda d: all(c.kind == "date" for c in d.schema.columns) and d.schema["iso"].form == "%Y-%m-%d",
    ),
    "table_dates_csv_v1": Case(
        "dates as the text of a CSV", lambda n, seed: dates(n, seed).select(["iso", "iso_timed", "wait"]),
        [{"iso_timed": None}, {"iso": "2060-12-31"}, {"iso": None}, {"wait": None}], 400, csv=True,
        check=lambda d: [c.kind for c in d.schema.columns] == ["date", "date", "integer"],
    ),
    "table_discrete_v1": Case(
        "no column for a flow", discrete, DISCRETE_EDITS, check=lambda d: d.flow is None and d.mass is not None
    ),
    "table_single_column_v1": Case(
        "one category: its marginal alone", lambda n, seed: discrete(n, seed).select(["colour"]),
        [{"colour": None}, {"colour": "mauve"}], check=lambda d: d.flow is None and not d.mass.needs_training,
    ),
    "table_heavy_v1": Case(
        "numbers alone: bent marginals, heavy tails, a whitening, a widened base", heavy, HEAVY_EDITS, 1500,
        check=lambda d: d.mass is None and _heavy_check(d) and _components(d) > 0,
    ),
    "table_widened_v1": Case(
        "a base that was widened after training, with states", named_mixed, GIVEN_EDITS, 300,
        options={"depth": 4, "width": 16, "lr": 2e-2, "steps": 200}, check=lambda d: _components(d) > 0,
    ),
    "table_rounded_v1": Case(
        "lattices, coarse steps, significant digits, a sentinel, a circle of quarters", rounded, ROUNDED_EDITS, 900,
        {"hour": "circular:24", "tenths": "quantised:0.1"},
        check=lambda d: all(d.schema[c].coarse for c in ("price", "weight")) and -999 in d.schema["level"].atoms,
    ),
    "table_arrow_types_v1": Case(
        "float32, int8, uint64, decimal, large strings, a dictionary; kinds category and real", arrow_types,
        ARROW_EDITS, kinds=ARROW_KINDS,
    ),
    "table_array_v1": Case(
        "an array without names, by real_nvp with a mixture base of its own", plain, PLAIN_EDITS,
        options={"recipe": "real_nvp", "model": {"components": 2}}, array=True,
        check=lambda d: not d.schema.named and _components(d) == 2,
    ),
    "table_triangular_v1": Case(
        "by triangular_spline_flow, not whitened, not validated and so not widened", plain, PLAIN_EDITS,
        options={"recipe": "triangular_spline_flow", "whiten": False, "val_fraction": 0.0},
        check=lambda d: d.flow.recipe["name"] == "triangular_spline_flow" and _components(d) == 0
        and bool((d.whitening == torch.eye(3)).all()),
    ),
    "table_one_number_v1": Case(
        "a single number with an atom and missing cells", one_number, ONE_EDITS,
        check=lambda d: d.schema["value"].atoms == (0.0,),
    ),
    "table_float64_v1": Case("saved in float64", one_number, ONE_EDITS, double=True),
}  # fmt: skip
