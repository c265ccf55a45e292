"""The package without what exists for speed alone: switched off by PUSHFORWARD_PLAIN, or with `_fast` deleted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pushforward as pf

SOURCE = Path(pf.__file__).parent
GOLDEN = Path(__file__).parent / "golden"
NAMES = ("real_nvp_default_v1", "spline_flow_lu_v1", "triangular_spline_flow_3d_v1")

# Trains a little, scores, samples, saves and loads; then scores a file that was saved long ago.
TOUR = f"""
import json, pathlib, sys, tempfile
import torch
import pushforward as pf
from pushforward.switch import PLAIN
x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
with tempfile.TemporaryDirectory() as folder:
    for flow in (pf.real_nvp(2, depth=2, width=8), pf.spline_flow(2, depth=1, width=8), pf.triangular_spline_flow(2)):
        pf.fit(flow, x, steps=20, progress="none")
        pf.save(flow, pathlib.Path(folder) / "flow.safetensors")
        again = pf.load(pathlib.Path(folder) / "flow.safetensors")
        assert torch.equal(again.log_prob(x), flow.log_prob(x))
        assert flow.sample(7).shape == (7, 2)
    pf.fit(pf.Ensemble([pf.real_nvp(2, depth=2, width=8, seed=k) for k in range(2)]), x, steps=20, progress="none")
    table = {{"size": x[:, 0].numpy(), "colour": ["red", "blue"] * 250}}
    density = pf.fit_table(table, steps=20, depth=1, width=8, progress="none", stack=False)
    assert torch.isfinite(density.log_prob(table)).all()
scores = []
for name in {NAMES}:
    path = pathlib.Path({str(GOLDEN)!r}) / (name + ".safetensors")
    rows = torch.tensor(json.loads(path.with_suffix(".json").read_text())["x"]).double()
    scores.append(pf.load(path).double().log_prob(rows).tolist())
print(json.dumps({{"file": pf.__file__, "plain": PLAIN, "scores": scores,
                  "fast": sorted(m for m in sys.modules if m.startswith("pushforward._fast."))}}))
"""


def run(code: str, source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(source)} | environment
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


def tour(source: Path, **environment: str) -> dict:
    result = run(TOUR, source, **environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def golden_scores() -> list[list[float]]:
    return [json.loads((GOLDEN / f"{name}.json").read_text())["double"]["log_prob"] for name in NAMES]


def check(told: dict) -> None:
    assert told["plain"]
    assert not told["fast"]
    for scores, expected in zip(told["scores"], golden_scores(), strict=True):
        assert scores == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.slow
def test_all_works_with_the_fast_room_deleted(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "pushforward", ignore=shutil.ignore_patterns("_fast", "__pycache__"))
    told = tour(tmp_path)
    assert Path(told["file"]).is_relative_to(tmp_path)
    check(told)


@pytest.mark.slow
def test_all_works_with_fast_code_switched_off() -> None:
    check(tour(SOURCE.parent, PUSHFORWARD_PLAIN="1"))


def test_a_broken_fast_room_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "pushforward", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "pushforward" / "_fast").rglob("*.py"):
        path.write_text("raise ImportError('half an installation')\n")
    result = run("import pushforward as pf; pf.fit", tmp_path, PUSHFORWARD_PLAIN="0")
    assert result.returncode != 0
    assert "half an installation" in result.stderr
