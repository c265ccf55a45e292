"""The course of a training: negative log-densities of training and validation, and where the best was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..training.progress import Fit
from . import style

_START = 0.1  # of the records: what lies higher than all later ones may be cut off


def history(
    epochs: Sequence[Any] | Fit, *, against: str = "step", floor: float | None = None, dimensions: int | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """A training's negative log-densities, in nats per row, with the lowest validation marked.

    A record of few steps, as at the end of a long pass, has a noisy mean: it is shown averaged with the one before.
    Where the first records are far above the rest, the curves enter from above.

    Args:
        epochs: the records of `train`, or the `Fit` that has them: objects with step, epoch, seconds, train_nll and
            val_nll (a number or None), and of the last one best_val_nll and best_step where it has them.
        against: "step", "epoch" or "seconds", the horizontal axis.
        floor: the entropy of the data where it is known, in nats: no model can come below it.
        dimensions: D, for bits per dimension in place of nats, as of images.
        ax: the axes to draw into.

    Raises:
        ValueError: there are no records, or `against` is another word.
    """
    epochs = epochs.epochs if isinstance(epochs, Fit) else epochs
    if not epochs:
        raise ValueError("expected at least one record of a training, got none")
    if against not in ("step", "epoch", "seconds"):
        raise ValueError(f"against must be step, epoch or seconds, got {against!r}")
    unit = 1.0 if dimensions is None else 1 / (dimensions * math.log(2))
    step, at = (np.array([getattr(e, name) for e in epochs], float) for name in ("step", against))
    train = unit * _steadied(np.array([e.train_nll for e in epochs], float), step)
    validation = np.array([math.nan if e.val_nll is None else e.val_nll for e in epochs], float)
    best = _best(epochs, step, validation)
    validation, best = unit * validation, None if best is None else (best[0], unit * best[1])
    at_validation = at
    if best is not None and best[0] == 0 and step[0] > 0:  # the validation before the first step is no record
        at_validation, validation = np.append(0.0, at), np.append(best[1], validation)
    ax = style.figure_of(ax, (6.6, 4.0))
    marker: Any = {"marker": "o" if len(at) <= 30 else None, "markersize": 3}
    ax.plot(at, train, color=style.DATA, linewidth=1.1, alpha=0.65, label="training", **marker)
    if best is not None:
        best_step, lowest = best
        measured = np.isfinite(validation)
        where = f"at step {best_step:,.0f}" if best_step else "before training"
        place = np.interp(best_step, np.append(0.0, step), np.append(0.0, at))
        line: Any = {"color": style.MODEL, "linewidth": 1.6, "label": "validation", **marker}
        ax.plot(at_validation[measured], validation[measured], **line)
        dot: Any = {"color": style.MODEL, "markersize": 7, "markeredgecolor": "white", "clip_on": False, "zorder": 3}
        ax.plot(place, lowest, "o", label=f"best {lowest:.4g}, {where}", **dot)
    if floor is not None:
        ax.axhline(floor, color=style.INK, linewidth=1, linestyle=(0, (4, 3)), label=f"entropy of the data {floor:.4g}")
    _set_limits(ax, [train, validation], [None if best is None else best[1], floor])
    style.dress(ax, x=against, y="nats per row" if dimensions is None else "bits per dimension")
    ax.grid(axis="y", color=style.RULE, linewidth=0.5, alpha=0.5)
    ax.legend(fontsize=8.5, frameon=False, labelcolor=style.INK, loc="best")
    return ax


def _best(epochs: Sequence[Any], step: np.ndarray, validation: np.ndarray) -> tuple[float, float] | None:
    """-> the step of the lowest validation and its value, as the last record tells; None without validation."""
    kept, kept_step = (getattr(epochs[-1], name, None) for name in ("best_val_nll", "best_step"))
    if kept is not None and not math.isfinite(kept):
        kept = None
    if kept is not None and kept_step is not None:
        return kept_step, kept
    finite = np.where(np.isfinite(validation), validation, math.inf)
    lowest = int(finite.argmin())
    if kept is not None and not kept >= finite[lowest] - 1e-5 * abs(kept):  # records of before may be rounded
        return 0, kept
    return (float(step[lowest]), float(finite[lowest])) if math.isfinite(finite[lowest]) else None


def _set_limits(ax: Axes, curves: Sequence[np.ndarray], marks: Sequence[float | None]) -> None:
    """Shows each curve whole, but for a start far above the rest and for spikes, and all marks."""
    finite = [curve[np.isfinite(curve)] for curve in curves]
    shown = [value for value in marks if value is not None and math.isfinite(value)]
    every = np.concatenate([*finite, shown])
    if not len(every):
        return
    late = [curve[int(_START * len(curve)) :] for curve in finite if len(curve)]
    low = every.min()
    usual = max([*(float(np.quantile(curve, 0.9)) for curve in late), *shown])
    high = min(every.max(), low + 1.5 * (usual - low))
    margin = 0.06 * (high - low) + 1e-6 * max(1.0, abs(low))
    ax.set_ylim(low - margin, high + margin)


def _steadied(means: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Means over the steps since the record before, each of few steps averaged with that record's by their steps."""
    taken = np.diff(step, prepend=0)
    short = np.flatnonzero(taken[1:] < 0.5 * np.median(taken)) + 1
    steadied = means.copy()
    weights = taken[short], taken[short - 1]
    steadied[short] = (weights[0] * means[short] + weights[1] * means[short - 1]) / np.maximum(sum(weights), 1)
    return steadied
