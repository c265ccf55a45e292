"""Samples against data for any number of columns: a corner of histograms and contours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style


def pairs(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    max_columns: int = 6,
    max_points: int = 1500,
    fig: Figure | None = None,
) -> Figure:
    """Samples against data, a column and a pair of columns at a time: a corner of histograms and contours.

    The contours hold 50 and 90 % of the mass of a smoothed histogram; the points are single rows. Limits follow the
    data's 0.5 to 99.5 % quantiles.

    Args:
        samples: (N, D), of a model.
        data: (M, D); None draws the samples alone.
        columns: D names.
        max_columns: of more columns the first so many are shown.
        max_points: of the rows at most so many are drawn as points, of each kind; contours and histograms use all.
        fig: the figure to draw into.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    model = style.rows(samples, "samples")
    reference = model if data is None else style.rows(data, "data")
    features = reference.shape[1]
    if model.shape[1] != features:
        raise ValueError(f"samples and data must have the same columns, got {model.shape[1]} and {features}")
    if max_columns < 1 or max_points < 0:
        raise ValueError(f"max_columns must be at least 1 and max_points at least 0, got {max_columns}, {max_points}")
    names = style.axis_names(columns, features)
    shown = min(features, max_columns)
    kinds = []
    clouds = (("data", reference, style.DATA), ("model", model, style.MODEL))
    for label, points, colour in clouds if data is not None else clouds[1:]:
        kept = style.finite(points)
        lost = len(points) - len(kept)
        kinds.append((f"{label}, {len(points)} rows{f', {lost} not finite' if lost else ''}", kept, colour))
    spans = style.window(reference, pad=0.15)
    side = max(4.2, 1.9 * shown + 0.6)
    fig = Figure((side, side), layout="constrained") if fig is None else fig
    axes = fig.subplots(shown, shown, squeeze=False)
    for i in range(shown):
        for j in range(shown):
            ax = axes[i, j]
            if j > i:
                ax.set_axis_off()
                continue
            for label, points, colour in kinds:
                if i == j:
                    style.histogram(ax, points[:, i], spans[i], colour, label, fill=points is kinds[0][1])
                else:
                    width = 2.4 if points is kinds[0][1] else 1.1  # data shows beside a model right on top of it
                    _cloud(ax, points[:, [j, i]], spans[j], spans[i], colour, width, max_points)
            ax.set(xlim=spans[j], box_aspect=1)
            style.dress(ax, x=names[j] if i == shown - 1 else "", y=names[i] if j == 0 < i else "", closed=i != j)
            ax.tick_params(labelbottom=i == shown - 1, labelleft=j == 0 < i, labelsize=8)
            if i == j:
                ax.set(yticks=[], ylim=(0, None))
                ax.spines["left"].set_visible(False)
            else:
                ax.set_ylim(spans[i])
    note = f"first {shown} of {features} columns" if shown < features else None
    handles, texts = axes[0, 0].get_legend_handles_labels()
    legend = fig.legend(
        handles,
        texts,
        loc="upper right",
        frameon=False,
        fontsize=10,
        title=note,
        labelcolor=style.INK,
        title_fontsize=9,
    )
    legend.set_in_layout(False)
    fig.align_ylabels()
    return fig


def _cloud(
    ax: Axes,
    points: np.ndarray,
    x: tuple[float, float],
    y: tuple[float, float],
    colour: str,
    width: float,
    max_points: int,
) -> None:
    """Single rows as faint points, and the contours of a smoothed histogram over them."""
    some = points[:: max(1, -(-len(points) // max(max_points, 1)))] if max_points else points[:0]
    ax.scatter(*some.T, s=2, color=colour, alpha=0.2, linewidths=0, rasterized=True)
    if len(points) < 100:  # too few for a density: the points say it all
        return
    bins = int(min(max(len(points) ** 0.5 / 2, 12), 60))
    counts, *edges = np.histogram2d(points[:, 0], points[:, 1], bins, (x, y))
    taps = np.exp(-0.5 * (np.arange(-3, 4) / 1.2) ** 2)
    for _ in range(2):  # smooth one axis, then the other
        counts = np.stack([np.convolve(row, taps, mode="same") for row in counts.T])
    levels = sorted(set(style.mass_levels(counts, [0.9, 0.5])))
    if levels[0] > 0:
        middles = [(e[1:] + e[:-1]) / 2 for e in edges]
        ax.contour(*middles, counts.T, levels=levels, colors=colour, linewidths=width, alpha=0.55 if width > 2 else 1)
