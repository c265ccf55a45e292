"""Tables of text: what separates cells, encodings, and what is refused in which words."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from pushforward.io.tables import open_table, read_table
from table_files import csv_file, npy_file


def test_a_first_line_of_numbers_is_data(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "1,2\n3,4\n"))
    assert table.names == ["x0", "x1"]
    assert table.matrix().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        '"a","b"\n"1","2"\n"3","4"\n',
        "a, b\n1, 2\n\n 3,+4\n\n",
        "\n\na,b\n1e0,2.\n3,0.4E1",
    ],
    ids=["byte order mark", "windows", "quoted", "blanks", "blank start, no end"],
)
def test_csv_dialects_mean_the_same(tmp_path: Path, text: str) -> None:
    table = read_table(csv_file(tmp_path, text))
    assert table.names == ["a", "b"]
    assert table.matrix().tolist() == [[1, 2], [3, 4]]


BAD_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "header only": ("a,b\n", "no rows, only a header"),
    "duplicate": ("a,b,a\n1,2,3\n", "more than one column 'a'"),
    "short row": ("a,b\n1,2\n3\n", "line 3 has 1 cell, the first line has 2"),
    "long row": ("a,b\n1,2,3\n", "line 2 has 3 cells"),
    "open quote": ('a,b\n1,"2\n3,4\n', "row 1: a quote is not closed, and the line after it is part of its cell"),
    "binary": (bytes(range(256)), "UTF-8"),
    "words": ("a,b\n1,2\n3,x\n", "column 'b' is not numeric: row 2 holds 'x' .*--columns a$"),
    "only words": ("a\nx\n", "no column is numeric"),
    "missing": ("a,b\n1,2\n,3\n", "column 'a' has a missing cell or NaN in row 2"),
    "NA": ("a,b\n1,NA\n2,3\n", "column 'b' has a missing cell or NaN in row 1"),
    "nan": ("a,b\n1,nan\nNaN,3\n", "column 'a' has a missing cell or NaN in row 2"),
    "infinity": ("a,b\n1,2\n1,-inf\n", "column 'b' has -inf in row 2 .*below the header"),
    "too large": ("a\n1\n1e999\n1e999\n", "column 'a' has inf in row 2, the first of 2 values"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_bad_csv_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD_CSV[name]
    path = csv_file(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path).matrix()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_late_ragged_row_is_found_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 300002 has 1 cell,"):
        read_table(csv_file(tmp_path, "a,b\n" + "1,2\n" * 300_000 + "3\n" + "1,2\n" * 1000))


def test_a_late_word_is_found_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column 'b' is not numeric: row 300001 holds 'oops'"):
        read_table(csv_file(tmp_path, "a,b\n" + "1,2\n" * 300_000 + "3,oops\n")).matrix()


def test_words_in_a_column_that_is_not_asked_for_do_no_harm(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "a,b\n1,x\n2,\n"))
    assert table.matrix(["a"]).tolist() == [[1], [2]]
    assert table.numeric_columns() == ["a"]


def test_numbers_as_only_python_reads_them(tmp_path: Path) -> None:
    assert read_table(csv_file(tmp_path, "a\n1_000\nTrue\nfalse\n7\n")).matrix().ravel().tolist() == [1000, 1, 0, 7]


def test_the_hint_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'name,the age,"a,b"\nx,1,2\n')
    with pytest.raises(ValueError, match=r"""--columns 'the age,"a,b"'$"""):
        read_table(path).matrix()


DIALECTS: dict[str, tuple[str, str]] = {
    "semicolons and decimal commas": ("d.csv", "a;b\n1,5;-2\n3;,25\n"),
    "tabs": ("d.tsv", "a\tb\n1.5\t-2\n3\t0.25\n"),
    "tabs and decimal commas": ("d.txt", "a\tb\n1,5\t-2\n3\t0,25\n"),
    "bars": ("d.csv", "a|b\n1.5|-2\n3|0.25\n"),
    "blanks": ("d.dat", "  a   b\n 1.5  -2\n3\t .25  \n"),
    "blanks, windows": ("d.txt", "a b \r\n1.5 -2 \r\n 3 .25\r\n"),
    "header in a comment": ("d.txt", "# made by hand\n# a b\n1.5 -2\n3 .25\n"),
    "comments": ("d.csv", "# one, two, three\n\n# four\na,b\n1.5,-2\n3,.25\n"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_what_separates_cells_is_found_out(tmp_path: Path, name: str) -> None:
    file, text = DIALECTS[name]
    table = read_table(csv_file(tmp_path, text, file))
    assert table.names == ["a", "b"]
    assert table.matrix().tolist() == [[1.5, -2], [3, 0.25]]


def test_what_is_found_out_can_be_said(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1;2\n3;4\n")
    assert open_table(path, delimiter=",").names == ("1;2",)
    assert open_table(path, header=True).names == ("1", "2")
    assert open_table(csv_file(tmp_path, "a,b\nc,d\n"), header=False).read().to_arrow().num_rows == 2
    assert open_table(csv_file(tmp_path, "a b\n1 2\n"), delimiter="whitespace").names == ("a", "b")
    with pytest.raises(ValueError, match="one ASCII character"):
        open_table(path, delimiter="::")
    with pytest.raises(ValueError, match="is no text"):
        open_table(npy_file(tmp_path, np.zeros(2)), header=True)


def test_blanks_within_cells_separate_nothing(tmp_path: Path) -> None:
    assert read_table(csv_file(tmp_path, "city\nNew York\nLos Angeles\n")).names == ["city"]
    quoted = read_table(csv_file(tmp_path, 'mpg name\n18.0   "chevrolet malibu"\n', "d.data"))
    assert quoted.to_arrow().to_pylist() == [{"mpg": "18.0", "name": "chevrolet malibu"}]


def test_a_first_line_that_is_like_the_others_is_data(tmp_path: Path) -> None:
    assert not open_table(csv_file(tmp_path, "39,Private\n50,State\n38,Private\n")).named
    assert open_table(csv_file(tmp_path, "country,1990\nA,1\nB,2\n")).names == ("country", "1990")


def test_packed_text(tmp_path: Path) -> None:
    path = csv_file(tmp_path, gzip.compress(b"a,b\n1,2\n"), "data.csv.gz")
    assert read_table(path).matrix().tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"data\.csv\.gz is damaged"):
        open_table(csv_file(tmp_path, b"a,b\n1,2\n", "data.csv.gz"))


def test_ragged_rows_are_skipped_where_asked_and_counted_anew_in_each_pass(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\n1,2\n3\n4,5,6\n7,8\n" + "9\n" * 5)
    file = open_table(path, skip_bad_rows=True)
    for _ in range(2):
        assert file.read().matrix().tolist() == [[1, 2], [7, 8]]
        assert file.skipped.count == 7
        assert str(file.skipped).startswith("7 rows skipped: line 3 has 1 cell; line 4 has 3 cells; line 6 has 1 cell")
    with pytest.raises(ValueError, match="line 3 has 1 cell, the first line has 2"):
        list(open_table(path).batches(1))


TEXTS = {"latin-1": "latin-1", "utf-16": "utf-16", "utf-16 big end first": "utf-16-be"}


@pytest.mark.parametrize("name", TEXTS)
def test_other_encodings_are_detected_and_told(tmp_path: Path, name: str) -> None:
    mark = "\ufeff" if name == "utf-16 big end first" else ""
    path = csv_file(tmp_path, (mark + "größe;Ort\n1,5;Köln\n2,5;Münster\n").encode(TEXTS[name]))
    with pytest.warns(UserWarning, match=f"is read as {name[:6]}"):
        frame = read_table(path)
    assert frame.names == ["größe", "Ort"]
    assert frame.matrix(["größe"]).tolist() == [[1.5], [2.5]]
    assert frame.column("Ort").texts == ["Köln", "Münster"]


def test_an_encoding_can_be_said(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\nЖ,1\n".encode("cp1251"))
    assert open_table(path, encoding="cp1251").read().column("a").texts == ["Ж"]
    with pytest.raises(ValueError, match="unknown encoding 'no'"):
        open_table(path, encoding="no")
    with pytest.raises(ValueError, match="no readable CSV in UTF-8"):
        open_table(path, encoding="utf-8")


def test_an_encoding_is_seen_below_the_beginning(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ("a,b\n" + "x,1\n" * 500_000 + "é,1\n").encode("latin-1"))
    with pytest.warns(UserWarning, match="latin-1"):
        assert read_table(path).column("a").shown(500_000) == "'é'"


def test_the_types_of_a_text_file_are_those_of_its_first_reading(tmp_path: Path) -> None:
    file = open_table(csv_file(tmp_path, "x,k\n" + "1,1\n" * 50 + "2.5,b\n"))
    assert {b.column("k").holds for b in file.batches(10)} == {"numbers", "texts"}
    file.read()
    assert {b.column("k").holds for b in file.batches(10)} == {"texts"}
    assert {str(b.column("x").require_numbers().dtype) for b in file.batches(10)} == {"float64"}


CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "tables"


@pytest.mark.skipif(not CASES.is_dir(), reason="the collected messy files (../shared/cases/tables) are not here")
@pytest.mark.filterwarnings("ignore:.* is read as:UserWarning")
def test_collected_messy_files_read() -> None:
    refused = {"trailing.csv": "more than one column ''"}  # what is accepted later
    for path in sorted(p for p in CASES.iterdir() if p.suffix in (".csv", ".jsonl")):
        if path.name in refused:
            with pytest.raises(ValueError, match=refused[path.name]):
                read_table(path)
            continue
        frame = read_table(path)
        assert len(frame) > 0, path.name
        if path.suffix == ".csv":
            assert all(column.to_arrow().null_count == 0 for column in frame.columns), path.name


@pytest.mark.parametrize("inside", ["a, b", "a text\nof two lines", 'it said ""no""'])
def test_a_quote_that_is_not_closed(tmp_path: Path, inside: str) -> None:
    lines = [f"{k / 7:.3f},item {k % 5}" for k in range(300)]
    lines[20] = f'0.5,"{inside}"'
    (tmp_path / "good.csv").write_text("\n".join(["v,item", *lines, ""]))
    assert len(read_table(tmp_path / "good.csv")) == 300
    lines[20] = '0.5,"item'
    (tmp_path / "bad.csv").write_text("\n".join(["v,item", *lines, ""]))
    with pytest.raises(
        ValueError, match="row 21: a quote is not closed, and the 279 lines after it are part of its cell"
    ):
        read_table(tmp_path / "bad.csv")
