"""Training curves: as a model file keeps them, and drawn from there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..training import Epoch

CURVE_POINTS = 200  # of a training curve that a model keeps


def thinned(curve: Sequence[Epoch]) -> dict[str, Any]:
    """A training curve, JSON-able, of not too many points; the lowest validation is among them."""
    places = set(np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int).tolist())
    measured = [i for i, e in enumerate(curve) if e.val_nll is not None and math.isfinite(e.val_nll)]
    best = min(measured, key=lambda i: curve[i].val_nll or 0.0, default=0)
    some = [curve[i] for i in sorted(places | {best})]
    rounded = {"train_nll": [e.train_nll for e in some], "val_nll": [e.val_nll for e in some]}
    finite = {k: [round(v, 5) if v is not None and math.isfinite(v) else None for v in vs] for k, vs in rounded.items()}
    lowest = curve[-1].best_val_nll
    if lowest is not None and math.isfinite(lowest):
        finite |= {"best_val_nll": round(lowest, 5), "best_step": curve[-1].best_step}
    return {"step": [e.step for e in some], "seconds": [round(e.seconds, 2) for e in some], **finite}


def histories(curves: Sequence[dict[str, Any]], floor: float | None = None, dimensions: int | None = None) -> Any:
    """The training curves of a model file, one beside the other: a figure.

    Args:
        curves: of `thinned`, perhaps with the name of what was trained as "of".
        floor: the entropy of the data, where it is known.
        dimensions: as of `plots.history`.
    """
    from .. import plots
    from ..plots import style

    axes, figure = style.panels(None, 1, len(curves), (0.6 + 5.8 * len(curves), 4.0))
    for ax, curve in zip(axes[0], curves, strict=True):
        plots.history(_epochs(curve), floor=floor, dimensions=dimensions, ax=ax)
        if curve.get("of"):
            ax.set_title(curve["of"], fontsize=11, color=style.INK, loc="left", pad=7)
    return figure


def _epochs(curve: dict[str, Any]) -> list[SimpleNamespace]:
    best = {name: curve.get(name) for name in ("best_val_nll", "best_step")}
    points = zip(*(curve[k] for k in ("step", "seconds", "train_nll", "val_nll")), strict=True)
    return [
        SimpleNamespace(step=step, seconds=seconds, train_nll=math.nan if train is None else train, val_nll=val, **best)
        for step, seconds, train, val in points
    ]
