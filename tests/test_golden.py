"""Old model files load and score the same, forever: every file of `tests/golden`, through the public names alone.

What stands in the JSON beside a file is told in `tests/golden/make_v1_more.py`. New files join by lying in the folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import pushforward as pf
from commands import good
from composed import COMPOSED
from pushforward.switch import PLAIN

GOLDEN = Path(__file__).parent / "golden"
MODELS = sorted(GOLDEN.glob("*.safetensors"))
FILES = [p for p in MODELS if p.with_suffix(".json").exists()]  # a test tells of those without
INFO, HEADER = (sorted(GOLDEN.glob(f"*.{kind}.json")) for kind in ("info", "header"))
OLDEST = {"own": 1e-5, "double": 1e-9}  # tolerances of the first six files, which name none

each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
quiet = pytest.mark.filterwarnings("ignore::UserWarning")  # of impossible rows and unknown given cells


def expected_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


def load(path: Path) -> Any:
    into = expected_of(path).get("into")
    return pf.load(path, into=None if into is None else COMPOSED[into]())


def numbers(values: Any) -> np.ndarray:
    """Numbers, of which "-inf" is one."""
    return np.array(values, dtype=np.float64)


def check(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Absolute, or relative to the value, whichever is larger; infinities must agree."""
    a, b = numbers(found.tolist()), numbers(expected)
    assert a.shape == b.shape, what
    with np.errstate(invalid="ignore"):
        off = np.where(a == b, 0.0, np.abs(a - b) / np.maximum(np.abs(b), 1.0))
    bad = np.argwhere(~(off <= tolerance))
    shown = [(tuple(int(k) for k in i), a[tuple(i)], b[tuple(i)]) for i in bad[:5]]
    assert not len(bad), f"{what}: {len(bad)} of {a.size} differ, (at, found, expected): {shown}"


def table_of(expected: dict[str, Any]) -> Any:
    """The rows to score: those of a Parquet file, or where there is none, the text of a CSV."""
    if "rows" not in expected:
        from pushforward.io.tables import open_table

        return open_table(GOLDEN / expected["csv"]).read()
    parquet = pytest.importorskip("pyarrow.parquet", reason="the rows of tables are in Parquet files")
    rows = parquet.read_table(GOLDEN / expected["rows"])
    if expected.get("array"):
        return np.stack([c.to_numpy() for c in rows.itercolumns()], 1)
    return rows


def check_scores(
    model: Any, expected: dict[str, Any], scores: dict[str, Any], tolerance: float, dtype: torch.dtype = torch.float64
) -> None:
    """Every score that is written down, of numbers in a dtype."""
    if expected.get("kind") == "table":
        rows = table_of(expected)
        check(model.log_prob(rows), scores["log_prob"], tolerance, "log_prob")
        check(model.log_prob(rows, draws=3), scores["draws_3"], tolerance, "log_prob(draws=3)")
        if "latent" in scores:
            check(model.latent(rows), scores["latent"], tolerance, "latent")
        return
    x, context = (None if (v := expected[k]) is None else torch.tensor(v).to(dtype) for k in ("x", "context"))
    with torch.no_grad():
        check(model.log_prob(x, context), scores["log_prob"], tolerance, "log_prob")
        if "z" in scores:
            z, log_det = model.f(x, context)
            check(z, scores["z"], tolerance, "z")
            check(log_det, scores["log_det"], tolerance, "log_det")


def test_each_file_has_its_json() -> None:
    told = {p.stem for p in GOLDEN.glob("*.json") if p not in (*INFO, *HEADER)}
    assert {p.stem for p in MODELS} == told
    assert len(told) >= 75


@each_file
@quiet
def test_scores_in_the_dtype_of_the_file(path: Path) -> None:
    expected = expected_of(path)
    model = load(path)
    tensors = {k: v for k, v in model.state_dict().items() if "precondition" not in k and "weights" not in k.split(".")}
    dtypes = {str(v.dtype) for v in tensors.values() if v.is_floating_point()}
    assert dtypes == {f"torch.{name}" for name in expected.get("dtype", "float32").split(", ")}
    tolerance = expected.get("tolerance", OLDEST)["own"]
    # The files were scored by fast forms: float32 rounds the plain ones in other places.
    dtype = (
        torch.float64 if any("precondition" in k or k.endswith("matrix") for k in model.state_dict()) else torch.float32
    )
    check_scores(model, expected, expected, max(tolerance, 1e-4) if PLAIN else tolerance, dtype)


@each_file
@quiet
def test_scores_in_float64(path: Path) -> None:
    expected = expected_of(path)
    if "double" not in expected:
        pytest.skip("one of the first six files, whose scores are written down in float32 alone")
    model = load(path).double()
    check_scores(model, expected, expected["double"], expected["tolerance"]["double"])


@quiet
@pytest.mark.parametrize("path", [p for p in FILES if "csv_log_prob" in expected_of(p)], ids=lambda p: p.stem)
def test_scores_of_the_same_rows_as_text(path: Path) -> None:
    expected = expected_of(path)
    rows = table_of({"csv": expected["csv"]})
    check(pf.load(path).log_prob(rows), expected["csv_log_prob"], expected["tolerance"]["own"], "log_prob")


@each_file
def test_what_is_told_beside_the_weights(path: Path) -> None:
    expected = expected_of(path)
    model = load(path)
    if expected.get("kind") == "table":
        assert recipes(getattr(model.inner, "flow", None)) <= {json.dumps(expected["recipe"])}
        assert model.training_summary
        return
    assert expected.get("into") or recipes(model) == {json.dumps(expected["recipe"])}
    if "schema" in expected:
        assert model.about == expected["schema"]
        assert model.training_summary == expected["training"]


def recipes(density: Any) -> set[str]:
    """The recipes of its members, or of the flow inside."""
    members = [] if density is None else density.members
    return {json.dumps(getattr(getattr(member, "inner", member), "recipe", None)) for member in members}


@quiet
@pytest.mark.parametrize("path", [p for p in FILES if "estimator" in expected_of(p)], ids=lambda p: p.stem)
def test_estimators_score_the_same(path: Path) -> None:
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    expected = expected_of(path)
    facts = expected["estimator"]
    model = pf.FlowDensity.load(path)
    if expected["kind"] == "table":
        found = model.score_samples(table_of(expected))
    else:
        pd = pytest.importorskip("pandas", reason="the columns have names")
        context = pd.DataFrame(expected["context"], columns=facts["context_columns"])
        found = model.score_samples(pd.DataFrame(facts["x"], columns=facts["columns"]), context=context)
    check(found, facts["score_samples"], expected["tolerance"]["own"], "score_samples")


@pytest.mark.parametrize("path", INFO, ids=lambda p: p.name)
def test_info_tells_what_it_told(path: Path) -> None:
    found = good("info", path.with_name(path.name.removesuffix(".info.json") + ".safetensors"))
    told = json.loads(path.read_text())
    same = ("training", "versions", "parameters")  # the rest is told in the form of the present version
    assert {key: found.get(key) for key in same} == {key: told.get(key) for key in same}


@pytest.mark.parametrize("path", HEADER, ids=lambda p: p.name)
def test_the_header_is_plain_json_in_the_metadata(path: Path) -> None:
    with safe_open(path.with_name(path.name.removesuffix(".header.json") + ".safetensors"), framework="pt") as file:
        text = file.metadata()["pushforward"]
    assert json.loads(text) == json.loads(path.read_text())
    assert json.loads(text)["format_version"] == 1
