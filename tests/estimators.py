"""Estimators of small trainings, and the rows that they learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pushforward as pf


def small(**settings: Any) -> pf.FlowDensity:
    return pf.FlowDensity(**{"depth": 2, "width": 8, "steps": 40, "stack": False, "random_state": 0} | settings)


def normal_rows(n: int = 300, d: int = 2, seed: int = 0) -> np.ndarray:
    """Correlated normal rows of very different scales."""
    z = np.random.default_rng(seed).normal(size=(n, d))
    return z @ (np.eye(d) + 0.5 * np.tri(d, k=-1)) * np.geomspace(0.1, 10, d) + 3.0


def conditional(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, 1) that follow the first column of their contexts (N, 2)."""
    rng = np.random.default_rng(0)
    context = rng.uniform(-1, 1, (n, 2))
    return (3 * context[:, :1] + 0.3 * rng.normal(size=(n, 1))), context


def frames(x: np.ndarray, names: list[str]) -> dict[str, Any]:
    """The same columns in each kind of table."""
    pd, pl, pa = (pytest.importorskip(m, reason="the kinds of frames") for m in ("pandas", "polars", "pyarrow"))
    columns = {n: x[:, i] for i, n in enumerate(names)}
    return {"pandas": pd.DataFrame(columns, index=range(10, 10 + len(x))), "polars": pl.DataFrame(columns),
            "pyarrow": pa.table(columns)}  # fmt: skip
