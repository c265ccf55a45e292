"""Numbers as texts with units, separators, leading zeros and brackets: read, modelled, and written as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pushforward as pf
from pushforward.io.frames import read
from pushforward.io.notation import Notation, find_notation, is_pattern
from pushforward.tables.bad_rows import drop_bad_rows

COLUMNS = {  # pattern: texts, numbers
    "$#,##0.00": (["$1,234.50", "$12.00", "-$3.10"], [1234.5, 12.0, -3.1]),
    "#.##0,00 €": (["1.234,50 €", "12,00 €", "-3,10 €"], [1234.5, 12.0, -3.1]),
    "€#,##0": (["€4,026", "€811"], [4026, 811]),
    "R$ #.##0,00": (["R$ 1.234,00", "R$ 5,10"], [1234.0, 5.1]),
    "USD #,##0.00": (["USD 5.00", "USD 1,005.25"], [5.0, 1005.25]),
    "0.#%": (["47.2%", "2%", "100%"], [47.2, 2.0, 100.0]),
    "#,##0.00;(0)": (["(2,013.15)", "13.20"], [-2013.15, 13.2]),
    "$0;inner": (["$-5", "$7"], [-5, 7]),
    "0.00;0-": (["12.50-", "3.00"], [-12.5, 3.0]),
    "#.##0 €;0-": (["1.234- €", "811 €"], [-1234, 811]),
    "# ##0,# kr": (["1 234,5 kr", "12,25 kr"], [1234.5, 12.25]),
    "# ##0": (["1 234", "12 345", "999"], [1234, 12345, 999]),
    "#'##0.00": (["1'234.50", "99.10"], [1234.5, 99.1]),
    "#,##0": (["1,234", "5,678"], [1234, 5678]),
    "0,#": (["12,5", "1234,25"], [12.5, 1234.25]),
    "0 kg": (["12 kg", "7 kg"], [12, 7]),
    "0°C": (["12°C", "-3°C"], [12, -3]),
    "0.# kmpl": (["19.67 kmpl", "23 kmpl"], [19.67, 23.0]),
}
NONE = [
    ["A123", "A456"], ["12.05.2023", "13.05.2023"], ["192.168.1.1", "10.0.0.1"], ["10-20", "20-30"], ["1st", "2nd"],
    ["555 123 456", "555 987 654"], ["$5.00", "call us"], ["$5", "€7"], ["3.5", "4"], ["+1", "-2"], ["", "x"], [],
    ["10A", "11A"], ["(1950)", "(2001)"], ["(49%)", "(7%)"], ["100.200.100.200", "192.168.100.101"],
    ["993.178.998"] * 2, ["67 622 184", "555 123 456"], ["1,23,456", "2,34,567"], ["2-", "3", "1-"],
    ["-3.00-", "2.00-"],
]  # fmt: skip


@pytest.mark.parametrize("pattern", COLUMNS)
def test_a_notation_is_found_read_and_written(pattern: str) -> None:
    texts, numbers = COLUMNS[pattern]
    notation = find_notation(texts)
    assert notation is not None
    assert notation.pattern == pattern
    assert Notation.of(pattern) == notation
    parsed, good = notation.parse(texts)
    assert good.all()
    assert parsed.tolist() == numbers
    assert notation.write(parsed).to_pylist() == texts


@pytest.mark.parametrize("texts", NONE, ids=str)
def test_what_is_no_number_or_one_as_anyone_reads_has_none(texts: list[str]) -> None:
    assert find_notation(texts) is None


TEXTS_OF_FRAMES = [
    (["1.25", "-3.50"], "0.00"), (["1.5", "2.0", "0.125"], "0.#"), (["1.5", "2.0", "1e3"], None), (["12", "7"], None),
    (["1.1", "1.10", "1.2"], None), (["3.9", "3.10", "3.11"], None), (["250.00", "401.9", "428.0"], None),
    (["12", "", "7"], None), (["12", "?", "7"], "0"), (["0012", "?", "0007"], None), (["$5", "", "$7"], "$0"),
    (["1.25", "None", "-3.50"], "0.00"), (["true", "?", "false"], None),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "pattern"), TEXTS_OF_FRAMES)
def test_texts_of_frames_are_numbers_where_they_are_no_codes_or_versions(texts: list[str], pattern: str | None) -> None:
    column = pf.infer_schema({"x": texts * 40}).columns[0]
    assert getattr(column, "form", None) == pattern
    assert (column.kind == "category") == (pattern is None)


def test_numbers_as_texts_of_a_frame_are_read_by_what_the_model_knows() -> None:
    texts = [f"{k / 64:.4f}" for k in range(1, 90)]
    density = pf.fit_table({"x": texts, "y": [k % 7 for k in range(89)]}, steps=2, progress="none", stack=False)
    for cells in (["1e-1", "0.5"], ["1.10", "1.1"], ["1"]):
        assert density.log_prob({"x": cells, "y": [3] * len(cells)}).isfinite().all()
    with pytest.raises(ValueError, match="column 'x' is numeric, but holds text: row 2 'high'"):
        density.log_prob({"x": ["1.5", "high"], "y": [1, 2]})


def test_a_notation_reads_what_is_written_more_plainly_and_refuses_the_rest() -> None:
    parsed, good = Notation.of("$#,##0.00").parse(["5", "$1234.5", "$1,2", "(3)", "-$-3", "(3", "€5", "$", ""])
    assert good.tolist() == [True, True, False, True, False, False, False, False, False]
    assert parsed[good].tolist() == [5.0, 1234.5, -3.0]
    assert Notation.of("0").parse(["1" * 30])[0].tolist() == [float("1" * 30)]


def test_numbers_are_rounded_to_the_decimals_of_their_notation() -> None:
    assert Notation.of("0.00").write(np.array([-0.001, 2.675, 1e9])).to_pylist() == ["0.00", "2.67", "1000000000.00"]
    assert Notation.of("0.#").write(np.array([1e-7, 0.1])).to_pylist() == ["0.0000001", "0.1"]


def test_patterns() -> None:
    assert all(map(is_pattern, [*COLUMNS, "00000"]))
    assert not any(map(is_pattern, ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S.000Z", "", "abc", 3]))
    with pytest.raises(ValueError, match=r"expected a pattern of numbers such as \$#,##0.00, got 'x'"):
        Notation.of("x")


def _rows(n: int = 120) -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    amount = rng.lognormal(7, 1, n)
    return {
        "zip": [f"{v:05d}" for v in rng.choice([501, 2139, 90210], n)],
        "phone": [f"{v:07d}" for v in rng.integers(0, 10**7, n)],
        "amount": [f"${v:,.2f}" for v in amount],
        "share": [f"{v:.1f}%" for v in rng.uniform(0, 100, n)],
        "plain": [str(v) for v in rng.normal(size=n)],
    }


def _csv(rows: dict[str, list[str]], path: Path) -> Path:
    lines = [",".join(f'"{cell}"' for cell in row) for row in (rows, *zip(*rows.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_samples_of_a_file_are_written_as_its_numbers_are(tmp_path: Path) -> None:
    path = _csv(_rows(), tmp_path / "a.csv")
    density = pf.fit_table(pf.read_table(path), steps=5, progress="none")
    assert [kind.form for kind in density.schema.columns] == ["00000", "0000000", "$#,##0.00", "0.0%", None]
    assert "written $#,##0.00" in density.schema.describe()
    pf.save(density, tmp_path / "m.safetensors")
    drawn = pf.load(tmp_path / "m.safetensors").sample(50, generator=0)  # type: ignore[attr-defined]
    assert set(drawn["zip"].to_pylist()) == {"00501", "02139", "90210"}
    assert {len(cell) for cell in drawn["phone"].to_pylist()} == {7}
    for name, pattern in (("amount", r"^\$[\d,]*\d\.\d\d$"), ("share", r"^\d+\.\d%$")):
        assert pa.compute.all(pa.compute.match_substring_regex(drawn[name], pattern)).as_py()
    assert pa.types.is_floating(drawn.schema.field("plain").type)
    scores = density.log_prob(pf.read_table(path))
    assert scores.isfinite().all()
    # The numbers themselves, as a frame of other software may have them, are the same rows.
    numbers = pf.read_table(path).matrix()
    assert density.log_prob(dict(zip(_rows(), numbers.T, strict=True))).equal(scores)


def test_new_rows_are_read_by_the_notation_of_the_model(tmp_path: Path) -> None:
    texts = [f"{v:,.0f}".replace(",", ".") for v in np.random.default_rng(0).uniform(900, 2e6, 100)]
    density = pf.fit_table({"x": texts, "y": list(range(50)) * 2}, steps=3, progress="none")
    assert density.schema["x"].form == "#.##0"
    path = _csv({"x": ["1.234", "2.500"], "y": ["1", "2"]}, tmp_path / "few.csv")  # by themselves: 1.234 and 2.5
    expected = density.log_prob({"x": [1234, 2500], "y": [1, 2]})
    assert density.log_prob(pf.read_table(path)).equal(expected)


def test_texts_of_digits_in_a_frame_stay_texts() -> None:
    schema = pf.infer_schema({"zip": ["02139", "90210"] * 30, "amount": ["$5.00", "$1,000.00", "$7.25"] * 20})
    assert [kind.kind for kind in schema.columns] == ["category", "quantised"]


def test_codes_of_unequal_length_are_plain_numbers(tmp_path: Path) -> None:
    path = _csv({"a": ["007", "12", "1234"] * 20, "b": ["01", "02", ""] * 20}, tmp_path / "a.csv")
    schema = pf.infer_schema(pf.read_table(path))
    assert [kind.form for kind in schema.columns] == [None, "00"]


def test_a_stray_text_is_named_where_numbers_are_asked_for(tmp_path: Path) -> None:
    rows = _rows()
    rows["amount"][7] = "call us"
    frame, kinds = pf.read_table(_csv(rows, tmp_path / "a.csv")), {"amount": "real"}
    with pytest.raises(ValueError, match="column 'amount' is numeric, but holds text: row 8 'call us'"):
        pf.infer_schema(frame, kinds)
    good, report = drop_bad_rows(frame, kinds=kinds)
    assert pf.infer_schema(good)["amount"].form == "$#,##0.00"
    assert str(report) == "1 row skipped: row 8 holds 'call us' in column 'amount'"


@pytest.mark.parametrize(
    "texts", [["1 year", *[f"{k} years" for k in range(2, 40)]], ["market price", "$8", "$9"] * 20]
)
def test_texts_that_are_not_all_numbers_are_categories(tmp_path: Path, texts: list[str]) -> None:
    path = _csv({"a": texts * 5}, tmp_path / "a.csv")
    assert pf.infer_schema(pf.read_table(path))["a"].kind == "category"


def test_rare_separators_of_thousands_are_seen() -> None:
    amounts = np.r_[np.linspace(1, 999, 5000), 1234.5]
    notation = find_notation([f"${v:,.2f}" for v in amounts])
    assert notation is not None
    assert notation.pattern == "$#,##0.00"


def test_points_in_amounts_separate_thousands_where_nothing_else_fits() -> None:
    patterns = {
        "#.##0 €": ["1.234 €", "950 €", "12.500 €"], "€#.##0": ["€1.234", "€250.000"], "0.# €": ["1.234 €", "9.5 €"],
        "$0.000": ["$3.459", "$4.019"], "#,##0.00;(0)": ["(2,013.15)", "(13.20)"],
        "0.000 kg": ["1.046 kg", "0.754 kg"], "#.##0,00 €": ["1.234,00 €", "950,00 €"],
    }  # fmt: skip
    for pattern, texts in patterns.items():
        notation = find_notation(texts)
        assert notation is not None
        assert notation.pattern == pattern


def test_another_unit_is_refused(tmp_path: Path) -> None:
    density = pf.fit_table({"m": [f"{k}.5 kg" for k in range(60)], "n": list(range(30)) * 2}, steps=3, progress="none")
    with pytest.raises(ValueError, match="column 'm' is numeric, but holds text: row 1 '100 lb'"):
        density.log_prob(pf.read_table(_csv({"m": ["100 lb", "90 lb"], "n": ["1", "2"]}, tmp_path / "a.csv")))
    assert density.log_prob({"m": [7.5, 8.5], "n": [1, 2]}).isfinite().all()


def test_codes_keep_their_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = _csv({"code": [f"{v:03d}" for v in rng.integers(0, 999, 300)]}, tmp_path / "a.csv")
    density = pf.fit_table(pf.read_table(path), steps=3, progress="none")
    assert {len(code) for code in density.sample(2000, generator=0)["code"].to_pylist()} == {3}


def test_a_file_with_decimal_commas_may_separate_thousands(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b\n270,83;x\n2.255,41;y\n1\u202f000,5;z\n")
    assert pf.read_table(path).matrix(["a"])[:, 0].tolist() == [270.83, 2255.41, 1000.5]


def test_batches_of_a_file_share_the_notation(tmp_path: Path) -> None:
    path = _csv(_rows(400), tmp_path / "a.csv")
    parts = list(pf.open_table(path).batches(rows=64))
    assert {part.column("zip").form for part in parts} == {"00000"}
    numbers = np.concatenate([part.matrix(["amount"]) for part in parts])
    assert (numbers == pf.read_table(path).matrix(["amount"])).all()


def test_estimators_give_texts_back() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({name: _rows()[name] for name in ("amount", "share")})
    model = pf.FlowDensity(steps=5).fit(frame)
    drawn = model.sample(5)
    assert drawn["amount"].str.startswith("$").all()
    assert drawn["share"].str.endswith("%").all()


def test_json_of_several_types_is_read_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"x": "oops" if i == 5 else i, "y": i % 7}) for i in range(60)))
    with pytest.raises(ValueError, match="column 'x' is numeric, but holds text: row 6 'oops'"):
        pf.infer_schema(pf.read_table(path))


def _marked(mark: str) -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    rows = {
        "count": [str(v) for v in rng.integers(0, 900, 120)],
        "size": [f"{v:.4f}" for v in rng.normal(size=120)],
        "day": [str(np.datetime64("2020-01-01") + k) for k in range(120)],
    }
    for name in rows:
        rows[name] = [mark if k % 5 == 0 else cell for k, cell in enumerate(rows[name])]
    return rows | {"word": ["1", mark, "2", "a", mark] * 24}


@pytest.mark.parametrize("mark", ["?", "-", ".", "#N/A", "n.a."])
def test_marks_of_missing_cells_among_numbers_and_dates_are_missing_cells(mark: str, tmp_path: Path) -> None:
    rows = _marked(mark)
    for table in (pf.read_table(_csv(rows, tmp_path / "a.csv")), rows):
        schema = pf.infer_schema(table)
        assert [kind.kind for kind in schema.columns] == ["integer", "real", "date", "category"]
        assert [kind.missing for kind in schema.columns] == [True, True, True, False]
        density = pf.fit_table(table, schema=schema, steps=2, progress="none", stack=False)
        expected = density.log_prob(table)
        assert expected.isfinite().all()
        assert not density.space.unseen(read(table)).any()
        # What a mark means is known of the column, and not told by the rows that come with it.
        for k in (0, 1, 5):
            one = {name: [cells[k]] for name, cells in rows.items()}
            if table is not rows:
                one = pf.read_table(_csv(one, tmp_path / "one.csv"))
            assert density.log_prob(one).tolist() == pytest.approx([float(expected[k])], abs=1e-5)
    file = pf.open_table(tmp_path / "a.csv")
    pieces = [density.log_prob(piece) for piece in file.batches(7)]
    assert len(pieces) > 10
    assert np.allclose(np.concatenate(pieces), expected, atol=1e-5)


def test_a_mark_among_categories_is_one_of_them(tmp_path: Path) -> None:
    rows = {"x": ["1", "2", "-"] * 40, "y": [str(k % 7) for k in range(120)]}
    path = _csv(rows, tmp_path / "a.csv")
    for table in (rows, pf.read_table(path)):
        density = pf.fit_table(table, kinds={"x": "category"}, steps=2, progress="none", stack=False)
        assert set(density.schema["x"].categories) == {"1", "2", "-"}
        assert set(density.sample(60, generator=0)["x"].to_pylist()) == {"1", "2", "-"}
        assert not density.space.unseen(read(table)).any()


def test_truth_values_beside_a_mark_are_categories(tmp_path: Path) -> None:
    rows = {"x": ["TRUE", "?", "FALSE"] * 40, "y": [str(k % 7) for k in range(120)]}
    schema = pf.infer_schema(pf.read_table(_csv(rows, tmp_path / "a.csv")))
    assert sorted(schema["x"].categories) == ["?", "FALSE", "TRUE"]


def test_other_words_beside_numbers_and_marks_are_told(tmp_path: Path) -> None:
    cells = ["?" if k % 3 == 0 else "many" if k == 50 else str(k * 7) for k in range(120)]
    table = pf.read_table(_csv({"x": cells, "y": ["1", "2"] * 60}, tmp_path / "a.csv"))
    with pytest.raises(ValueError, match=r"'x' is numeric, but holds text: row 51 'many' \(.*or say that it is a cat"):
        pf.infer_schema(table)
    rows, report = drop_bad_rows(table)
    assert (len(rows), report.count) == (119, 1)
    assert pf.infer_schema(rows)["x"].kind == "integer"


def test_ledgers_with_decimal_commas_have_the_minus_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{abs(v):,.2f}{'-' if v < 0 else ''}".translate({44: ".", 46: ","}) for v in 900 * rng.normal(size=120)]
    path = tmp_path / "a.csv"
    path.write_text("x;y\n" + "".join(f"{line};{k % 7}\n" for k, line in enumerate(lines)))
    column = pf.read_table(path).column("x")
    assert column.form == "0.00;0-"
    assert column.require_numbers().min() < 0 < column.require_numbers().max()
