"""Rows that are left out: which they are does not depend on how a file is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pushforward.cli import on_fit
from pushforward.cli.options import Reading
from pushforward.io.tables import open_table
from pushforward.tables import infer_schema
from pushforward.tables.bad_rows import drop_bad_rows, good_rows


def written(path: Path, **columns: list[str]) -> Path:
    lines = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_what_a_column_is_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    codes = [*(str(1000 + i) for i in range(95)), *(f"A{i}" for i in range(5)), *(f"B{i}" for i in range(100))]
    sizes = ["1.5"] * 99 + ["wide"] + ["2.5"] * 100
    file = good_rows(open_table(written(tmp_path / "codes.csv", code=codes, size=sizes)))
    for rows in (10, 100, 1000):
        assert sum(map(len, file.batches(rows))) == 199
        assert str(file.skipped) == "1 row skipped: row 100 holds 'wide' in column 'size'"


def test_a_fit_in_passes_tells_what_it_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushforward.cli.on_fit.loaded", lambda file: file)  # as of a table beyond memory
    rng = np.random.default_rng(0)
    cells = [f"{value:.3f}" for value in rng.normal(size=300)]
    cells[7] = "none of your business"
    path = written(tmp_path / "t.csv", a=cells, b=[f"{value:.3f}" for value in rng.normal(size=300)])
    how = Reading(delimiter=None, header=None, encoding=None, skip_bad_rows=True)
    _, _, facts = on_fit._read(str(path), how, None, None, None)
    assert (facts["rows"], facts["skipped_rows"]) == (299, 1)


def test_commas_of_millions_separate_thousands(tmp_path: Path) -> None:
    path = tmp_path / "amounts.tsv"
    path.write_text("amount\tn\n" + "".join(f"{n:,}\t{n % 7}\n" for n in (1234, 12500, 1234567, 950, 8000) * 20))
    amounts = infer_schema(open_table(path).read()).columns[0]
    assert amounts.extent == (950, 1234567)  # type: ignore[attr-defined]


def test_underscores_are_no_part_of_numbers(tmp_path: Path) -> None:
    codes = [f"{i:04d}_{i % 3:02d}" for i in range(100)]
    frame = open_table(written(tmp_path / "codes.csv", code=codes, n=[str(i) for i in range(100)])).read()
    assert frame.columns[0].holds == "texts"
    assert frame.columns[0].texts[3] == "0003_00"


def test_rows_of_a_constant_duration_or_time_of_day_are_kept() -> None:
    table = pa.table({
        "lasts": pa.array([3600] * 50, pa.duration("s")), "at": pa.array([3600] * 50, pa.time32("s")),
        "y": np.arange(50) ** 1.5,
    })  # fmt: skip
    kept, skipped = drop_bad_rows(table, infer_schema(table))
    assert (len(kept), skipped.count) == (50, 0)
