"""Rows of tables of the first version: to learn from, and what differs in rows to score."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa


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
