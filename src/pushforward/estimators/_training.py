"""How an estimator chooses, builds and trains its flow, given the rows and what the user fixed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ..flow import Ensemble, Flow, initialize
from ..training import Fit, fit
from ..training.auto import choose, steps_for
from ..training.auto import settings as settings_for
from ..training.data import needs_float64
from ..training.settings import check_settings
from ..training.unbounded import warn_of_unbounded
from ._input import seed_of
from ._rows import Array, WeightedRows, representative, split, spread

INITIAL_ROWS = 2**16
_ADVICE = "Leave them out, smooth the rows with noise=, or set kinds={}: mixed rows give single values a mass"


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
    check_settings({"noise": noise})
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
    names = [estimator._columns[i] for i in estimator._varying]
    record = run(flows, rows, seed=seed, settings=settings, names=names if fresh else None, **common) if flows else None
    estimator.flows_, estimator.fit_record_ = [flow.eval() for flow in flows], record
    estimator.flow_ = flows[0] if flows else None
    estimator._mixed = estimator.table_ = estimator.schema_ = None


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
        rows: the training rows; their number decides on the size.
        depth: number of layers; None leaves it to the rule.
        width: hidden units; None leaves it to the rule.
        seed: of the initial weights.

    Raises:
        ValueError: no such recipe, or one that does not take what was given.
    """
    features, context_dim = rows.x.shape[1], 0 if rows.context is None else rows.context.shape[1]
    choice = choose(len(rows), features, recipe=recipe, context_dim=context_dim)
    return choice.build(features, context_dim=context_dim, seed=seed, depth=depth, width=width)


def run(
    flows: Sequence[Flow],
    rows: WeightedRows,
    *,
    seed: int,
    val_fraction: float,
    noise: float | None,
    verbose: bool,
    settings: dict[str, Any],
    names: Sequence[Any] | None = None,
) -> Fit:
    """Trains one flow, or several together, on the rows, in float32 where that holds them, and leaves them in float64.

    Scores in float64 do not depend on which rows stand beside each other, to 1e-12 and not to 1e-5. Columns over which
    the density can grow without bound are told if there are names for them.
    """
    device = flows[0]._like().device
    model = flows[0] if len(flows) == 1 else Ensemble(flows)
    double = needs_float64(rows.x) or (rows.context is not None and needs_float64(rows.context))
    model.to(torch.float64 if double and device.type != "mps" else torch.float32)
    train, val = split(rows, val_fraction, seed)
    first = representative(rows, INITIAL_ROWS, seed)
    for flow in flows:
        initialize(flow, first.x, first.context)
    settings = {k: v for k, v in settings.items() if v is not None or k == "patience"}
    settings = {**settings_for((flows[0].recipe or {}).get("name"), len(rows), rows.x.shape[1]), **settings}
    if not {"epochs", "steps", "seconds"} & settings.keys():
        settings["steps"] = steps_for(len(rows), settings["batch"])
    if noise is not None:
        settings["noise"] = noise
    if names is not None and settings["noise"] == 0:
        warn_of_unbounded(rows.x, names, _ADVICE)
    x, context, weights = spread(train).triple()
    record = fit(
        model, x, None if val is None else val.triple(), context=context, weights=weights, val_fraction=0.0, seed=seed,
        check=False, progress="auto" if verbose else "none", **settings,
    )  # fmt: skip
    if device.type != "mps":
        model.double()
    return record


def draw(flow: Flow, count: int, contexts: Array | None, seed: int) -> Array:
    """Draws count rows, or one for each row of contexts (count, K): -> (count, D)."""
    generator = torch.Generator(flow._like().device).manual_seed(seed)
    if contexts is None:
        x = flow.sample(count, generator=generator)
    else:
        x = flow.sample(1, contexts, generator=generator)[0]
    return x.double().cpu().numpy()
