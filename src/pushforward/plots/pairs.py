"""Samples against data for any number of columns, of any kind: a corner of pairs, and each column by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..density import Space
from . import _categories, style
from .columns import Drawn, drawn, informative

_CATEGORIES, _MORE_CATEGORIES = 6, 10  # of a column among pairs, and by itself

_Kind = tuple[str, str]  # label and colour of a table; the data first


def pairs(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    space: Space | None = None,
    max_columns: int = 6,
    max_points: int = 1500,
    ax: style.Panels | None = None,
) -> style.Panels:
    """Samples against data, a column and a pair of columns at a time: a corner of histograms and contours.

    The contours hold 50 and 90 % of the mass of a smoothed histogram; the points are single rows. Limits follow the
    data's 0.5 to 99.5 % quantiles. A category shows the shares of its values; beside a number, the number's middle
    half and its middle nine tenths within each value; beside another category, squares whose area is a share.

    Args:
        samples: rows of a model: (N, D), NaN for a missing cell, or rows of the space.
        data: others (M, D); None draws the samples alone.
        columns: D names; with a space, those to draw.
        space: what the rows are, such as `density.space`.
        max_columns: of more columns so many are shown: the first, or with a space those that tell most of the others.
        max_points: of the rows at most so many are drawn as points, of each kind; contours and histograms use all.
        ax: axes to draw into, at least as many as there are panels.

    Returns:
        the axes of the panels, as many down and across as there are.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    if max_columns < 1 or max_points < 0:
        raise ValueError(f"max_columns must be at least 1 and max_points at least 0, got {max_columns}, {max_points}")
    drawn, kinds = _prepared(samples, data, columns, space)
    features, shown = len(drawn), min(len(drawn), max_columns)
    if space is not None:
        drawn = [drawn[i].at_most(_CATEGORIES) for i in informative(drawn, max_columns)]
    spans = [_span(column) for column in drawn]
    side = max(4.2, 1.9 * shown + 0.6)
    axes, fig = style.panels(ax, shown, shown, (side, side))
    for (i, j), panel in np.ndenumerate(axes):
        if j > i:
            panel.set_axis_off()
            continue
        if i == j:
            _column(panel, kinds, drawn[i], spans[i])
        else:
            _pair(panel, kinds, (drawn[j], drawn[i]), (spans[j], spans[i]), max_points)
        panel.set(xlim=spans[j], box_aspect=1)
        names = drawn[j].name if i == shown - 1 else "", drawn[i].name if j == 0 < i else ""
        style.dress(panel, x=names[0], y=names[1], closed=i != j)
        panel.tick_params(labelbottom=i == shown - 1, labelleft=j == 0 < i, labelsize=8)
        ticks(panel.xaxis, drawn[j], i == shown - 1)
        if i == j:
            panel.set(yticks=[], ylim=(0, None))
            panel.spines["left"].set_visible(False)
        else:
            panel.set_ylim(spans[i])
            ticks(panel.yaxis, drawn[i], False)
    note = f"{shown} of {features} columns" if shown < features else None
    _legend(fig, axes[0, 0], note, loc="upper right")
    fig.align_ylabels(axes.ravel())
    return axes


