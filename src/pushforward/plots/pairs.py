"""Samples against data for any number of columns, of any kind: a corner of pairs, and each column by itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import _categories, style

_Kind = tuple[str, np.ndarray, str]  # label, rows (N, D), colour; the data first


def pairs(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    labels: Mapping[int, Sequence[str]] | None = None,
    dates: Collection[int] = (),
    max_columns: int = 6,
    max_points: int = 1500,
    ax: style.Panels | None = None,
) -> style.Panels:
    """Samples against data, a column and a pair of columns at a time: a corner of histograms and contours.

    The contours hold 50 and 90 % of the mass of a smoothed histogram; the points are single rows. Limits follow the
    data's 0.5 to 99.5 % quantiles. A category shows the shares of its values; beside a number, the number's middle
    half and its middle nine tenths within each value; beside another category, squares whose area is a share.

    Args:
        samples: (N, D), of a model; of a category its codes, of a date the days since 1970. NaN for a missing cell.
        data: (M, D); None draws the samples alone.
        columns: D names.
        labels: number of a column -> the names of its codes 0, 1, ..., for columns that are categories.
        dates: numbers of the columns that are dates.
        max_columns: of more columns the first so many are shown.
        max_points: of the rows at most so many are drawn as points, of each kind; contours and histograms use all.
        ax: axes to draw into, at least as many as there are panels.

    Returns:
        the axes of the panels, as many down and across as there are.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    if max_columns < 1 or max_points < 0:
        raise ValueError(f"max_columns must be at least 1 and max_points at least 0, got {max_columns}, {max_points}")
    kinds, names, spans = _prepared(samples, data, columns, labels)
    features = len(names)
    shown, coded = min(features, max_columns), labels or {}
    side = max(4.2, 1.9 * shown + 0.6)
    axes, fig = style.panels(ax, shown, shown, (side, side))
    for (i, j), panel in np.ndenumerate(axes):
        if j > i:
            panel.set_axis_off()
            continue
        if i == j:
            _column(panel, kinds, i, spans[i], coded.get(i))
        else:
            _pair(panel, kinds, (j, i), (spans[j], spans[i]), (coded.get(j), coded.get(i)), max_points)
        panel.set(xlim=spans[j], box_aspect=1)
        style.dress(panel, x=names[j] if i == shown - 1 else "", y=names[i] if j == 0 < i else "", closed=i != j)
        panel.tick_params(labelbottom=i == shown - 1, labelleft=j == 0 < i, labelsize=8)
        ticks(panel.xaxis, j in dates, coded.get(j), i == shown - 1)
        if i == j:
            panel.set(yticks=[], ylim=(0, None))
            panel.spines["left"].set_visible(False)
        else:
            panel.set_ylim(spans[i])
            ticks(panel.yaxis, i in dates, coded.get(i), False)
    note = f"{shown} of {features} columns" if shown < features else None
    _legend(fig, axes[0, 0], note, loc="upper right")
    fig.align_ylabels(axes.ravel())
    return axes


