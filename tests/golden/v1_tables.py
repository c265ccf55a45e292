"""The tables whose golden files `make_v1_more.py` wrote: rows to learn from, and rows to score."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch

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


def _some(rng: np.random.Generator, values: Any, share: float = 0.1, kind: Any = None) -> pa.Array:
    """Values with missing cells."""
    return pa.array(values, kind, mask=rng.random(len(values)) < share)


def mixed(n: int, seed: int) -> pa.Table:
    """Columns of nearly every kind."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, 41)
    town = rng.choice(np.array([f"town {i}" for i in range(40)]), n, p=p / p.sum())
    grade = rng.choice(np.array(["low", "mid", "high"]), n, p=[0.5, 0.3, 0.2])
    up = np.select([grade == "low", grade == "mid"], [0.0, 1.0], 2.5)
    share = np.where(rng.random(n) < 0.1, rng.integers(0, 2, n), rng.beta(2 + up, 3))
    rain = np.where(rng.random(n) < 0.4, 0.0, rng.normal(3 + up, 2, n))
    columns = {
        "town": town,
        "grade": _some(rng, grade),
        "count": _some(rng, rng.poisson(60 + 20 * up)),
        "price": np.round(np.round((20 + 5 * up + 4 * rng.normal(size=n)) / 0.05) * 0.05, 2),
        "size": np.exp(1.2 * rng.normal(size=n) + up),
        "share": share,
        "angle": (40 * rng.normal(size=n) + 350 + 30 * up) % 360,
        "rain": _some(rng, rain),
        "flag": _some(rng, rng.random(n) < 0.2 + 0.2 * up),
        "always": np.full(n, 7),
        "empty": pa.nulls(n, pa.float64()),
        "id": np.array([f"row-{seed}-{i}" for i in range(n)]),
        "temperature": _some(rng, 10 + 3 * up + rng.normal(size=n)),
    }
    return pa.table({k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()})


MIXED_KINDS = {"share": "bounded:0:1", "angle": "circular:360", "size": "positive"}
MIXED_EDITS: list[dict[str, Any]] = [
    {"grade": None},
    {"count": None},
    {"rain": None},
    {"rain": float("nan"), "temperature": float("nan")},
    {"rain": 0.0},
    {"flag": None},
    {"grade": None, "count": None, "rain": None, "flag": None, "temperature": None},
    {"town": "town 39"},
    {"share": 0.0},
    {"share": 1.0},
    {"angle": 0.0},
    {"angle": 359.999},
    {"size": 1e6},
    {"size": 1e-9, "temperature": -400.0},
    {"count": 100_000},
    # impossible, or never seen
    {"town": "elsewhere"},
    {"town": None},
    {"price": None},
    {"size": None},
    {"size": -1.0},
    {"share": 1.5},
    {"angle": 400.0},
    {"always": 8},
    {"always": None},
    {"empty": 1.0},
]


def _mixed_check(density: Any) -> bool:
    of = density.schema
    kinds = {"always": "constant", "empty": "empty", "id": "dropped", "rain": "real", "price": "quantised"}
    return (
        of["town"].grouped and of["town"].states > 24 and of["count"].missing and of["rain"].atoms == (0.0,)
        and all(of[name].kind == kind for name, kind in kinds.items())
    )  # fmt: skip


def named_mixed(n: int, seed: int) -> pa.Table:
    """Fewer columns, of which one has many categories."""
    return mixed(n, seed).select(["town", "grade", "count", "rain", "temperature", "size"])


GIVEN_EDITS: list[dict[str, Any]] = [
    {"grade": None},
    {"grade": "unheard of"},
    {"count": None},
    {"count": 5000},
    {"rain": None},
    {"rain": 0.0},
    {"town": "town 39"},
    {"town": "elsewhere"},
    {"temperature": None},
    {"temperature": 1e4},
    {"temperature": None, "rain": None, "count": None, "grade": None},
    {"size": None},
    {"size": 3.0},
    {"size": 0.0},
]


def bills(n: int, seed: int) -> pa.Table:
    """A total of parts and tax, and a difference."""
    rng = np.random.default_rng(seed)
    fare = rng.gamma(4, 5, n).round(2)
    tip = (0.2 * fare * rng.random(n)).round(2)
    tax = rng.choice([0.0, 0.5, 3.3], n, p=[0.5, 0.3, 0.2])
    rides, seats = rng.integers(20, 400, n), rng.integers(30, 500, n)
    return pa.table(
        {"fare": fare, "tip": tip, "rides": rides, "seats": seats, "total": (fare + tip + tax).round(2),
         "free": seats - rides + rng.integers(-1, 2, n), "other": rng.integers(0, 300, n)}
    )  # fmt: skip


BILL_EDITS: list[dict[str, Any]] = [
    {"fare": 10.0, "tip": 1.0, "total": 11.0},
    {"fare": 10.0, "tip": 1.0, "total": 11.5},
    {"fare": 10.0, "tip": 1.0, "total": 14.3},
    {"fare": 900.0, "tip": 0.0, "total": 900.0},
    {"seats": 100, "rides": 90, "free": 10},
    # impossible, or never seen
    {"fare": 10.0, "tip": 1.0, "total": 12.17},
    {"total": None},
    {"fare": None},
    {"seats": None},
    {"seats": 100, "rides": 90, "free": 40},
    {"tip": -1.0},
]


