"""Dates and times as texts: how they are written is told, they are modelled, and samples are written as they were."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pushforward as pf
from pushforward.io.frames import read
from pushforward.io.times import MIXED, is_form, parse_times, unit_of, write_times
from pushforward.tables import infer_schema
from pushforward.tables.bad_rows import drop_bad_rows

FORMS = {  # form: texts
    "%-m/%-d/%Y": ["1/23/2023", "12/5/2023"],
    "%m/%d/%Y": ["01/23/2023", "12/05/2023"],
    "%-m/%d/%Y": ["1/05/2023", "12/23/2023"],
    "%d/%m/%Y": ["01/06/2023", "01/07/2023", "01/08/2023"],  # the first of months
    "%-d.%-m.%Y": ["23.1.2023", "5.12.2023"],
    "%d.%m.%y": ["23.01.23", "05.12.70"],
    "%-m/%-d/%y %-I:%M %p": ["1/2/23 2:30 PM", "11/22/23 12:30 AM"],
    "%m/%d/%Y %H:%M:%S": ["01/23/2023 14:30:59", "12/05/1969 00:00:01"],
    "%b %-d, %Y": ["Jan 5, 2023", "Mar 15, 2023"],
    "%B %-d, %Y": ["January 5, 2023", "May 15, 2023"],
    "%d-%b-%y": ["05-Jan-23", "15-May-70"],
    "%d %B %Y": ["05 January 2023", "15 May 1970"],
    "%Y/%-m/%-d": ["2024/1/5", "2024/11/15"],
    "%Y-%m-%dT%H:%M:%S+02:00": ["2024-07-13T01:15:00+02:00", "2024-09-10T06:15:00+02:00"],
    "%Y-%m-%dT%H:%M:%S.%3fZ": ["2024-01-01T10:00:00.123Z", "1969-01-01T10:00:00.777Z"],
    "%Y-%m-%d %H:%M:%S.%f": ["2024-01-01 10:00:00.123456", "1969-01-01 10:00:00.500000"],
    "%Y-%m-%dT%H:%M:%SZ": ["2024-01-01T10:00:00Z", "1969-01-01T10:00:00Z"],
    "%Y-%m-%d %H:%M": ["2024-01-01 10:00", "1969-01-01 10:30"],
    "%Y-%m-%d": ["2024-02-29", "1969-01-01"],
    "%-I:%M %p": ["12:24 PM", "6:05 PM"],
    "%-I:%M%P": ["12:24am", "6:05pm"],
    "%H:%M": ["14:35", "02:10"],
    "%-H:%M:%S": ["14:35:00", "2:10:59"],
}
NONE = [
    ["2023-02-30", "2023-01-01"], ["13/13/2023", "1/1/2023"], ["1.2.10", "1.4.12"], ["24:00", "12:00"], ["16:9", "4:3"],
    ["13:00 PM", "1:00 PM"], ["hello", "x"], ["12:60", "12:00"], ["2023-01-01 junk"], ["Foo 5, 2023"], ["555-1234"],
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_told_read_and_written(form: str) -> None:
    ticks, good, known = parse_times(FORMS[form], mixed=True)
    assert good.all()
    assert known == form
    assert is_form(form)
    assert write_times(pa.array(ticks), form).to_pylist() == FORMS[form]


@pytest.mark.parametrize("form", ["%m/%d/%Y %H:%M:%S", "%d %B %Y", "%Y-%m-%d %H:%M:%S.%f"])
def test_ticks_are_those_of_the_standard_library(form: str) -> None:
    ticks, _, _ = parse_times(FORMS[form])
    per_second = {"s": 1, "us": 10**6}[unit_of(form)]
    expected = [datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * per_second for text in FORMS[form]]
    assert ticks.tolist() == expected


@pytest.mark.parametrize("texts", NONE, ids=str)
def test_what_is_no_time(texts: list[str]) -> None:
    assert not parse_times(texts, mixed=True)[1].all()


def test_offsets_that_differ_are_read_as_moments_and_written_in_utc() -> None:
    texts = ["2024-07-13T01:15:00+02:00", "2024-01-10T06:15:00+0100", "2024-01-10T06:15:00-05:30"]
    ticks, good, form = parse_times(texts)
    assert (good.all(), form) == (True, "%Y-%m-%dT%H:%M:%S%z")
    assert ticks.tolist() == [datetime.fromisoformat(text).timestamp() for text in texts]
    assert write_times(pa.array(ticks), form).to_pylist()[0] == "2024-07-12T23:15:00+00:00"


def test_offsets_are_moments_whatever_other_rows_have() -> None:
    form = "%Y-%m-%dT%H:%M:%S+02:00"
    same = ["2024-07-10T12:00:00+02:00", "2024-07-10T10:00:00+00:00", "2024-07-10T05:30:00-04:30"]
    ticks, good, _ = parse_times(same, form)
    assert (good.all(), set(ticks.tolist())) == (True, {parse_times(same[:1])[0][0]})
    assert write_times(pa.array(ticks), form).to_pylist() == same[:1] * 3


def test_the_month_comes_first_where_the_days_do_not_tell() -> None:
    log = [f"1/{1 + k // 24}/2024 {k % 24}:00" for k in range(288)]
    assert parse_times(log)[2] == "%-m/%-d/%Y %-H:%M"
    assert parse_times([f"3/{day}/2024" for day in range(1, 13)])[2] == "%-m/%-d/%Y"


def test_durations_of_more_than_a_day_are_no_times_of_day(tmp_path: Path) -> None:
    path = _csv(tmp_path / "a.csv", {"length": [f"{k % 30}:{k % 60:02d}" for k in range(400)]})
    assert pf.infer_schema(pf.read_table(path))["length"].kind == "category"


def test_iso_forms_may_be_mixed_in_a_file() -> None:
    texts = ["2020-01-01", "2020-01-01 10:00", "1969-01-01T10:00:00Z"]
    ticks, good, form = parse_times(texts, mixed=True)
    assert (good.all(), form) == (True, MIXED)
    assert ticks.tolist() == [1577836800, 1577872800, -31500000]


def _csv(path: Path, columns: dict[str, list[str]]) -> Path:
    lines = [",".join(f'"{cell}"' for cell in row) for row in (columns, *zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_samples_of_a_file_are_written_as_its_times_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, forms = 120, ("%-m/%-d/%Y", "%d.%m.%Y", "%-I:%M %p", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f")
    columns = {}
    for i, form in enumerate(forms):
        ticks = rng.integers(0, 10**9, n) * (10**6 if "%f" in form else 1) + rng.integers(0, 9, n)
        columns[f"t{i}"] = write_times(pa.array(ticks), form).to_pylist()
    path = _csv(tmp_path / "a.csv", columns)
    frame = pf.read_table(path)
    density = pf.fit_table(frame, steps=5, progress="none")
    assert [(kind.kind, kind.form) for kind in density.schema.columns] == [("date", form) for form in forms]
    assert density.log_prob(frame).isfinite().all()
    pf.save(density, tmp_path / "m.safetensors")
    drawn = pf.load(tmp_path / "m.safetensors").sample(200, generator=0)  # type: ignore[attr-defined]
    for name, form in zip(columns, forms, strict=True):
        ticks, good, _ = parse_times(drawn[name].to_pylist(), form)
        assert good.all()
        assert write_times(pa.array(ticks), form).to_pylist() == drawn[name].to_pylist()
    assert density.log_prob(drawn).isfinite().all()


def test_new_rows_are_read_by_the_form_of_the_model(tmp_path: Path) -> None:
    days = [f"{d:02d}/{m:02d}/2023" for m in range(1, 13) for d in range(1, 29)]
    density = pf.fit_table({"day": days}, steps=3, progress="none")
    assert density.schema["day"].form == "%d/%m/%Y"
    path = _csv(tmp_path / "few.csv", {"day": ["03/02/2023"]})  # by itself: the second of March
    iso = _csv(tmp_path / "iso.csv", {"day": ["2023-02-03"]})
    moments = pa.table({"day": pa.array([datetime(2023, 2, 3)], pa.timestamp("s"))})
    short = _csv(tmp_path / "short.csv", {"day": ["3/2/2023"]})
    expected = density.log_prob({"day": ["03/02/2023"]})
    assert density.log_prob(pf.read_table(short)).equal(expected)
    for same in (pf.read_table(path), pf.read_table(iso), moments):
        assert density.log_prob(same).equal(expected)


def test_times_of_day_stay_within_a_day(tmp_path: Path) -> None:
    late = [f"23:{minute:02d}" for minute in range(20, 60)] * 3
    frame = pf.read_table(_csv(tmp_path / "a.csv", {"at": late, "n": [str(i % 7) for i in range(120)]}))
    density = pf.fit_table(frame, steps=30, progress="none")
    assert "23:20:00 to 23:59:00, written %H:%M; in steps of a minute" in density.schema.describe()
    assert density.schema["at"].limits == (0.0, 86399.0)
    assert all(cell < "24:00" for cell in density.sample(500, generator=0)["at"].to_pylist())


def test_a_stray_text_is_named_where_dates_are_asked_for(tmp_path: Path) -> None:
    days = [f"{d}/{m}/2023" for m in range(1, 13) for d in range(1, 29)]
    days[5] = "soon"
    frame = pf.read_table(_csv(tmp_path / "a.csv", {"day": days}))
    with pytest.raises(ValueError, match=r"column 'day' holds dates, but has cells that are none .*: row 6 'soon'"):
        pf.infer_schema(frame, {"day": "date"})


def test_another_form_of_dates_is_told(tmp_path: Path) -> None:
    days = [f"{d:02d}.{m:02d}.2023" for m in range(1, 13) for d in range(1, 29)]
    density = pf.fit_table({"day": days}, steps=3, progress="none")
    path = _csv(tmp_path / "us.csv", {"day": ["01/30/2022", "02/01/2022"]})
    with pytest.raises(ValueError, match=r"holds dates written %m/%d/%Y, expected %d\.%m\.%Y: write them so"):
        density.log_prob(pf.read_table(path))


def test_dates_of_several_forms_are_no_ids(tmp_path: Path) -> None:
    days = [f"{d:02d}/{m:02d}/2023" if d % 2 else f"2023-{m:02d}-{d:02d}" for m in range(1, 13) for d in range(1, 29)]
    path = _csv(tmp_path / "mixed.csv", {"day": days, "x": [str(i % 7) for i in range(len(days))]})
    with pytest.warns(UserWarning, match="its texts look like dates in several forms, such as '27/12/2023' and"):
        infer_schema(pf.read_table(path))


def test_compact_dates_are_dates_and_other_numbers_of_eight_digits_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = np.datetime64("2019-12-01") + np.arange(100)
    compact = [str(day).replace("-", "") for day in days]
    for times in (1, 20):  # cells that repeat are read another way
        columns = {"day": compact * times, "code": [str(v) for v in rng.integers(20_000_101, 20_001_231, 100 * times)]}
        path = _csv(tmp_path / "a.csv", columns)
        table = pf.read_table(path)
        schema = pf.infer_schema(table)
        assert (schema["day"].kind, schema["day"].form) == ("date", "%Y%m%d")
        assert schema["code"].kind == "integer"
    density = pf.fit_table(table, steps=2, progress="none", stack=False)
    drawn = density.sample(50, generator=0)
    assert all(np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in drawn["day"].to_pylist())
    pf.write_table(drawn, tmp_path / "drawn.csv")
    assert density.log_prob(pf.read_table(tmp_path / "drawn.csv")).isfinite().all()
    numbers = {name: [int(cell) for cell in cells] for name, cells in columns.items()}  # as of a Parquet file
    expected = density.log_prob(table)
    assert density.log_prob(numbers).equal(expected)
    assert np.allclose(np.concatenate([density.log_prob(b) for b in pf.open_table(path).batches(9)]), expected)
    assert density.log_prob({name: np.array(cells, float) for name, cells in numbers.items()}).equal(expected)
    assert pf.infer_schema(numbers)["day"].kind == "integer"
    whole = pf.fit_table(numbers, steps=2, progress="none", stack=False)
    assert whole.log_prob(table).equal(whole.log_prob(numbers))


@pytest.mark.parametrize("times", [1, 20])
def test_rows_of_no_compact_date_are_skipped_alone(times: int, tmp_path: Path) -> None:
    compact = [str(np.datetime64("2019-12-01") + k).replace("-", "") for k in range(1500 // times)] * times
    cells = {"day": compact, "y": [str(k % 7) for k in range(len(compact))]}
    path = _csv(tmp_path / "a.csv", cells)
    table = pf.read_table(path)
    schema = pf.infer_schema(table)
    cells["day"][4] = "20240230"
    odd = pf.read_table(_csv(tmp_path / "b.csv", cells))
    for rows, bad in ((table, 0), (odd, 1)):
        for known in ({"schema": schema}, {"kinds": {"day": "date"}}):
            left, report = drop_bad_rows(rows, **known)
            assert (len(left), report.count) == (len(compact) - bad, bad)


def test_dates_are_asked_for_among_texts_of_a_frame() -> None:
    schema = pf.infer_schema({"day": ["20200101", "20200102", "?"] * 9, "y": [*range(9)] * 3}, kinds={"day": "date"})
    assert (schema["day"].form, schema["day"].missing) == ("%Y%m%d", True)


def test_times_with_and_without_a_zone_are_not_mixed() -> None:
    moments = pa.array(np.arange(100) * 3_600_007, pa.timestamp("ms"))
    zoned = moments.cast(pa.timestamp("ms", tz="UTC"))
    frames = [pa.table({"when": cells}) for cells in (moments, zoned)]
    for own, other in (frames, frames[::-1]):
        density = pf.fit_table(own, steps=2, progress="none", stack=False)
        with pytest.raises(ValueError, match=r"column 'when' holds timestamp.*with a zone and times without"):
            density.log_prob(other)
    nothing = pa.table({"when": pa.nulls(3, pa.timestamp("ms"))})
    assert density.space.unseen(read(nothing)).all()
    tokyo = pa.table({"when": moments.cast(pa.timestamp("ms", tz="Asia/Tokyo"))})  # the same moments
    density = pf.fit_table(frames[1], steps=2, progress="none", stack=False)
    assert density.log_prob(tokyo).equal(density.log_prob(frames[1]))


def test_days_and_months_that_may_be_either_are_told() -> None:
    days = [f"{1 + i % 12:02d}/{1 + i % 11:02d}/2023" for i in range(60)]
    with pytest.warns(UserWarning, match=r"dates such as 01/01/2023, taken as %m/%d/%Y: kind date:%d/%m/%Y takes"):
        first = infer_schema({"day": days, "n": [i % 7 for i in range(60)]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = infer_schema({"day": days, "n": [i % 7 for i in range(60)]}, {"day": "date:%d/%m/%Y"})
        third = infer_schema(
            {"day": [f"{1 + i % 28:02d}/{1 + i % 11:02d}/2023" for i in range(60)], "n": [i % 7 for i in range(60)]}
        )
    forms = [schema.columns[0].form for schema in (first, second, third)]  # type: ignore[attr-defined]
    assert forms == ["%m/%d/%Y", "%d/%m/%Y", "%d/%m/%Y"]
    with pytest.raises(ValueError, match="expected date or date:FORM"):
        infer_schema({"day": days}, {"day": "date:yesterday"})
    with pytest.raises(ValueError, match="cells that are none"):
        infer_schema({"day": [*days, "13/13/2023"]}, {"day": "date:%d/%m/%Y"})


def test_a_form_that_was_asked_for_is_how_samples_are_written() -> None:
    days = [f"{1 + i % 12:02d}/{1 + i % 11:02d}/2023" for i in range(60)]
    rows = {"day": days, "n": [i % 7 for i in range(60)]}
    density = pf.fit_table(rows, kinds={"day": ("date", "%d/%m/%Y")}, steps=5)
    seen = [datetime.strptime(day, "%d/%m/%Y").replace(tzinfo=UTC).timestamp() for day in days]
    assert density.space.schema.columns[0].extent == (min(seen), max(seen))  # type: ignore[attr-defined]
    drawn = density.sample(50, generator=0).column("day").to_pylist()
    assert all(day == datetime.strptime(day, "%d/%m/%Y").strftime("%d/%m/%Y") for day in drawn)


def test_a_constant_date_is_read_in_the_form_that_was_asked_for() -> None:
    table = {"d": ["01/05/2023"] * 50, "y": np.arange(50) ** 1.5}
    for form, day in (("%d/%m/%Y", "2023-05-01"), ("%m/%d/%Y", "2023-01-05")):
        assert day in infer_schema(table, kinds={"d": f"date:{form}"})["d"].describe()
    with pytest.raises(ValueError, match="column 'd'"):
        infer_schema(table, kinds={"d": "date:%Y-%m-%d"})
