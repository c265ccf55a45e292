"""One frame with every kind of column: its schema, valid samples, scores that agree, files and damaged ones."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import read
from pushforward.tables import TableDensity


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 400
    return pd.DataFrame(
        {
            "real": rng.normal(size=n).astype(np.float32),
            "tenth": np.round(rng.normal(20, 3, n), 1),
            "whole": rng.integers(0, 500, n).astype(np.int16),
            "money": rng.lognormal(3, 1, n),
            "angle": rng.uniform(0, 360, n),
            "when": pd.Timestamp("2021-05-01", tz="Europe/Berlin") + pd.to_timedelta(rng.integers(0, 9999, n), "h"),
            "day": [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in rng.integers(0, 900, n)],
            "flag": rng.random(n) < 0.3,
            "grade": pd.Categorical(rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True),
            "word": rng.choice(["x", "yy", None], n),
            "gap": np.where(rng.random(n) < 0.25, np.nan, rng.normal(size=n)),
            "same": 7,
            "nothing": np.full(n, np.nan),
        }
    )


@pytest.fixture(scope="module")
def wide() -> TableDensity:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings: dict[str, Any] = {"steps": 20, "depth": 2, "width": 16, "stack": False, "progress": "none"}
        return pf.fit_table(frame(), kinds={"angle": "circular:360"}, **settings)


def test_kinds_of_a_frame(wide: TableDensity) -> None:
    kinds = {c.name: c.kind for c in wide.schema.columns}
    assert kinds == {
        "real": "real", "tenth": "quantised", "whole": "integer", "money": "positive", "angle": "circular",
        "when": "date", "day": "date", "flag": "category", "grade": "category", "word": "category", "gap": "real",
        "same": "constant", "nothing": "empty",
    }  # fmt: skip
    assert wide.schema["tenth"].step == pytest.approx(0.1)
    assert "an hour" in wide.schema["when"].describe()
    assert "a day" in wide.schema["day"].describe()


def test_samples_are_valid_rows(wide: TableDensity) -> None:
    data = pa.Table.from_pandas(frame(), preserve_index=False)
    drawn = wide.sample(3000, generator=0)
    assert drawn.column_names == data.column_names
    for name, kind in zip(data.column_names, data.schema.types, strict=True):
        if not pa.types.is_dictionary(kind):
            assert drawn.schema.field(name).type == kind, name
    assert drawn.schema.field("grade").type.ordered
    rows = drawn.to_pandas()
    assert np.isfinite(rows["real"]).all()
    assert np.allclose(rows["tenth"], rows["tenth"].round(1))
    assert rows["whole"].min() >= 0
    assert (rows["money"] > 0).all()
    assert rows["angle"].between(0, 360).all()
    assert (rows["when"].dt.minute == 0).all()
    assert set(rows["flag"]) == {True, False}
    assert set(rows["grade"]) == {"low", "mid", "high"}
    assert set(rows["word"].dropna()) == {"x", "yy"}
    assert abs(rows["word"].isna().mean() - frame()["word"].isna().mean()) < 0.08
    assert abs(rows["gap"].isna().mean() - frame()["gap"].isna().mean()) < 0.08
    assert set(rows["same"]) == {7}
    assert rows["nothing"].isna().all()
    assert torch.isfinite(wide.log_prob(drawn)).all()
    assert wide.sample(50, generator=1).equals(wide.sample(50, generator=1))
    assert not wide.sample(50).equals(wide.sample(50))
    assert wide.sample(0).num_rows == 0


def test_cells_come_back_from_their_code(wide: TableDensity) -> None:
    rows = read(frame())
    for column, cells in zip(wide.schema.columns, rows.columns, strict=True):
        code = column.encode(cells)
        w = code.base + code.width * 0.37
        values, again = cells.to_arrow(), column.decode(code.state, w, np.random.default_rng(0)).to_arrow()
        left, right = (np.array(c.to_pylist(), dtype=object) for c in (values, again))
        if values.type == pa.float32() or column.kind in ("real", "positive", "circular"):
            a, b = (np.array([np.nan if v is None else v for v in c], dtype=float) for c in (left, right))
            assert np.allclose(a, b, equal_nan=True), column.name
        else:
            missing = [v is None or v != v for v in left]
            assert missing == [v is None for v in right], column.name
            assert all(m or a == b for m, a, b in zip(missing, left, right, strict=True)), column.name


def test_a_row_scores_the_same_in_any_table(wide: TableDensity) -> None:
    table = frame()
    scores = wide.log_prob(table, draws=2)
    assert scores.dtype == torch.float64
    assert torch.allclose(wide.log_prob(table.iloc[[7]], draws=2), scores[7], atol=1e-4)
    assert torch.allclose(wide.log_prob(table.iloc[::-1], draws=2), scores.flip(0), atol=1e-4)
    assert torch.allclose(wide.log_prob(table[table.columns[::-1]], draws=2), scores, atol=1e-4)
    assert torch.allclose(wide.log_prob(pl.from_pandas(table), draws=2), scores, atol=1e-4)
    assert wide.latent(table).shape == (400, len(wide.space.numbers))


def test_the_global_generator_is_left_alone(wide: TableDensity) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    wide.sample(10, generator=0)
    wide.log_prob(frame())
    pf.fit_table({"a": np.arange(30) % 7 + 0.123 * np.arange(30)}, steps=3, progress="none", stack=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == legacy).all()  # type: ignore[index]


def test_a_loaded_density_is_the_saved_one(wide: TableDensity, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    pf.save(wide, path, training={"rows": 400})
    again = pf.load(path)
    assert isinstance(again, TableDensity)
    assert again.schema == wide.schema
    assert again.training_summary == {"rows": 400}
    # To rounding: products depend in their last bits on where in memory the weights lie.
    torch.testing.assert_close(again.log_prob(frame()), wide.log_prob(frame()), rtol=1e-6, atol=1e-5)
    drawn, expected = (density.sample(20, generator=3).to_pandas() for density in (again, wide))
    pd.testing.assert_frame_equal(drawn, expected, rtol=1e-5, atol=1e-5)
    pf.save(again, tmp_path / "second.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        pf.load(path, into=pf.real_nvp(2))


def settings_of(header: dict[str, Any]) -> dict[str, Any]:
    return header["settings"]


def columns_of(header: dict[str, Any]) -> list[Any]:
    return header["settings"]["schema"]["columns"]


def inner_of(header: dict[str, Any]) -> dict[str, Any]:
    return header["settings"]["inner"]["settings"]


HEADERS: dict[str, tuple[Any, str]] = {
    "no columns": (lambda h: settings_of(h)["schema"].pop("columns"), "no list of columns"),
    "a column that is none": (lambda h: columns_of(h).append(3), "column must be an object"),
    "unknown fact": (lambda h: columns_of(h)[0].update(command="rm"), "bad value of 'command'"),
    "unknown kind": (lambda h: columns_of(h)[0].update(kind="os"), "bad value of 'kind'"),
    "kind that is a list": (lambda h: columns_of(h)[0].update(kind=[1]), "bad value of 'kind'"),
    "text for a number": (lambda h: columns_of(h)[1]["lattice"].update(step="1"), "bad value of 'step'"),
    "huge number": (lambda h: columns_of(h)[1]["lattice"].update(origin=1e308), "bad value of 'origin'"),
    "no lattice": (lambda h: columns_of(h)[2].pop("lattice"), "contradict each other"),
    "unsteady knots": (lambda h: columns_of(h)[0]["knots"].reverse(), "contradict each other"),
    "no knots": (lambda h: columns_of(h)[0].update(knots=[]), "contradict each other"),
    "more states": (lambda h: columns_of(h)[7].update(missing=True), "does not fit|expected a context of shape"),
    "given unknown": (lambda h: settings_of(h).update(given=["zebra"]), "none of the modelled ones"),
    "given of a wrong kind": (lambda h: settings_of(h).update(given="abc"), "list of column names"),
    "all given": (lambda h: settings_of(h).update(given=[c["name"] for c in columns_of(h)]), "column is given"),
    "huge mass": (lambda h: inner_of(h).update(mass_width=10**9), "bad mass_width"),
    "sizes that are none": (lambda h: inner_of(h).update(sizes="22"), "bad sizes"),
    "no flow": (lambda h: inner_of(h).update(flow=None), "does not fit"),
    "no inner density": (lambda h: settings_of(h).pop("inner"), "unknown kind of density"),
    "impossible share": (lambda h: settings_of(h).update(unsampled=2), "bad unsampled"),
    "twice a name": (lambda h: columns_of(h).append(columns_of(h)[0]), "two columns of one name"),
    "settings of a wrong kind": (lambda h: h.update(settings=[1]), "unknown kind of density"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_gets_one_clear_error(name: str, wide: TableDensity, tmp_path: Path) -> None:
    from pushforward.io.tensors import read_tensors, write_tensors

    path = tmp_path / "m.safetensors"
    pf.save(wide, path)
    header, tensors = read_tensors(path)
    change, message = HEADERS[name]
    change(header)
    write_tensors(path, tensors, header)
    with pytest.raises(ValueError, match=message) as caught:
        pf.load(path)
    assert "m.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
