"""Writes a golden file: `python tests/golden/make.py NAME`. Run once for each new recipe or format, never again."""

import json
import sys
from pathlib import Path

import torch

import pushforward as pf

RECIPES = {
    "real_nvp_v1": lambda: pf.real_nvp(3, context_dim=2, depth=3, width=8, components=2, mixing="permute", seed=4),
    "real_nvp_lu_v1": lambda: pf.real_nvp(2, depth=2, width=8, mixing="lu", residual=True, seed=5),
    "spline_flow_v1": lambda: pf.spline_flow(3, depth=2, width=8, bins=4, bound=3.0, components=2, seed=6),
    "triangular_spline_flow_v1": lambda: pf.triangular_spline_flow(2, width=8, bins=5, seed=7),
    "triangular_spline_flow_context_v1": lambda: pf.triangular_spline_flow(3, context_dim=2, width=8, seed=8),
    "ensemble_v1": lambda: pf.Ensemble([pf.real_nvp(3, context_dim=2, depth=2, width=8, seed=k) for k in range(3)]),
}


def main(name: str) -> None:
    path = Path(__file__).parent / f"{name}.safetensors"
    if path.exists():
        raise SystemExit(f"{path} exists: golden files are never rewritten")
    flow = RECIPES[name]()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, *flow.shape, generator=generator) * 2 + 1
    context = torch.randn(200, flow.context_dim, generator=generator) if flow.context_dim else None
    pf.fit(flow, x, context=context, steps=50, progress="none")
    pf.save(flow, path, schema={"columns": [f"x{i}" for i in range(flow.shape[0])]})
    expected = {
        "recipe": flow.recipe,
        "x": x[:5].tolist(),
        "context": None if context is None else context[:5].tolist(),
    }
    expected["log_prob"] = flow.log_prob(x[:5], None if context is None else context[:5]).tolist()
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