def _related(density: Any) -> bool:
    found = {c.name: dict(c.relation.parts) for c in density.schema.columns if c.relation is not None}
    return found == {"total": {"fare": 1, "tip": 1}, "free": {"seats": 1, "rides": -1}}


def sums(n: int, seed: int) -> pa.Table:
    """A sum that nothing departs from: its rest is constant."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 500, n), rng.integers(0, 90, n)
    return pa.table({"a": a, "b": b, "sum": a + b + 7})


SUM_EDITS: list[dict[str, Any]] = [{"a": 5, "b": 3, "sum": 15}, {"a": 5, "b": 3, "sum": 16}, {"a": None}, {"sum": None}]


def dates(n: int, seed: int) -> pa.Table:
    """Dates, times and durations of each Arrow type that was read, and as text."""
    rng = np.random.default_rng(seed)
    day = rng.integers(15_000, 19_000, n)
    at = np.round(10 * 3600 + 9000 * rng.normal(size=n)).astype(np.int64).clip(0, 86_399)
    text = [(datetime.date(1970, 1, 1) + datetime.timedelta(int(d) + 3)).isoformat() for d in day]
    timed = [f"{d} {t // 3600:02}:{t // 60 % 60:02}:{t % 60:02}" for d, t in zip(text, at.tolist(), strict=True)]
    stamps = day * 86_400 + at
    return pa.table(
        {
            "day": _some(rng, day.astype(np.int32), kind=pa.int32()).cast(pa.date32()),
            "long": pa.array(day * 86_400_000, pa.int64()).cast(pa.date64()),
            "zoned": pa.array((stamps * 1_000_000), pa.timestamp("us", "Europe/Berlin")),
            "naive": pa.array((stamps // 60 * 60), pa.timestamp("s")),
            "fine": _some(rng, stamps * 10**9 + rng.integers(0, 10**9, n), kind=pa.timestamp("ns")),
            "iso": pa.array(text),
            "iso_timed": _some(rng, np.array(timed)),
            "of_day": pa.array(at.astype(np.int32), pa.int32()).cast(pa.time32("s")),
            "of_day_us": _some(rng, at * 1_000_000, kind=pa.int64()).cast(pa.time64("us")),
            "wait": pa.array(rng.integers(0, 90_000, n), pa.duration("ms")),
        }
    )


def _when(*numbers: int) -> datetime.datetime:
    return datetime.datetime(*numbers)  # type: ignore[arg-type]


DATE_EDITS: list[dict[str, Any]] = [
    {"day": None},
    {"fine": None},
    {"iso_timed": None},
    {"of_day_us": None},
    {"day": None, "fine": None, "iso_timed": None, "of_day_us": None},
    {"day": datetime.date(1950, 2, 28)},
    {"iso": "2060-12-31"},
    {"iso_timed": "1999-12-31 23:59:59"},
    {"zoned": _when(2015, 3, 29, 0, 30).replace(tzinfo=datetime.UTC)},
    {"of_day": datetime.time(0, 0)},
    # impossible, or never seen
    {"naive": _when(2015, 3, 29, 0, 30, 17)},
    {"naive": None},
    {"iso": None},
    {"of_day": None},
    {"wait": None},
]


def discrete(n: int, seed: int) -> pa.Table:
    """No column for a flow: categories, truth values, and numbers of few values."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(np.array(["red", "green", "blue"]), n, p=[0.5, 0.3, 0.2])
    many = rng.choice(np.array([f"k{i}" for i in range(60)]), n)
    return pa.table(
        {
            "colour": pa.array(colour),
            "key": pa.array(many).dictionary_encode(),
            "rooms": _some(rng, rng.integers(1, 7, n) + (colour == "red")),
            "half": rng.choice([0.5, 1.0, 2.5], n),
            "flag": rng.random(n) < 0.3,
            "code": _some(rng, rng.integers(100, 104, n)),
        }
    )


DISCRETE_EDITS: list[dict[str, Any]] = [
    {"rooms": None},
    {"code": None},
    {"rooms": None, "code": None},
    {"rooms": 12},
    {"half": 1.7},
    {"half": -40.0},
    {"key": "k59"},
    # impossible, or never seen
    {"colour": "mauve"},
    {"colour": None},
    {"key": None},
    {"key": "k60"},
    {"flag": None},
    {"half": None},
    {"code": 105},
]