def marginals(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    space: Space | None = None,
    max_columns: int = 40,
    ax: style.Panels | None = None,
) -> style.Panels:
    """Each column by itself: histograms of numbers, shares of categories, samples over data.

    Args:
        samples: as `pairs` takes them.
        data: others; None draws the samples alone.
        columns: as `pairs`.
        space: as `pairs`.
        max_columns: of more columns the first so many are shown.
        ax: axes to draw into, at least as many as there are panels.

    Returns:
        the axes of the panels, as many down and across as there are.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    drawn, kinds = _prepared(samples, data, columns, space)
    shown = min(len(drawn), max_columns)
    across = min(shown, 4)
    down = math.ceil(shown / across)
    axes, fig = style.panels(ax, down, across, (2.7 * across + 0.3, 2.1 * down + 0.7))
    for unused in axes.flat[shown:]:
        unused.set_axis_off()
    for panel, every in zip(axes.flat, drawn[:shown], strict=False):
        column = every.at_most(_MORE_CATEGORIES)
        span = _span(column)
        _column(panel, kinds, column, span)
        panel.set(xlim=span, ylim=(0, None), yticks=[])
        style.dress(panel)
        name = column.name if len(column.name) <= 30 else f"{column.name[:28]} …"
        panel.set_title(name, fontsize=9, color=style.INK, loc="left")
        panel.spines["left"].set_visible(False)
        ticks(panel.xaxis, column, True)
        missing = [np.isnan(values).mean() for values in column.values]
        if max(missing) > 0:
            text = "missing " + " | ".join(f"{share:.1%}" for share in missing)
            panel.set_title(text, fontsize=7, color=style.MUTED, loc="right")
    note = f"{shown} of {len(drawn)} columns" if shown < len(drawn) else None
    _legend(fig, axes[0, 0], note, loc="outside upper center", ncols=2)
    return axes


def ticks(axis: Any, column: Drawn, turned: bool) -> None:
    """Names of categories, or short dates, in the place of numbers."""
    if column.labels:
        axis.set_ticks(range(len(column.labels)), [_categories.short(name) for name in column.labels])
        axis.set_tick_params(length=0, labelsize=7.5, **({"labelrotation": 90} if turned else {}))
    elif column.date:
        locator = AutoDateLocator(minticks=2, maxticks=4)
        axis.set_major_locator(locator)
        axis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    elif isinstance(locator := axis.get_major_locator(), MaxNLocator):
        locator.set_params(nbins=3)


def clouds(samples: Any, data: Any, columns: Sequence[str] | None, space: Space | None) -> list[Drawn]:
    """The columns of the data, where there are any, and of samples.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    return drawn([samples] if data is None else [data, samples], columns, space)


def _prepared(
    samples: Any, data: Any, columns: Sequence[str] | None, space: Space | None
) -> tuple[list[Drawn], list[_Kind]]:
    """-> the columns, without rows that hold infinities; label and colour of each table."""
    every = clouds(samples, data, columns, space)
    if not every:
        raise ValueError("there is no column to draw: all are constant")
    kinds, kept = [], []
    for k, (label, colour) in enumerate([("data", style.DATA), ("model", style.MODEL)][data is None :]):
        finite = ~np.any([np.isinf(column.values[k]) for column in every], axis=0)
        lost = int((~finite).sum())
        kinds.append((f"{label}, {len(finite):,} rows{f', {lost:,} not finite' if lost else ''}", colour))
        kept.append(finite)
    cut = [replace(c, values=tuple(v[f] for v, f in zip(c.values, kept, strict=True))) for c in every]
    return cut, kinds


def _span(column: Drawn) -> tuple[float, float]:
    """The limits of an axis."""
    if column.labels:
        return _categories.span(column.labels)
    return style.window(column.values[0][:, None], pad=0.15)[0]


def _column(ax: Axes, kinds: Sequence[_Kind], column: Drawn, span: tuple[float, float]) -> None:
    if column.labels:
        bars = [(codes, colour, name) for codes, (name, colour) in zip(column.values, kinds, strict=True)]
        _categories.bars(ax, bars, column.labels)
        return
    fewest = min(map(len, column.values))
    for k, (values, (name, colour)) in enumerate(zip(column.values, kinds, strict=True)):
        style.histogram(ax, values[np.isfinite(values)], span, colour, name, fill=k == 0, like=fewest)


def _pair(
    ax: Axes,
    kinds: Sequence[_Kind],
    columns: tuple[Drawn, Drawn],
    spans: tuple[tuple[float, float], tuple[float, float]],
    max_points: int,
) -> None:
    """The first column along x and the second along y."""
    along, up = columns
    tables = [np.stack(pair, 1) for pair in zip(along.values, up.values, strict=True)]
    coloured = [(rows, colour) for rows, (_, colour) in zip(tables, kinds, strict=True)]
    if along.labels and up.labels:
        _categories.squares(ax, coloured, (along.labels, up.labels))
    elif along.labels:
        _categories.ranges(ax, coloured, along.labels, True)
    elif up.labels:
        _categories.ranges(ax, [(rows[:, ::-1], colour) for rows, colour in coloured], up.labels, False)
    else:
        finite = [(style.finite(rows), colour) for rows, colour in coloured]
        fewest = min(len(points) for points, _ in finite)
        for k, (points, colour) in enumerate(finite):
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
