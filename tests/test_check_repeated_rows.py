"""Checks where rows repeat: the identity of rows with many texts, cells of equal density, percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.cli.reading import percentiles, quantiles_to_keep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def addresses(n: int, seed: int) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    return {name: [f"{name} {i}" for i in rng.integers(300, size=n)] for name in ("street", "surname", "employer")}


def finding(report: Any, section: str, name: str) -> Any:
    return next(f for f in report[section].findings if f.name == name)


def test_rows_of_many_texts_are_told_apart() -> None:
    train, test = addresses(2000, 0), addresses(600, 1)
    density = pf.fit_table(train, steps=2, progress="none", stack=False)
    report = pf.check(density, test, train)
    assert report["leak"].figures["test_rows_in_train"] == 0
    assert report["privacy"].figures["exact_copies"] < 0.01
    leaked = {name: values[:300] + test[name][300:] for name, values in train.items()}
    assert report["leak"].figures["train_rows_twice"] < 0.01
    assert pf.check(density, leaked, train)["leak"].figures["test_rows_in_train"] == pytest.approx(0.5)


def test_copies_are_looked_for_among_all_training_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(9000, 2, generator=torch.Generator().manual_seed(0))
    flow = pf.real_nvp(2, depth=2, width=8)
    pf.fit(flow, rows, steps=5, progress="none")
    monkeypatch.setattr(type(flow), "sample", lambda self, n, *a, **k: rows[torch.arange(n) % 9000])
    report = pf.check(flow, torch.randn(500, 2), rows, max_rows=500)  # which compares 1,000 training rows
    assert report["privacy"].figures["exact_copies"] == 1
    assert finding(report, "privacy", "copies").verdict == "bad"


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.92, 0.08), (0.25, 0.25, 0.25, 0.25), (0.6, 0.37, 0.03)])
def test_a_column_of_few_values_can_be_calibrated(shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    values = np.array(["red", "blue", "green", "grey"])[: len(shares)]
    train, test = ({"colour": rng.choice(values, n, p=shares)} for n in (20_000, 3000))
    density = pf.fit_table(train, steps=2, progress="none", stack=False)
    report = pf.check(density, test, train)
    assert {finding(report, "calibration", "coverage").verdict, finding(report, "tails", "tails").verdict} <= {
        "good", "cannot tell"
    }  # fmt: skip


def test_float64_rows_far_from_zero_do_not_make_a_map_wrong() -> None:
    rng = np.random.default_rng(0)
    years = np.column_stack([2000 + rng.normal(0, 0.5, 800), rng.normal(size=800)])
    flow = pf.real_nvp(2, depth=2, width=16)
    pf.fit(flow, years, steps=20, progress="none")
    assert finding(pf.check(flow, years[:300]), "exactness", "map").verdict == "good"


def test_jumps_and_narrow_parts_make_no_false_alarm_of_an_integral() -> None:
    density = pf.Flow(pf.Chain(pf.LULinear(2)), 2, base=torch.distributions.Exponential(torch.ones(2)))
    rows = torch.distributions.Exponential(torch.ones(2)).sample((1500,))
    far = pf.check(density, rows)["exactness"]
    assert all(f.verdict in ("good", "cannot tell") for f in far.findings)


def test_percentiles_of_rows_as_likely_as_each_other() -> None:
    kept = np.array([-3.3] * 2 + [-1.0] * 8 + [-0.5] * 11)
    assert percentiles(np.array([-4.0, -3.3, -1.0, -0.5, 0.0]), kept).tolist() == [0, 2.5, 27.5, 75, 100]
    alike = np.full(4, -0.123456789)  # of which a model keeps fewer digits
    assert percentiles(alike, np.array(quantiles_to_keep(alike))).tolist() == [50] * 4
    two = np.array([-2.0, -1.0, -1.0, -1.0])
    assert percentiles(two[:2], np.array(quantiles_to_keep(two))) == pytest.approx([12.5, 62.5], abs=0.1)