def marginals(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    labels: Mapping[int, Sequence[str]] | None = None,
    dates: Collection[int] = (),
    max_columns: int = 40,
    ax: style.Panels | None = None,
) -> style.Panels:
    """Each column by itself: histograms of numbers, shares of categories, samples over data.

    Args:
        samples: as `pairs` takes them.
        data: (M, D); None draws the samples alone.
        columns: D names.
        labels: as `pairs`.
        dates: as `pairs`.
        max_columns: of more columns the first so many are shown.
        ax: axes to draw into, at least as many as there are panels.

    Returns:
        the axes of the panels, as many down and across as there are.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    kinds, names, spans = _prepared(samples, data, columns, labels)
    shown, coded = min(len(names), max_columns), labels or {}
    across = min(shown, 4)
    down = math.ceil(shown / across)
    axes, fig = style.panels(ax, down, across, (2.7 * across + 0.3, 2.1 * down + 0.7))
    for i, panel in enumerate(axes.flat):
        if i >= shown:
            panel.set_axis_off()
            continue
        _column(panel, kinds, i, spans[i], coded.get(i))
        panel.set(xlim=spans[i], ylim=(0, None), yticks=[])
        style.dress(panel)
        name = names[i] if len(names[i]) <= 30 else f"{names[i][:28]} …"
        panel.set_title(name, fontsize=9, color=style.INK, loc="left")
        panel.spines["left"].set_visible(False)
        ticks(panel.xaxis, i in dates, coded.get(i), True)
        gone = [np.isnan(rows[:, i]).mean() for _, rows, _ in kinds]
        if max(gone) > 0:
            text = "missing " + " | ".join(f"{share:.1%}" for share in gone)
            panel.set_title(text, fontsize=7, color=style.MUTED, loc="right")
    note = f"{shown} of {len(names)} columns" if shown < len(names) else None
    _legend(fig, axes[0, 0], note, loc="outside upper center", ncols=2)
    return axes


def ticks(axis: Any, date: bool, labels: Sequence[str] | None, turned: bool) -> None:
    """Names of categories, or short dates, in the place of numbers."""
    if labels is not None:
        axis.set_ticks(range(len(labels)), [_categories.short(name) for name in labels])
        axis.set_tick_params(length=0, labelsize=7.5, **({"labelrotation": 90} if turned else {}))
    elif date:
        locator = AutoDateLocator(minticks=2, maxticks=4)
        axis.set_major_locator(locator)
        axis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    elif isinstance(locator := axis.get_major_locator(), MaxNLocator):
        locator.set_params(nbins=3)


def _prepared(
    samples: Any, data: Any, columns: Sequence[str] | None, labels: Mapping[int, Sequence[str]] | None
) -> tuple[list[_Kind], list[str], list[tuple[float, float]]]:
    """-> what is drawn, the names and the limits of the columns."""
    model = style.rows(samples, "samples")
    reference = model if data is None else style.rows(data, "data")
    features = reference.shape[1]
    if model.shape[1] != features:
        raise ValueError(f"samples and data must have the same columns, got {model.shape[1]} and {features}")
    clouds = [("model", model, style.MODEL)]
    if data is not None:
        clouds.insert(0, ("data", reference, style.DATA))
    kinds = []
    for label, points, colour in clouds:
        lost = int(np.isinf(points).any(1).sum())
        kept = points[~np.isinf(points).any(1)]
        kinds.append((f"{label}, {len(points):,} rows{f', {lost:,} not finite' if lost else ''}", kept, colour))
    spans = [style.window(reference[:, [i]], pad=0.15)[0] for i in range(features)]
    for i, names in (labels or {}).items():
        spans[i] = _categories.span(names)
    return kinds, style.axis_names(columns, features), spans


def _column(ax: Axes, kinds: Sequence[_Kind], i: int, span: tuple[float, float], labels: Sequence[str] | None) -> None:
    if labels is not None:
        _categories.bars(ax, [(rows[:, i], colour, name) for name, rows, colour in kinds], labels)
        return
    fewest = min(len(rows) for _, rows, _ in kinds)
    for k, (name, rows, colour) in enumerate(kinds):
        style.histogram(ax, style.finite(rows[:, [i]])[:, 0], span, colour, name, fill=k == 0, like=fewest)


def _pair(
    ax: Axes,
    kinds: Sequence[_Kind],
    at: tuple[int, int],
    spans: tuple[tuple[float, float], tuple[float, float]],
    labels: tuple[Sequence[str] | None, Sequence[str] | None],
    max_points: int,
) -> None:
    """Columns at[0] along x and at[1] along y."""
    along, up = labels
    if along is not None and up is not None:
        _categories.squares(ax, [(rows[:, list(at)], colour) for _, rows, colour in kinds], (along, up))
    elif along is not None:
        _categories.ranges(ax, [(rows[:, list(at)], colour) for _, rows, colour in kinds], along, True)
    elif up is not None:
        _categories.ranges(ax, [(rows[:, list(at[::-1])], colour) for _, rows, colour in kinds], up, False)
    else:
        clouds = [style.finite(rows[:, list(at)]) for _, rows, _ in kinds]
        fewest = min(map(len, clouds))
        for k, (points, (_, _, colour)) in enumerate(zip(clouds, kinds, strict=True)):
            width = 2.4 if k == 0 and len(kinds) > 1 else 1.1  # data shows beside a model right on top of it
            some = points[:: max(1, -(-len(points) // max(max_points, 1)))] if max_points else points[:0]
            ax.scatter(*some.T, s=2, color=colour, alpha=0.2, linewidths=0, rasterized=True)
            if fewest >= 100:  # too few for a density: the points say it all
                _contours(ax, points, spans, fewest, colour, width)


def _legend(fig: Figure, ax: Axes, note: str | None, **place: Any) -> None:
    handles, texts = ax.get_legend_handles_labels()
    legend = fig.legend(
        handles, texts, frameon=False, fontsize=10, title=note, labelcolor=style.INK, title_fontsize=9, **place
    )
    if "outside" not in place["loc"]:
        legend.set_in_layout(False)


def _contours(
    ax: Axes,
    points: np.ndarray,
    spans: tuple[tuple[float, float], tuple[float, float]],
    like: int,
    colour: str,
    width: float,
) -> None:
    """What holds 50 and 90 % of the mass of a smoothed histogram."""
    counts, edges = style.smoothed(points, *spans, like)
    levels = sorted(set(style.mass_levels(counts, [0.9, 0.5])))
    if levels[0] > 0:
        middles = [(e[1:] + e[:-1]) / 2 for e in edges]
        ax.contour(*middles, counts.T, levels=levels, colors=colour, linewidths=width, alpha=0.55 if width > 2 else 1)
