"""How an estimator chooses, builds and trains its flow, given the rows and what the user fixed."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch

from ..flow import Flow, initialize
from ..models import RECIPES
from ..training import Fit, fit
from ..training.rows import needs_float64
from ._input import seed_of
from ._rows import Array, WeightedRows, representative, split, spread

INITIAL_ROWS = 2**16
LEAST_BATCH = 64  # of noisy rows; fewer are drawn several times


def train(estimator: Any, rows: WeightedRows, *, fresh: bool, val_fraction: float, **settings: Any) -> None:
    """Trains the members of an estimator on the rows, and gives it what a fitted one has.

    Args:
        estimator: a `FlowDensity`.
        rows: in the columns that vary.
        fresh: build new flows; else go on with those of the estimator.
        val_fraction: the part of the rows to hold out.
        settings: of `pushforward.train`; None for its default (patience: None for none).

    Raises:
        ValueError: a parameter of the estimator is out of range.
    """
    members, noise = checked_members(estimator.members), estimator.noise
    if noise is not None and not 0 <= noise < math.inf:
        raise ValueError(f"noise must be None or a number of at least 0, got {noise!r}")
    seed = seed_of(estimator.random_state)
    seeds = [seed + 1000 * i for i in range(members if rows.x.shape[1] else 0)]
    if fresh:
        size = {"depth": estimator.depth, "width": estimator.width}
        flows = [build(estimator.recipe, rows, **size, seed=s).to(estimator.device) for s in seeds]
    else:
        flows = copy.deepcopy(estimator.flows_)  # so that an interrupted training leaves the estimator as it was
        if len(flows) != len(seeds):
            raise ValueError(f"members was {len(flows)} when first fitted and is {len(seeds)} now: fit afresh")
    common: dict[str, Any] = {"val_fraction": val_fraction, "noise": noise, "verbose": bool(estimator.verbose)}
    records = [run(f, rows, seed=s, settings=settings, **common) for f, s in zip(flows, seeds, strict=True)]
    estimator.flows_, estimator.fit_records_ = [flow.eval() for flow in flows], records
    estimator.flow_, estimator.fit_record_ = (flows[0], records[0]) if flows else (None, None)
    estimator._mixed, estimator.tables_, estimator.schema_ = None, [], None


def checked_members(members: Any) -> int:
    """The number of members of an estimator.

    Raises:
        ValueError: it is no whole number of at least 1.
    """
    if isinstance(members, bool) or not isinstance(members, int) or members < 1:
        raise ValueError(f"members must be a whole number of at least 1, got {members!r}")
    return members


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
    noise: float | None,
    verbose: bool,
    settings: dict[str, Any],
) -> Fit:
    """Trains a flow on the rows, in float32 where that holds them, and leaves it in float64.

    Scores in float64 do not depend on which rows stand beside each other, to 1e-12 and not to 1e-5.
    """
    device = flow._like().device
    double = needs_float64(rows.x) or (rows.context is not None and needs_float64(rows.context))
    flow.to(torch.float64 if double and device.type != "mps" else torch.float32)
    train, val = split(rows, val_fraction, seed)
    first = representative(rows, INITIAL_ROWS, seed)
    initialize(flow, first.x, first.context)
    settings = {k: v for k, v in settings.items() if v is not None or k == "patience"}
    batch = min(settings.get("batch", 512), max(len(train), LEAST_BATCH))
    if not {"epochs", "steps", "seconds"} & settings.keys():
        settings["steps"] = default_steps(len(rows), batch)
    level = default_noise(len(rows), rows.x.shape[1]) if noise is None else noise
    if level > 0:
        x: Any = _noisy(flow, train, level)
        context = weights = None
        if "epochs" in settings and "steps" not in settings:  # a drawing function has no passes of its own
            settings["steps"] = settings.pop("epochs") * max(1, len(train) // batch)
    else:
        x, context, weights = spread(train).triple()
    record = fit(
        flow, x, None if val is None else val.triple(), context=context, weights=weights, val_fraction=0.0, seed=seed,
        progress="auto" if verbose else "none", **settings | {"batch": batch},
    )  # fmt: skip
    if device.type != "mps":
        flow.double()
    return record


def _noisy(flow: Flow, rows: WeightedRows, level: float) -> Callable[[int, torch.Generator], Any]:
    """A function that draws rows by their weights, with noise of `level` times each column's spread added."""
    like = flow._like()
    x, spread_of = (torch.as_tensor(t, dtype=like.dtype) for t in (rows.x, level * rows.x.std(0)))
    context = None if rows.context is None else torch.as_tensor(rows.context, dtype=like.dtype)
    shares = torch.from_numpy(rows.weights.cumsum() / rows.weights.sum())

    def draw(n: int, generator: torch.Generator) -> Any:
        chosen = torch.searchsorted(shares, torch.rand(n, generator=generator, dtype=torch.float64))
        chosen = chosen.clamp(max=len(x) - 1)
        noise = torch.randn(n, x.shape[1], generator=generator, dtype=like.dtype)
        drawn = torch.addcmul(x[chosen], noise, spread_of).to(like.device)
        return drawn if context is None else (drawn, context[chosen].to(like.device))

    return draw


def draw(flow: Flow, count: int, contexts: Array | None, seed: int) -> Array:
    """Draws count rows, or one for each row of contexts (count, K): -> (count, D)."""
    generator = torch.Generator(flow._like().device).manual_seed(seed)
    if contexts is None:
        x = flow.sample(count, generator=generator)
    else:
        x = flow.sample(1, contexts, generator=generator)[0]
    return x.double().cpu().numpy()


def default_steps(rows: int, batch: int) -> int:
    """Steps where the user left them open: about 100 passes, but 3 steps a row if they are few and 10,000 at most."""
    least = min(max(3 * rows, 100), 2_000)
    return min(max(100 * math.ceil(rows / batch), least), 10_000)


def default_noise(rows: int, features: int) -> float:
    """Noise for few rows, in units of each column's spread: more for more columns (measured, as `_are_few`)."""
    return min(0.5, max(10.0, 2.5 * features) / rows) if _are_few(rows, features) else 0.0


def _are_few(rows: int, features: int) -> bool:
    """Whether a full-size flow would learn the rows by heart. Measured on 2 to 43 columns and 15 to 3,000 rows.

    Of few rows a full-size flow made held-out log-densities of -1e5 and worse: it stretches without bounds where no row
    was. Noise, a smaller net and a tighter clamp end that, and beat a full-covariance Gaussian from about 100 rows on.
    """
    return rows < 200 * math.sqrt(features)


def _size(rows: int, features: int) -> dict[str, Any]:
    """Arguments of a recipe that suit a number of rows."""
    if features == 1:
        return {"depth": 2, "width": 16} | ({"components": rows // 10} if rows < 80 else {})
    if _are_few(rows, features):
        return {"depth": 4, "width": 32, "clamp": 0.7}
    return {"depth": 8, "width": 64, "clamp": 1.5}
