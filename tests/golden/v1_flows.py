"""The flows and ensembles whose golden files `make_v1_more.py` wrote."""

from __future__ import annotations

from collections.abc import Callable

import pushforward as pf

Model = pf.Flow | pf.Ensemble

TINY = {"depth": 3, "width": 8}


def _real_nvp_residual() -> Model:
    return pf.real_nvp(3, **TINY, residual=True, hidden_layers=3, activation="tanh", clamp=1.5, seed=15)


def _members(build: Callable[..., pf.Flow], shape: int, count: int, **arguments: object) -> pf.Ensemble:
    return pf.Ensemble([build(shape, **TINY, **arguments, seed=k) for k in range(count)])


FLOWS: dict[str, tuple[str, Callable[[], Model]]] = {
    "real_nvp_default_v1": ("all sizes left to the recipe, D=2", lambda: pf.real_nvp(2)),
    "real_nvp_auto_v1": ("mixing auto for D=3, which is lu", lambda: pf.real_nvp(3, **TINY, seed=10)),
    "real_nvp_context_v1": ("context, mixing lu", lambda: pf.real_nvp(3, context_dim=2, **TINY, seed=11)),
    "real_nvp_permute_v1": ("mixing permute", lambda: pf.real_nvp((4,), **TINY, mixing="permute", seed=12)),
    "real_nvp_flip_v1": ("mixing flip, D=5", lambda: pf.real_nvp(5, **TINY, mixing="flip", seed=13)),
    "real_nvp_components_v1": ("a mixture base", lambda: pf.real_nvp(3, **TINY, components=3, seed=14)),
    "real_nvp_residual_v1": ("residual layers, tanh, another clamp", _real_nvp_residual),
    "real_nvp_raw_v1": (
        "standardize=False, with context",
        lambda: pf.real_nvp(3, context_dim=2, **TINY, standardize=False, seed=16),
    ),
    "real_nvp_linear_v1": (
        "no hidden layer, no mixing",
        lambda: pf.real_nvp(2, depth=2, width=8, hidden_layers=0, seed=24),
    ),
    "real_nvp_1d_v1": ("D=1, whose base is a mixture", lambda: pf.real_nvp(1, **TINY, seed=17)),
    "real_nvp_1d_context_v1": ("D=1 with context", lambda: pf.real_nvp(1, context_dim=2, **TINY, seed=18)),
    "real_nvp_fresh_v1": ("never trained nor initialised", lambda: pf.real_nvp(3, **TINY, seed=19)),
    "real_nvp_schema_v1": ("schema and training summary", lambda: pf.real_nvp(3, **TINY, seed=20)),
    "real_nvp_float64_v1": ("float64", lambda: pf.real_nvp(3, context_dim=1, **TINY, components=2, seed=21).double()),
    "real_nvp_bfloat16_v1": (
        "bfloat16",
        lambda: pf.real_nvp(2, depth=2, width=8, mixing="flip", seed=22).bfloat16(),
    ),
    "spline_flow_lu_v1": ("mixing lu, D=4", lambda: pf.spline_flow(4, **TINY, bins=4, mixing="lu", seed=30)),
    "spline_flow_permute_v1": ("mixing permute", lambda: pf.spline_flow(4, **TINY, bins=5, mixing="permute", seed=31)),
    "spline_flow_1d_v1": ("D=1", lambda: pf.spline_flow(1, **TINY, bins=6, seed=32)),
    "spline_flow_context_v1": ("context", lambda: pf.spline_flow(3, context_dim=2, **TINY, bins=4, seed=33)),
    "spline_flow_1d_context_v1": (
        "D=1, context, standardize=False",
        lambda: pf.spline_flow(1, context_dim=1, **TINY, bins=4, standardize=False, seed=34),
    ),
    "triangular_spline_flow_1d_v1": ("D=1", lambda: pf.triangular_spline_flow(1, width=8, seed=40)),
    "triangular_spline_flow_3d_v1": ("D=3, mixing lu", lambda: pf.triangular_spline_flow(3, width=8, seed=41)),
    "triangular_spline_flow_rotation_v1": (
        "rotations in four dimensions, a mixture base",
        lambda: pf.triangular_spline_flow(4, width=8, bins=4, mixing="rotation", components=2, seed=42),
    ),
    "triangular_spline_flow_1d_context_v1": (
        "D=1 with context",
        lambda: pf.triangular_spline_flow(1, context_dim=2, width=8, bins=4, seed=43),
    ),
    "triangular_spline_flow_plane_context_v1": (
        "D=2, rotation, context",
        lambda: pf.triangular_spline_flow(2, context_dim=1, width=8, bins=4, seed=44),
    ),
    "triangular_spline_flow_float64_v1": (
        "float64, standardize=False, permute",
        lambda: pf.triangular_spline_flow(3, width=8, bins=4, mixing="permute", standardize=False, seed=45).double(),
    ),
    "ensemble_plain_v1": ("three members without context", lambda: _members(pf.real_nvp, 3, 3)),
    "ensemble_spline_context_v1": (
        "two members of spline_flow with context",
        lambda: _members(pf.spline_flow, 2, 2, context_dim=2, bins=4),
    ),
    "ensemble_components_v1": ("two members with mixture bases", lambda: _members(pf.real_nvp, 2, 2, components=2)),
    "ensemble_single_v1": ("one member, schema and training summary", lambda: _members(pf.real_nvp, 2, 1)),
    "ensemble_float64_v1": (
        "float64",
        lambda: _members(pf.triangular_spline_flow, 2, 2, bins=4).double(),
    ),
}

WITH_SCHEMA = ("real_nvp_schema_v1", "ensemble_single_v1")
UNTRAINED = ("real_nvp_fresh_v1",)
