"""Tables as they are written: what they hold is kept, whole files or none."""

from __future__ import annotations

import datetime
import errno
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushforward.io.frames import Frame
from pushforward.io.tables import SUFFIXES, TableWriter, open_table, read_table, write_table
from table_files import array, csv_file, npy_file, parquet_file


def test_what_a_csv_holds_is_kept_as_it_was(tmp_path: Path) -> None:
    text = 'id,"name, first",x,big\n007,"a ""b""\nc",0.10,12345678901234567890123\n008,,NA,true\n'
    table = read_table(csv_file(tmp_path, text)).with_column("y", np.array([1 / 3, -1e-7]))
    write_table(table, tmp_path / "out.csv")
    rows = ['id,"name, first",x,big,y', '007,"a ""b""', 'c",0.10,12345678901234567890123,0.3333333333333333']
    assert (tmp_path / "out.csv").read_text() == "\n".join([*rows, "008,,NA,true,-1e-7", ""])


def test_a_csv_written_as_parquet_gets_types(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "n,f,s,d\n1,0.5,x,2020-01-01\n2,,y,2020-01-02\n"))
    write_table(table.with_column("y", np.array([1.0, 2.0], np.float32)), tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert [str(t) for t in written.schema.types] == ["int64", "double", "string", "date32[day]", "float"]
    assert written["f"].to_pylist() == [0.5, None]


def test_parquet_columns_keep_their_types_and_metadata_free_text(tmp_path: Path) -> None:
    columns = {"zip": pa.array(["007", None]), "when": pa.array([datetime.date(2020, 1, 1)] * 2), "x": pa.array([1, 2])}
    table = read_table(parquet_file(tmp_path, columns)).with_column("y", np.array([0.5, 0.25]))
    write_table(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").schema.types[:3] == [pa.string(), pa.date32(), pa.int64()]
    write_table(table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "zip,when,x,y\n007,2020-01-01,1,0.5\n,2020-01-01,2,0.25\n"


def test_npy_in_and_out(tmp_path: Path) -> None:
    values = np.array([[1, 2.5], [3, np.nan]], np.float32)  # a column the model does not use may hold anything
    table = read_table(npy_file(tmp_path, values)).with_column("y", np.array([0.5, 0.25], np.float32))
    for name in ("out.npy", "out.csv", "out.parquet"):
        write_table(table, tmp_path / name)
        back = read_table(tmp_path / name).matrix(finite=False)
        assert np.array_equal(back, np.column_stack([values, [0.5, 0.25]]), equal_nan=True)
    assert np.load(tmp_path / "out.npy").dtype == np.float32
    assert (tmp_path / "out.csv").read_text().startswith("x0,x1,y\n1,2.5,0.5\n")


def test_an_empty_first_piece_is_no_second_header_of_npy(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "out.npy") as writer:
        for rows in (0, 3, 0, 2):
            writer.write(array(np.ones((rows, 2)), "a", "b"))
    assert np.array_equal(np.load(tmp_path / "out.npy"), np.ones((5, 2)))


def test_words_do_not_fit_into_npy_nor_lists_into_csv(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column 's' is not numeric"):
        write_table(read_table(csv_file(tmp_path, "a,s\n1,x\n")), tmp_path / "out.npy")
    with pytest.raises(ValueError, match=r"column 'l' .*cannot be written as CSV"):
        write_table(read_table(parquet_file(tmp_path, {"l": [[1], [2]]})), tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out*"))


class FullDisk:
    """A file on a disk that has room for some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content: Any) -> int:
        self.room -= memoryview(content).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@pytest.mark.parametrize("room", [0, 100, 20_000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, room: int
) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_text("old")
    real = open

    def limited(path: Any, mode: str = "r", **more: Any) -> Any:
        return FullDisk(real(path, mode), room) if "w" in mode else real(path, mode, **more)

    monkeypatch.setattr("builtins.open", limited)
    piece = array(np.random.default_rng(0).normal(size=(1000, 2)), "a", "b")

    def write() -> None:
        with TableWriter(out) as writer:
            for _ in range(20):
                writer.write(piece)

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    monkeypatch.undo()
    assert caught.value.filename == str(out)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"old"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_table(array(np.zeros((2, 1)), "a"), tmp_path / "none" / "out.npy")


def test_pieces_of_a_csv_get_types_that_hold_them_all(tmp_path: Path) -> None:
    text = "n,f,d,s\n" + "1,2,2020-01-01,5\n" * 3 + ",2.5,2020-01-02 10:00:00,x\n"
    file = open_table(csv_file(tmp_path, text))
    for name in ("out.parquet", "out.arrow"):
        with TableWriter(tmp_path / name, like=file) as writer:
            for batch in file.batches(1):
                writer.write(batch.with_column("y", np.ones(len(batch))))
        written = read_table(tmp_path / name).to_arrow()
        kinds = [str(t)[:9] for t in written.schema.types]
        assert kinds == ["int64", "double", "timestamp", "string", "double"]
        assert written["s"].to_pylist() == ["5", "5", "5", "x"]


def test_pieces_must_have_the_same_columns(tmp_path: Path) -> None:
    def write() -> None:
        with TableWriter(tmp_path / "o.csv") as out:
            for name in "ab":
                out.write(array(np.zeros((1, 1)), name))

    with pytest.raises(ValueError, match="has the columns 'a'; a piece has 'b'"):
        write()
    with pytest.raises(ValueError, match="nothing was written"), TableWriter(tmp_path / "o.csv"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_array_takes_the_dtype_that_holds_all_pieces(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "rows.npy") as writer:
        writer.write({"a": np.array([1, 2], np.int32), "b": np.array([3, 4], np.int32)})
        writer.write({"a": [2**40], "b": [1]})
        writer.write({"a": [1.5], "b": [float("nan")]})
    expected = [[1, 3], [2, 4], [2**40, 1], [1.5, math.nan]]
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected)
    large = np.array([2**53 + 1, 2**60 + 1])
    write_table({"a": large}, tmp_path / "large.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "large.npy")[:, 0], large)


def test_json_has_numbers_for_decimals_and_null_for_nan(tmp_path: Path) -> None:
    rows = pa.table({"a": pa.array([Decimal("1.50"), None]), "b": [math.nan, 2.0]})
    write_table(rows, tmp_path / "rows.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert lines == [{"a": 1.5, "b": None}, {"a": None, "b": 2.0}]


class InRows:
    """A file that gives its rows one by one, typed each for itself."""

    def __init__(self, path: Path) -> None:
        self.file = open_table(path)

    def batches(self, rows: int = 1) -> Iterator[Frame]:
        return self.file.batches(rows)


def written_in_rows(cells: list[str], folder: Path, suffix: str) -> Path:
    """A file of the column a, of cells of a text file, that was written row by row."""
    return copied(csv_file(folder, "\n".join(["a,b", *(f"{cell},x" for cell in cells), ""])), folder / f"out{suffix}")


def copied(file: Path, path: Path) -> Path:
    rows = InRows(file)
    with TableWriter(path, like=rows) as writer:
        for row in rows.batches():
            writer.write(row)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "0.5"], [1.0, 0.5]),
        (["9", "A9"], ["9", "A9"]),
        (["NA", "2"], [None, 2]),
        (["true", "maybe"], ["true", "maybe"]),
        (["1152921504606846977", "0.5"], [2.0**60, 0.5]),
        (["02131", "2131"], ["02131", "2131"]),
        (["14:31", "x"], ["14:31", "x"]),
    ],
)
def test_cells_of_another_kind_may_follow(cells: list[str], expected: list[Any], suffix: str, tmp_path: Path) -> None:
    assert read_table(written_in_rows(cells, tmp_path, suffix)).to_arrow()["a"].to_pylist() == expected


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        (["2020-01-01 12:00:00.100", "2020-01-01 12:00:00.250"], "timestamp[ms]", ["12:00:00.100", "12:00:00.250"]),
        (["2020-01-01 12:00:00.123456"], "timestamp[us]", ["12:00:00.123456"]),
        (["2020-01-01", "2020-01-01 12:00:00.100"], "timestamp[ms]", ["00:00:00.000", "12:00:00.100"]),
        (
            ["2020-01-01 12:00:00+02:00", "2020-01-01 12:00:00-01:30"],
            "timestamp[s, tz=UTC]",
            ["10:00:00Z", "13:30:00Z"],
        ),
        (["2020-01-01T00:00:00Z", "2020-01-01T12:00:01Z"], "timestamp[s, tz=UTC]", ["00:00:00Z", "12:00:01Z"]),
        (["2020-01-01", "2020-01-01T00:00:00Z"], "string", ["2020-01-01", "2020-01-01T00:00:00Z"]),
        (["14:31", "08:05"], "string", ["14:31", "08:05"]),
    ],
)
def test_times_keep_their_unit_and_zone(cells: list[str], kind: str, expected: list[str], tmp_path: Path) -> None:
    written = read_table(written_in_rows(cells, tmp_path, ".arrow")).to_arrow()["a"]
    assert str(written.type) == kind
    assert [text.removeprefix("2020-01-01 ") for text in written.cast("string").to_pylist()] == expected
    lines = written_in_rows(cells, tmp_path, ".jsonl").read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == [str(value) for value in written.to_pylist()]


def test_infinities_come_back_from_json(tmp_path: Path) -> None:
    write_table({"a": [0.1, -math.inf, math.inf]}, tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert lines == ['{"a": 0.1}', '{"a": "-inf"}', '{"a": "inf"}']
    assert read_table(tmp_path / "rows.jsonl").matrix(finite=False)[:, 0].tolist() == [0.1, -math.inf, math.inf]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_json_of_several_types_is_written_in_pieces(suffix: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path, '{"a": 1}\n{"a": "x"}\n{"a": 0.5}\n', "rows.jsonl")
    assert read_table(copied(path, tmp_path / f"out{suffix}")).to_arrow()["a"].to_pylist() == ["1", "x", "0.5"]
