"""Generic checks of kinds of columns: every line of `cases.COLUMNS` goes through all of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import pushforward as pf
from cases import COLUMNS, Column
from pushforward.cli import main
from pushforward.io import frames
from pushforward.tables.columns import Kind, from_json, infer_kind, request_of
from pushforward.tables.columns.registry import KINDS

columns = pytest.mark.parametrize("case", COLUMNS, ids=lambda case: case.name)


def cells_of(case: Column, seed: int = 0) -> Any:
    values: Any = case.values(np.random.default_rng(seed))
    return frames.read({"x": values}).column("x")


def kind_of(case: Column) -> Kind:
    return infer_kind(cells_of(case), request_of(case.asked) if case.asked else pf.tables.columns.Request())


def plain(cells: Any) -> list[Any]:
    return cells.to_arrow().to_pylist()


def test_every_kind_has_a_case_or_needs_other_columns() -> None:
    assert {cls.__name__ for cls in KINDS.values()} - {case.kind for case in COLUMNS} == {"Related", "Function"}


@columns
def test_it_is_found_to_be_the_kind(case: Column) -> None:
    kind = kind_of(case)
    assert type(kind).__name__ == case.kind
    assert kind.name == "x"
    assert kind.missing == ("missing" in case.name or case.kind == "Empty")


@columns
def test_cells_come_back_from_their_code(case: Column) -> None:
    kind, cells = kind_of(case), cells_of(case)
    if not kind.modelled:
        pytest.skip("columns that are left out have no code")
    code = kind.encode(cells)
    assert code.error == ""
    assert ((code.state >= 0) & (code.state < kind.num_states)).all()
    numbered = code.state < kind.num_numbered_states
    assert (np.isfinite(code.base) == numbered).all()
    assert kind.accepts(code.state, code.base).all()
    back = kind.decode(code.state, code.base, np.random.default_rng(0))
    assert back.dtype == kind.dtype
    for one, other in zip(plain(back), plain(cells), strict=True):
        assert one == (pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(other, float) else other)


@columns
def test_whatever_is_drawn_is_a_cell_that_can_be_scored(case: Column) -> None:
    kind = kind_of(case)
    if not kind.modelled:
        pytest.skip("columns that are left out are not drawn")
    rng = np.random.default_rng(1)
    state = rng.integers(0, kind.num_states, 500)
    numbers = np.full(500, np.nan)
    if kind.has_number:
        numbers = kind.marginal.inverse(3 * rng.standard_normal(500))
    drawn = kind.decode(state, numbers, rng)
    code = kind.encode(drawn)
    assert (code.state >= 0).all()
    kept = kind.accepts(state, numbers)
    assert (code.state[kept] == state[kept]).all()


@columns
def test_it_is_written_and_read_back(case: Column) -> None:
    kind = kind_of(case)
    assert from_json(json.loads(json.dumps(kind.to_json()))) == kind
    for text in (kind.describe(), kind.kind, *(kind.state_name(state) for state in range(min(kind.num_states, 5)))):
        assert isinstance(text, str)
    with pytest.raises(ValueError, match="bad value of 'flavour'"):
        from_json(kind.to_json() | {"flavour": 1})


@columns
def test_its_features_are_finite(case: Column) -> None:
    kind = kind_of(case)
    if not kind.modelled:
        pytest.skip("columns that are left out have no features")
    features = kind.features(cells_of(case))
    assert features.shape == (400, len(kind.feature_names))
    assert np.isfinite(features).all()


@pytest.mark.filterwarnings("ignore:column 'x' is left out", "ignore:rounded values are spread evenly")
@columns
def test_a_flow_learns_a_table_that_has_it(case: Column) -> None:
    rng = np.random.default_rng(0)
    table = {"x": case.values(rng), "y": rng.normal(size=400)}
    kinds = {"x": case.asked} if case.asked else None
    density = pf.fit_table(table, kinds=kinds, steps=3, depth=2, width=8, progress="none", stack=False)
    assert np.isfinite(density.log_prob(table).numpy()).all()
    assert np.isfinite(density.log_prob(density.sample(50, generator=0)).numpy()).all()


def test_help_names_every_kind_that_can_be_asked_for() -> None:
    words = {cls.usage.partition(":")[0].partition(" ")[0] for cls in KINDS.values() if cls.usage}
    shown = CliRunner().invoke(main, ["fit", "--help"]).output
    assert not {word for word in words if word not in shown and word != "drop"}
    assert not {word for word in words if f'"{word}' not in (pf.infer_schema.__doc__ or "")}
