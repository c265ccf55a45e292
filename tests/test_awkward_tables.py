"""Tables as people have them: nanoseconds, zeros, truth values as numbers, rows of the fit in another order."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import pushforward as pf
from pushforward.cli import main
from pushforward.io.tables import read_table
from pushforward.io.times import parse_times
from pushforward.io.writer import write_table
from pushforward.tables import TableDensity, infer_schema

QUICK = {"steps": 5, "stack": False, "progress": "none"}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ran(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_nanoseconds_come_back_from_texts(tmp_path: Path) -> None:
    ticks, good, form = parse_times(["2024-01-15 09:57:39.123456789", "2024-01-15 09:57:40.000000000"])
    assert good.all()
    assert form.endswith("%f")
    assert ticks[1] - ticks[0] == 1_000_000 - 123_456
    seconds = 1_700_000_000 + rng().integers(0, 10**7, 200)
    table = pa.table({"t": pa.array(seconds * 10**9, pa.timestamp("ns")), "x": rng().normal(size=200)})
    density = pf.fit_table(table, **QUICK)
    write_table(density.sample(20, generator=0), tmp_path / "drawn.csv")
    drawn = read_table(tmp_path / "drawn.csv")
    assert bool(density.log_prob(drawn).isfinite().all())
    assert infer_schema(drawn).columns[0].kind == "date"


@pytest.mark.parametrize("share", [0.45, 0.6, 0.9])
def test_zeros_alone_make_no_steps(share: float) -> None:
    x = np.where(rng().random(3000) < share, 0.0, rng().lognormal(size=3000))
    described = infer_schema({"x": x}).describe()
    assert "in steps" not in described
    assert "atom at 0" in described


@pytest.mark.filterwarnings("ignore:rounded values")
def test_many_rounded_values_make_steps() -> None:
    x = 10 * rng().lognormal(size=3000)
    assert "often in steps of 1" in infer_schema({"x": np.where(rng().random(3000) < 0.6, np.round(x), x)}).describe()


def test_what_is_given_may_be_constant() -> None:
    rows = {"k": np.ones(100), "x": rng().normal(size=100)}
    density = pf.fit_table(rows, given=["k"], steps=5, progress="none")
    assert bool(density.log_prob(rows).isfinite().all())
    assert density.sample(2, {"k": [1.0]}, generator=0).num_rows == 2


@pytest.mark.filterwarnings("ignore:rounded values")
def test_a_row_scores_the_same_in_memory_and_in_a_file(tmp_path: Path) -> None:
    cents = rng().integers(-100_000, 100_000, 300)
    table = pa.table({
        "decimal": pa.array([Decimal(int(c)) / 100 for c in cents], pa.decimal128(12, 2)),
        "single": pa.array(np.round(rng().normal(size=300), 1), pa.float32()),
        "count": rng().integers(0, 200, 300), "gap": pa.array(np.where(rng().random(300) < 0.3, np.nan, 1.5 * cents)),
    })  # fmt: skip
    density = pf.fit_table(table, **QUICK)
    write_table(table, tmp_path / "table.csv")
    np.testing.assert_allclose(density.log_prob(read_table(tmp_path / "table.csv")), density.log_prob(table), rtol=1e-6)


def test_times_at_one_time_of_day_are_sampled_at_it() -> None:
    noon = np.datetime64("2021-01-01T12:00:00") + rng().integers(0, 900, 300).astype("timedelta64[D]")
    density = pf.fit_table({"t": noon.astype("datetime64[s]")}, **QUICK)
    drawn = density.sample(200, generator=0)["t"].to_numpy().astype("datetime64[s]").astype(int)
    assert set(drawn % 86400) == {43200}
    assert "in steps of a day" in density.schema.describe()


def test_truth_values_may_be_numbers() -> None:
    rows = {"f": rng().random(200) < 0.5, "x": rng().normal(size=200)}
    density = pf.fit_table(rows, **QUICK)
    scores = density.log_prob(rows)
    for numbers in (rows["f"].astype(int), rows["f"].astype(float), np.where(rows["f"], "True", "FALSE")):
        np.testing.assert_allclose(density.log_prob(rows | {"f": numbers}), scores)


def test_check_knows_the_rows_of_the_fit_in_another_order(tmp_path: Path) -> None:
    model, table = str(tmp_path / "m.safetensors"), {"x": rng().normal(size=400), "c": rng().choice(list("abc"), 400)}
    frame, new = pa.table(table), pa.table({k: v[::-1] for k, v in table.items()})
    write_table(frame, tmp_path / "a.csv")
    ran("fit", str(tmp_path / "a.csv"), "--out", model, "--steps", "20")
    assert "is the table of the fit" in ran("check", model, str(tmp_path / "a.csv"), "--max-rows", "100")
    for name, rows in (("reversed", frame.take(np.arange(400)[::-1])), ("part", frame.slice(0, 150)), ("new", new)):
        rows = rows if name != "new" else pa.table({"x": rng().normal(size=400) + 1e-3, "c": rows["c"]})
        write_table(rows, tmp_path / f"{name}.parquet")
        said = ran("check", model, str(tmp_path / f"{name}.parquet"), "--max-rows", "100")
        assert ("of the rows that the model was fitted to" in said) == (name != "new")
        assert ("is another table than that of the fit" in said) == (name == "new")
    assert "sketch" not in ran("info", model)


def test_texts_that_a_file_cannot_tell_from_missing_cells_are_told(tmp_path: Path) -> None:
    table = pa.table({"c": ["NA", "ZA", None, "BW"], "x": [1.0, 2.0, 3.0, 4.0]})
    with pytest.warns(UserWarning, match="column 'c' has the text 'NA', which is read as a missing cell"):
        write_table(table, tmp_path / "table.csv")
    write_table(table, tmp_path / "table.parquet")


def test_messages_say_what_is_wrong() -> None:
    density = pf.fit_table({"i": np.arange(50) ** 2, "x": rng().normal(size=50)}, **QUICK)
    assert isinstance(density, TableDensity)
    with pytest.raises(ValueError, match="'25' and others are numbers as text: convert the column"):
        density.log_prob(pa.table({"i": pa.array(["25", "36"]).dictionary_encode(), "x": [0.0, 1.0]}))
    texts = density.log_prob({"i": ["25", "36"], "x": [0.0, 1.0]})
    assert texts.equal(density.log_prob({"i": [25, 36], "x": [0.0, 1.0]}))
    with pytest.raises(ValueError, match="there is nothing to learn: no column varies of 'a', 'b'"):
        pf.fit_table({"a": [1.0] * 20, "b": ["u"] * 20}, **QUICK)
    with pytest.raises(ValueError, match="weights must be numbers"):
        pf.fit_table({"x": rng().normal(size=50)}, weights="x", **QUICK)


def test_large_numbers_that_differ_are_shown_whole() -> None:
    assert (
        "100000000000000000 to 100000000000001393" in infer_schema({"n": 10**17 + 7 * np.arange(200)})["n"].describe()
    )


def test_control_characters_are_located(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,\x1ay\n")
    with pytest.raises(ValueError, match=r"control characters, the first in line 3 \(U\+001A\)"):
        read_table(tmp_path / "t.csv")
