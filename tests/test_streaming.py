"""Tables larger than memory: read, scored, sampled and learned piece by piece, with the results of the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as pf_feather
import pyarrow.parquet as pq
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import of_arrow, read
from pushforward.io.tables import TableFile, TableWriter, open_table, read_table
from pushforward.tables import Scores, TableDensity, drop_bad_rows


def rows(n: int, seed: int = 0, kinds: int = 4) -> pa.Table:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, kinds, n)
    return pa.table(
        {
            "kind": pa.array(np.array([*"abcdefgh"])[kind]),
            "x": rng.normal(size=n) + kind,
            "count": rng.poisson(30 + kind),
            "y": pa.array(rng.normal(size=n), mask=rng.random(n) < 0.2),
        }
    )


def folder(path: Path, n: int, files: int = 3, **more: Any) -> Path:
    path.mkdir()
    for i in range(files):
        pq.write_table(rows(n // files, i, **more), path / f"part-{i}.parquet", row_group_size=n // files // 4)
    return path


@pytest.fixture(scope="module")
def density() -> TableDensity:
    return pf.fit_table(rows(1500, 9), steps=30, depth=2, width=16, stack=False, progress="none")


def files(tmp_path: Path) -> dict[str, Path]:
    """The same 900 rows in every format that holds them."""
    table = rows(900, 1)
    with TableWriter(tmp_path / "t.csv") as writer:
        writer.write(table)
    with TableWriter(tmp_path / "t.tsv") as writer:
        writer.write(table)
    with TableWriter(tmp_path / "t.parquet") as writer:
        for start in range(0, 900, 70):
            writer.write(table.slice(start, 70))
    with TableWriter(tmp_path / "t.arrow") as writer:
        writer.write(table)
    pf_feather.write_feather(table, tmp_path / "t.feather", chunksize=100)
    (tmp_path / "folder").mkdir()
    for i in range(3):
        pq.write_table(table.slice(300 * i, 300), tmp_path / "folder" / f"{i}.parquet", row_group_size=50)
    return {p.name: p for p in tmp_path.iterdir()}


def test_every_format_is_read_piece_by_piece_and_scores_as_the_whole(density: TableDensity, tmp_path: Path) -> None:
    truth = density.log_prob(rows(900, 1)).numpy()
    for name, path in files(tmp_path).items():
        file = open_table(path)
        assert max(len(b) for b in file.batches(64)) <= 64, name
        # To the rounding of float32: the last bits of products depend on how many rows there are and where they lie.
        for batch in (65_536, 64):
            pieces = list(Scores(density, file.batches(batch)))
            assert np.allclose(np.concatenate([v for _, v in pieces]), truth, rtol=0, atol=1e-5), name
        assert [r for b, _ in pieces for r in b.column("x").numbers.tolist()] == file.read().column(
            "x"
        ).numbers.tolist()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.slow
def test_scores_by_threads_keep_their_order(density: TableDensity, threads: int) -> None:
    table = read(rows(70_000, 2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = (table[i : i + 1000] for i in range(0, len(table), 1000))
        streamed = np.concatenate([v for _, v in Scores(density, batches)])
        assert torch.get_num_threads() == threads
        assert np.allclose(streamed, density.log_prob(table), rtol=0, atol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_rows_with_new_values_are_counted_over_batches(density: TableDensity) -> None:
    strange = {"kind": ["z", "a", "z", "a"], "x": [0.5] * 4, "count": [30] * 4, "y": [0.5] * 4}
    scores = Scores(density, [read(strange)[i : i + 2] for i in (0, 2)])
    assert [(v < v.max()).tolist() for _, v in scores] == [[True, False]] * 2
    assert (scores.rows, scores.unseen, scores.impossible) == (4, 2, 0)
    assert "never seen" in scores.errors[0]


def test_an_error_in_a_later_batch_is_raised(density: TableDensity) -> None:
    bad = read({"kind": ["a"], "x": [np.inf], "count": [3], "y": [1.0]})
    good = read(rows(10))
    with pytest.raises(ValueError, match="'x' holds inf"):
        list(Scores(density, [good] * 5 + [bad] + [good] * 5))


def test_samples_come_in_pieces_that_are_the_whole(density: TableDensity) -> None:
    pieces = list(density.sample_batches(70_000, generator=3))
    assert [p.num_rows for p in pieces] == [65_536, 4_464]
    assert pa.concat_tables(pieces).equals(density.sample(70_000, generator=3))
    assert not pieces[0].slice(0, 4000).equals(density.sample(70_000, generator=4).slice(0, 4000))
    assert [p.num_rows for p in density.sample_batches(0, generator=3)] == [0]


def test_a_sample_of_a_file_is_uniform_and_the_rest_is_all_else(tmp_path: Path) -> None:
    n = 150_000
    for path in (tmp_path / "t.npy", tmp_path / "t.csv"):
        with TableWriter(path) as writer:
            writer.write({"i": np.arange(n)})
        file = open_table(path)
        sample = file.sample(2000, seed=1).matrix()[:, 0]
        assert len(np.unique(sample)) == 2000
        assert (np.diff(sample) > 0).all()
        assert abs(sample.mean() / n - 0.5) < 0.04
        assert abs((sample < n / 10).mean() - 0.1) < 0.04
        assert np.array_equal(sample, file.sample(2000, seed=1).matrix()[:, 0])
        part, rest = file.split(2000, seed=1)
        assert np.array_equal(part.matrix()[:, 0], sample)
        another, last = rest.split(1000, seed=2)
        everything = [part, another, *last.batches(7000)]
        assert np.array_equal(np.sort(np.concatenate([t.matrix()[:, 0] for t in everything])), np.arange(n))
    assert len(file.sample(10 * n)) == n


def test_row_groups_come_in_random_order_each_row_once(tmp_path: Path) -> None:
    file = open_table(folder(tmp_path / "f", 1200))
    plain, mixed = ([x for b in file.batches(50, order=o) for x in b.column("x").numbers.tolist()]
                    for o in (None, np.random.default_rng(0)))  # fmt: skip
    assert plain != mixed
    assert sorted(plain) == sorted(mixed)
    part, rest = file.split(100)
    left = [x for b in rest.batches(50, order=np.random.default_rng(1)) for x in b.column("x").numbers.tolist()]
    assert sorted(left + part.column("x").numbers.tolist()) == sorted(plain)


@pytest.mark.slow
def test_a_folder_is_learned_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "f", 30_000, kinds=4)
    rare = pa.table({"kind": ["rare", "a"], "x": [0.0, 99.0], "count": pa.array([None, 3], pa.int64()), "y": [1.0, 2]})
    pq.write_table(rare, path / "part-9.parquet")
    file = open_table(path)
    monkeypatch.setattr("pushforward.tables.drawing.SAMPLE_CELLS", 1)
    monkeypatch.setattr("pushforward.tables.drawing.SAMPLE_ROWS", 500)  # without the rare rows
    assert "rare" not in file.sample(500, 1).column("kind").texts
    monkeypatch.setattr(TableFile, "read", lambda self: pytest.fail("the whole file was read"))
    settings: dict[str, Any] = {"steps": 300, "depth": 2, "width": 16, "progress": "none", "seed": 0}
    density = pf.fit_table(file, memory_rows=20_000, **settings, stack=False)
    assert "rare" in density.schema["kind"].categories
    assert density.schema["count"].missing
    assert torch.isfinite(density.log_prob(rare)).all()
    assert density.training_summary is not None
    assert density.training_summary["rows"] + density.training_summary["val_rows"] == 30_002
    test = rows(3000, 77)
    held = pf.fit_table(pa.concat_tables([rows(10_000, i) for i in range(3)]), **settings, stack=False)
    assert abs(float(density.log_prob(test).mean() - held.log_prob(test).mean())) < 0.1
    assert abs(density.training_summary["best_val_nll"] + float(density.log_prob(test).mean())) < 0.2


def test_epochs_are_passes_over_the_whole_file(tmp_path: Path) -> None:
    file = open_table(folder(tmp_path / "f", 6000))
    density = pf.fit_table(file, memory_rows=100, epochs=2, batch=500, depth=2, width=8, progress="none", stack=False)
    assert density.training_summary is not None
    assert density.training_summary["flow"]["steps"] == 22  # of 5,400 rows, 2 times
    with pytest.raises(ValueError, match="weights need a table in memory"):
        pf.fit_table(file, memory_rows=100, weights=np.ones(6000))


def test_a_tenth_of_a_text_file_that_does_not_tell_its_rows_is_held_out(tmp_path: Path) -> None:
    pa.csv.write_csv(rows(2000, 0), tmp_path / "t.csv")
    file = open_table(tmp_path / "t.csv")
    assert file.rows is None
    density = pf.fit_table(file, memory_rows=500, steps=5, depth=2, width=8, progress="none", stack=False)
    assert density.training_summary is not None
    assert (density.training_summary["rows"], density.training_summary["val_rows"]) == (1800, 200)


@pytest.mark.filterwarnings("ignore:.*never seen")
def test_a_small_file_is_simply_read(tmp_path: Path) -> None:
    path = folder(tmp_path / "f", 300)
    settings: dict[str, Any] = {"steps": 5, "depth": 2, "width": 8, "progress": "none"}
    streamed = pf.fit_table(open_table(path), **settings, stack=False)
    assert torch.equal(
        streamed.log_prob(rows(50)), pf.fit_table(read_table(path), **settings, stack=False).log_prob(rows(50))
    )


def test_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = [f"{i}.5,{'ab'[i % 2]},2020-01-{i % 28 + 1:02d}" for i in range(40)]
    lines[3], lines[7], lines[9] = "oops,a,2020-01-01", "inf,b,2020-01-01", "1,2"
    path = tmp_path / "t.csv"
    path.write_text("x,k,day\n" + "\n".join(lines) + "\n")
    file = open_table(path, skip_bad_rows=True)
    table, report = drop_bad_rows(file.read(), report=file.skipped)
    assert (len(table), report.count) == (37, 3)
    assert str(report) == (
        "3 rows skipped: line 11 has 2 cells; row 4 holds 'oops' in column 'x'; row 8 holds 'inf' in column 'x'"
    )
    schema = pf.infer_schema(table, {"x": "real"})
    late = of_arrow(pa.table({"x": ["1.5", "2.5"], "k": ["a", "b"], "day": ["2020-01-05", "soon"]}), text=True)
    kept, report = drop_bad_rows(late, schema, start=100)
    assert len(kept) == 1
    assert "row 102 holds 'soon' in column 'day'" in str(report)


PEAK = """
import resource, sys, numpy as np, pushforward as pf
from pushforward.io.tables import TableWriter, open_table
from pushforward.tables import Scores
density = pf.load(sys.argv[1])
with TableWriter(sys.argv[3]) as writer:
    for batch, values in Scores(density, open_table(sys.argv[2]).batches(4096)):
        writer.write(batch.with_column("log_density", values))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_memory_is_flat_in_the_number_of_rows(density: TableDensity, tmp_path: Path, suffix: str) -> None:
    pf.save(density, tmp_path / "m.safetensors")
    peaks = []
    for pieces in (10, 100):
        path = tmp_path / f"{pieces}{suffix}"
        with TableWriter(path) as writer:
            for i in range(pieces):
                writer.write(rows(10_000, i))
        code = [sys.executable, "-c", PEAK, str(tmp_path / "m.safetensors"), str(path), str(tmp_path / f"out{suffix}")]
        peaks.append(float(subprocess.run(code, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 100  # MiB; the table grows by five times that as text
