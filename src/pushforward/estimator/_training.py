"""How an estimator chooses, builds and trains its flow, given the rows and what the user fixed."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch

from ..flow import Flow, initialize
from ..models import RECIPES
from ..training import Fit, fit
from ._rows import Array, WeightedRows, representative, split, spread

MAX_MIXTURE = 8  # Gaussians in the base of a single column, which affine couplings could only shift and scale
FAR = 1e4  # a column whose mean is this many standard deviations from zero loses detail in float32
FLOAT32_RANGE = (1e-30, 1e30)
INITIAL_ROWS = 2**16


def build(recipe: Any, rows: WeightedRows, depth: int | None, width: int | None, seed: int) -> Flow:
    """A flow for the rows, not yet trained.

    Args:
        recipe: "auto", the name of a recipe, or a function (features, context_dim=, seed=, ...) -> Flow.
        rows: the training rows; their number and their scale decide on the size and the precision.
        depth: number of layers; None leaves it to the rule.
        width: hidden units; None leaves it to the rule.
        seed: of the initial weights.

    Raises:
        ValueError: no such recipe, or one that does not take what was given.
    """
    features, context_dim = rows.x.shape[1], 0 if rows.context is None else rows.context.shape[1]
    if recipe != "auto" and not callable(recipe) and recipe not in RECIPES:
        raise ValueError(f"recipe must be auto, one of {', '.join(RECIPES)}, or a function, got {recipe!r}")
    make = recipe if callable(recipe) else RECIPES["real_nvp" if recipe == "auto" else recipe]
    known = inspect.signature(make).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
    given = {k: v for k, v in (("depth", depth), ("width", width)) if v is not None}
    if context_dim:
        given["context_dim"] = context_dim
    for name in given:
        if name not in known and not takes_all:
            raise ValueError(f"the recipe {getattr(make, '__name__', make)} takes no {name}")
    arguments: dict[str, Any] = {k: v for k, v in _size(len(rows), features).items() if k in known} | given
    if "seed" in known or takes_all:
        arguments["seed"] = seed
    flow = make(features, **arguments)
    if not isinstance(flow, Flow) or flow.shape != (features,):
        raise ValueError(f"the recipe must return a Flow over ({features},), got {flow!r:.80}")
    return flow


def run(
    flow: Flow,
    rows: WeightedRows,
    *,
    seed: int,
    val_fraction: float,
    verbose: bool,
    settings: dict[str, Any],
) -> Fit:
    """Trains a flow on the rows, in float32 where that holds them, and leaves it in float64.

    Scores in float64 do not depend on which rows stand beside each other, to 1e-12 and not to 1e-5.
    """
    device = flow._like().device
    flow.to(torch.float64 if needs_float64(rows) and device.type != "mps" else torch.float32)
    train, val = split(rows, val_fraction, seed)
    first = representative(rows, INITIAL_ROWS, seed)
    initialize(flow, first.x, first.context)
    x, context, weights = spread(train).triple()
    settings = {k: v for k, v in settings.items() if v is not None}
    if not {"epochs", "steps", "seconds"} & settings.keys():
        settings["steps"] = default_steps(len(rows), min(settings.get("batch", 512), len(x)))
    record = fit(
        flow, x, None if val is None else val.triple(), context=context, weights=weights, val_fraction=0.0, seed=seed,
        progress="auto" if verbose else "none", **settings,
    )  # fmt: skip
    if device.type != "mps":
        flow.double()
    return record


def draw(flow: Flow, count: int, contexts: Array | None, seed: int) -> Array:
    """Draws count rows, or one for each row of contexts (count, K): -> (count, D)."""
    generator = torch.Generator(flow._like().device).manual_seed(seed)
    if contexts is None:
        x = flow.sample(count, generator=generator)
    else:
        x = flow.sample(1, contexts, generator=generator)[0]
    return x.double().cpu().numpy()


def default_steps(rows: int, batch: int) -> int:
    """Steps of a training whose length the user left open: about 100 passes, between 2 steps a row and 10,000."""
    least = min(max(2 * rows, 100), 2_000)
    return min(max(100 * math.ceil(rows / batch), least), 10_000)


def needs_float64(rows: WeightedRows) -> bool:
    """Whether float32 would lose detail: a column far from zero for its spread, or beyond float32's range."""
    for values in (rows.x,) if rows.context is None else (rows.x, rows.context):
        with np.errstate(over="ignore"):
            spread_of, centre = values.std(0), np.abs(values.mean(0))
        largest = np.abs(values).max(0)
        scale = spread_of[spread_of > 0]
        if bool((centre > FAR * spread_of)[spread_of > 0].any()) or bool((largest > FLOAT32_RANGE[1]).any()):
            return True
        if bool((scale < FLOAT32_RANGE[0]).any()):
            return True
    return False


def _size(rows: int, features: int) -> dict[str, int]:
    """Depth and width that suit a number of rows."""
    if features == 1:
        return {"depth": 2, "width": 16, "components": min(MAX_MIXTURE, rows // 10)}
    if rows < 500:
        return {"depth": 4, "width": 16}
    return {"depth": 8, "width": 64}