def heavy(n: int, seed: int) -> pa.Table:
    """Correlated numbers, skewed or of heavy tails, without states."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    half = rng.standard_t(1.5, n // 2)
    t = rng.permutation(np.concatenate([half, -half]))
    return pa.table(
        {
            "skewed": np.exp(z[:, 0]) - 2.0,
            "two_humps": z[:, 1] + np.where(rng.random(n) < 0.5, 4.0, -4.0),
            "symmetric": t,
            "near": t + 0.3 * z[:, 0],
            "gamma": rng.gamma(0.7, 2.0, n) + 1e-3,
        }
    )


HEAVY_EDITS: list[dict[str, Any]] = [
    {"skewed": 500.0},
    {"skewed": -30.0},
    {"symmetric": 1e5, "near": 1e5},
    {"symmetric": -1e5},
    {"two_humps": 0.0},
    {"two_humps": 60.0},
    {"gamma": 1e-8},
    {"gamma": 1e4},
    # impossible, or never seen
    {"skewed": None},
    {"gamma": -1.0},
    {"near": float("nan")},
]


def _heavy_check(density: Any) -> bool:
    knots = [len(c.knots) for c in density.layout.numbers]
    off = density.whitening.abs().sum() - density.whitening.diag().abs().sum()
    return max(knots) > 2 and min(knots) == 2 and any(any(c.heavy) for c in density.layout.numbers) and off > 0.1


def rounded(n: int, seed: int) -> pa.Table:
    """Lattices: decimals, coarse steps among finer ones, scaled whole numbers, a sentinel."""
    rng = np.random.default_rng(seed)
    price = np.round(rng.gamma(6, 500, n)).astype(np.int64)
    price = np.where(rng.random(n) < 0.6, price // 100 * 100, price)
    weight = rng.normal(70, 12, n)
    weight = np.where(rng.random(n) < 0.7, np.round(weight), weight)
    scaled = (rng.poisson(40, n) - 40.0) / 6.3
    level = rng.integers(0, 200, n).astype(np.float64) + 0.25
    return pa.table(
        {
            "price": price,
            "weight": weight,
            "scaled": scaled,
            "shown": np.array([float(f"{v:.9g}") for v in (rng.poisson(90, n) - 12) / 211]),
            "even": _some(rng, 2 * rng.integers(100, 200, n) + 1),
            "level": np.where(rng.random(n) < 0.05, -999.0, level),
            "tenths": np.round(rng.normal(3, 1, n), 1),
            "hour": rng.integers(0, 24 * 4, n) / 4,
        }
    )


ROUNDED_EDITS: list[dict[str, Any]] = [
    {"price": 2000},
    {"price": 2001},
    {"price": 100_000},
    {"weight": 70.0},
    {"weight": 70.123456},
    {"scaled": 0.0},
    {"even": None},
    {"level": -999.0},
    {"tenths": 30.0},
    {"hour": 0.0},
    {"hour": 23.75},
    # impossible, or never seen
    {"even": 300},
    {"price": None},
    {"hour": 30.0},
]


def arrow_types(n: int, seed: int) -> pa.Table:
    """Arrow types that differ from Python's own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    cents = np.round(5000 + 900 * x).astype(np.int64)
    return pa.table(
        {
            "single": pa.array((x + rng.normal(size=n)).astype(np.float32)),
            "small": pa.array(rng.integers(-100, 100, n).astype(np.int8)),
            "unsigned": pa.array(rng.integers(0, 60_000, n).astype(np.uint64)),
            "money": pa.array(cents).cast(pa.decimal128(19, 0)).cast(pa.decimal128(12, 2)),
            "large": pa.array(rng.choice(np.array(["x", "y", "z"]), n)).cast(pa.large_string()),
            "coded": pa.array(rng.choice(np.array(["p", "q"]), n)).dictionary_encode(),
            "number_as_category": rng.integers(0, 9, n),
            "whole_as_real": rng.integers(0, 1000, n),
        }
    )


ARROW_KINDS = {"number_as_category": "category", "whole_as_real": "real"}
ARROW_EDITS: list[dict[str, Any]] = [
    {"single": 3.0e6},
    {"small": 127},
    {"unsigned": 0},
    {"large": "x", "coded": "q"},
    {"single": None},
    {"large": "w"},
    {"number_as_category": 9},
    {"coded": None},
]


def plain(n: int, seed: int) -> pa.Table:
    """Three numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -0.7], [0.0, 0.0, 0.4]]) + [1.0, 20.0, -5.0]
    return pa.table({f"x{i}": x[:, i] for i in range(3)})


PLAIN_EDITS: list[dict[str, Any]] = [{"x0": 100.0}, {"x1": -100.0, "x2": 50.0}, {"x0": 1.0}, {"x2": float("nan")}]


def one_number(n: int, seed: int) -> pa.Table:
    """A number with an atom and missing cells beside a flag."""
    rng = np.random.default_rng(seed)
    flag = rng.choice(np.array(["a", "b"]), n, p=[0.7, 0.3])
    value = np.where(rng.random(n) < 0.4, 0.0, np.where(flag == "a", 0.0, 3.0) + rng.normal(size=n))
    return pa.table({"flag": flag, "value": _some(rng, value)})


ONE_EDITS: list[dict[str, Any]] = [
    {"value": None}, {"value": 0.0}, {"value": -0.0}, {"value": 50.0}, {"flag": "b", "value": 3.0},
    {"flag": "b", "value": None}, {"flag": None}, {"flag": "c"},
]  # fmt: skip


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
