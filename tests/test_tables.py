"""Tables as they are read: columns by name or by place, rows by a rule, the words for what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pushforward.io.frames import Frame
from pushforward.io.tables import open_table, read_table
from table_files import array, csv_file, npy_file, parquet_file


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "a,b,c\n1,2,x\n3,4.5,y\n"))
    assert table.names == ["a", "b", "c"]
    assert table.matrix(["b", "a"]).tolist() == [[2, 1], [4.5, 3]]
    assert table.matrix(["a"]).dtype == np.float64


def test_columns_that_do_not_exist_or_come_twice(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(ValueError, match="no columns 'c', 'd'; it has 'a', 'b'"):
        table.matrix(["a", "c", "d"])
    with pytest.raises(ValueError, match="more than one column 'a'"):
        table.matrix(["a", "a"])
    with pytest.raises(ValueError, match="no column was chosen"):
        table.matrix([])


def test_model_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "note,b,a\nx,2,1\n"))
    assert table.model_matrix(["a", "b"]).tolist() == [[1, 2]]
    assert table.model_matrix(["b", "a"]).tolist() == [[2, 1]]
    with pytest.raises(ValueError, match="lacks columns 'c', 'd' of the model; it has 'note', 'b', 'a'"):
        table.model_matrix(["a", "c", "d"])


def test_files_without_names_are_matched_by_position(tmp_path: Path) -> None:
    two, five = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    assert read_table(npy_file(tmp_path, two)).model_matrix(["a", "b"]).tolist() == [[1, 2]]
    assert read_table(csv_file(tmp_path, "1,2\n")).model_matrix(["a", "b"]).tolist() == [[1, 2]]
    wide = read_table(npy_file(tmp_path, five))
    with pytest.raises(ValueError, match=r"no column names and 5 columns; the model has 2 \('x0', 'x1'\)"):
        wide.model_matrix(["x0", "x1"])
    assert wide.model_matrix(["x1", "x3"], width=5).tolist() == [[1, 3]]


def test_a_column_is_not_added_twice() -> None:
    with pytest.raises(ValueError, match="already has a column 'a'"):
        array(np.zeros((2, 1)), "a").with_column("a", np.zeros(2))


def test_columns_are_chosen_at_the_door(tmp_path: Path) -> None:
    csv_file(tmp_path, "a,b,c\n1,2,x\n3,4,y\n", "t.csv")
    (tmp_path / "p" / "year=2024").mkdir(parents=True)
    parquet_file(tmp_path / "p" / "year=2024", {"a": [1, 3], "b": [2, 4]}, "t.parquet")
    parquet_file(tmp_path, {"a": [1, 3], "b": [2, 4]}, "t.parquet")
    np.save(tmp_path / "t.npy", [[1, 2], [3, 4]])
    for name, names in (("t.csv", ["b", "a"]), ("t.parquet", ["b", "a"]), ("t.npy", ["x1", "x0"])):
        assert read_table_of(tmp_path / name, names).tolist() == [[2, 1], [4, 3]], name
    assert read_table_of(tmp_path / "p", ["year", "b"]).tolist() == [[2024, 2], [2024, 4]]
    assert read_table_of(tmp_path / "p", ["year"]).tolist() == [[2024], [2024]]
    with pytest.raises(ValueError, match="has no column 'z'; it has 'a', 'b', 'c'"):
        open_table(tmp_path / "t.csv", columns=["z"])


def read_table_of(path: Path, columns: list[str]) -> Any:
    return open_table(path, columns=columns).read().matrix(columns)


def test_rows_are_left_out_by_a_rule(tmp_path: Path) -> None:
    file = open_table(csv_file(tmp_path, "x\n" + "\n".join(map(str, range(100))) + "\n"))

    def keep(numbers: np.ndarray, frame: Frame) -> np.ndarray:
        assert np.array_equal(frame.matrix()[:, 0], numbers)
        file.skipped.add(f"{(numbers % 2).sum()} odd rows")
        return numbers % 2 == 0

    even = file.where(keep)
    assert even.read().matrix()[:, 0].tolist() == list(range(0, 100, 2))
    part, rest = even.split(10, seed=1)
    assert even.skipped.count == 1
    left = np.concatenate([b.matrix()[:, 0] for b in rest.batches(7)])
    assert sorted([*left, *part.matrix()[:, 0]]) == list(range(0, 100, 2))
