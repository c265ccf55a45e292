"""Samples against data for any number of columns, of any kind: a corner of pairs, and each column by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import MaxNLocator

from ..density import Space
from . import _categories, style
from .columns import Drawn, drawn, informative

_CATEGORIES, _MORE_CATEGORIES = 6, 10  # of a column among pairs, and by itself
_FEWEST = 100  # points for which contours are drawn

_Kind = tuple[str, str]  # label and colour of a table; the data first


def pairs(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    space: Space | None = None,
    max_columns: int = 6,
    max_points: int = 1500,
    labels: tuple[str, str] = ("data", "model"),
    ax: Axes | style.Panels | None = None,
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
        max_points: of the rows at most so many are drawn as points, as many of each kind; contours and histograms use
            all.
        labels: what the legend calls the two.
        ax: axes to draw into, at least as many as there are panels; or one, which is divided.

    Returns:
        the axes of the panels, as many down and across as there are.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    if max_columns < 1 or max_points < 0:
        raise ValueError(f"max_columns must be at least 1 and max_points at least 0, got {max_columns}, {max_points}")
    drawn, kinds = _prepared(samples, data, columns, space, labels)
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
        names = [_categories.short(drawn[k].name, 20) for k in (j, i)]
        names = names[0] if i == shown - 1 else "", names[1] if j == 0 < i else ""
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
    _legend(axes[0, -1], axes[0, 0], note)
    fig.align_ylabels(axes[:, 0])
    fig.align_xlabels(axes[-1])
    return axes


def marginals(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    space: Space | None = None,
    max_columns: int = 40,
    labels: tuple[str, str] = ("data", "model"),
    ax: Axes | style.Panels | None = None,
) -> style.Panels:
    """Each column by itself: histograms of numbers, shares of categories, samples over data.

    Args:
        samples: as `pairs` takes them.
        data: others; None draws the samples alone.
        columns: as `pairs`.
        space: as `pairs`.
        max_columns: of more columns the first so many are shown.
        labels: what the legend calls the two.
        ax: axes to draw into, at least as many as there are panels; or one, which is divided.

    Returns:
        the axes of the panels, as many down and across as there are.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    drawn, kinds = _prepared(samples, data, columns, space, labels)
    shown = min(len(drawn), max_columns)
    across = min(shown, 4)
    down = math.ceil(shown / across)
    axes, fig = style.panels(ax, down, across, (2.7 * across + 0.3, 2.1 * down + 0.7))
    for unused in axes.flat[shown:]:
        unused.set_axis_off()
    missing = [[np.isnan(values).mean() for values in column.values] for column in drawn[:shown]]
    pad = 15 if np.max(missing) > 0 else 5
    for panel, every, shares in zip(axes.flat, drawn[:shown], missing, strict=False):
        column = every.at_most(_MORE_CATEGORIES)
        span = _span(column)
        _column(panel, kinds, column, span)
        panel.set(xlim=span, ylim=(0, None), yticks=[])
        style.dress(panel)
        panel.spines["left"].set_visible(False)
        ticks(panel.xaxis, column, True)
        name = _categories.short(column.name, 32)
        panel.set_title(name, fontsize=9, color=style.INK, loc="left", pad=pad)
        if max(shares) > 0:
            text = "missing " + " | ".join(f"{share:.1%}" for share in shares)
            place: Any = {"xy": (0, 1), "xytext": (0, 4), "xycoords": "axes fraction", "textcoords": "offset points"}
            panel.annotate(text, **place, fontsize=7, color=style.MUTED, annotation_clip=False)
    note = f"{shown} of {len(drawn)} columns" if shown < len(drawn) else None
    if ax is None:
        handles, texts = axes[0, 0].get_legend_handles_labels()
        fig.legend(
            handles, texts, frameon=False, fontsize=10, title=note, labelcolor=style.INK, title_fontsize=9,
            ncols=2 if across > 1 else 1,
            loc="outside upper center",
        )  # fmt: skip
    else:
        _legend(axes[0, 0], axes[0, 0], note)
    return axes


def ticks(axis: Any, column: Drawn, turned: bool, narrow: bool = True) -> None:
    """Names of categories, or short dates, in the place of numbers; of a narrow panel none reaches its neighbour."""
    if column.labels:
        axis.set_ticks(range(len(column.labels)), [_categories.short(name) for name in column.labels])
        axis.set_tick_params(length=0, labelsize=7.5, **({"labelrotation": 90} if turned else {}))
    elif column.date:
        locator = AutoDateLocator(minticks=2, maxticks=4)
        axis.set_major_locator(locator)
        axis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    elif isinstance(locator := axis.get_major_locator(), MaxNLocator):
        locator.set_params(nbins=4, prune="both" if narrow else None)


def clouds(samples: Any, data: Any, columns: Sequence[str] | None, space: Space | None) -> list[Drawn]:
    """The columns of the data, where there are any, and of samples.

    Raises:
        ValueError: the two have another number of columns, or names and columns do not agree.
    """
    return drawn([samples] if data is None else [data, samples], columns, space)


def _prepared(
    samples: Any, data: Any, columns: Sequence[str] | None, space: Space | None, labels: tuple[str, str]
) -> tuple[list[Drawn], list[_Kind]]:
    """-> the columns, without rows that hold infinities; label and colour of each table."""
    every = clouds(samples, data, columns, space)
    if not every:
        raise ValueError("there is no column to draw: all are constant")
    kinds, kept = [], []
    for k, (label, colour) in enumerate([(labels[0], style.DATA), (labels[1], style.MODEL)][data is None :]):
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
        _cloud(ax, [(style.finite(rows), colour) for rows, colour in coloured], spans, max_points)


def _cloud(
    ax: Axes,
    kinds: Sequence[tuple[np.ndarray, str]],
    spans: tuple[tuple[float, float], tuple[float, float]],
    max_points: int,
) -> None:
    """Points (N, 2) of each kind, as many of either and none on top, and contours of what holds 50 and 90 %."""
    few = min((points for points, _ in kinds), key=len)
    shown = min(max_points, len(few))
    if shown:
        some = [points[np.linspace(0, len(points) - 1, shown).astype(int)] for points, _ in kinds]
        colours = np.repeat([colour for _, colour in kinds], shown)
        order = np.random.default_rng(0).permutation(len(colours))
        size = 3 if shown > 300 else 7
        ax.scatter(
            *np.concatenate(some)[order].T, s=size, c=colours[order].tolist(), alpha=0.3, linewidths=0, rasterized=True
        )
    if len(few) < _FEWEST:  # the points say it all
        return
    width = style.bandwidth(few, *spans)
    for k, (points, colour) in enumerate(kinds):
        counts, edges = style.smoothed(points, *spans, width)
        levels = sorted(set(style.mass_levels(counts, [0.9, 0.5])))
        middles = [(e[1:] + e[:-1]) / 2 for e in edges]
        if levels[0] > 0:  # the data's show beside a model's right on top of them
            wide: Any = {"linewidths": 2.4, "alpha": 0.55} if k == 0 and len(kinds) > 1 else {"linewidths": 1.1}
            ax.contour(*middles, counts.T, levels=levels, colors=colour, **wide)


def _legend(ax: Axes, first: Axes, note: str | None) -> None:
    """What is what in the first panel, told in the place of a panel."""
    handles, texts = first.get_legend_handles_labels()
    legend = ax.legend(
        handles, texts, frameon=False, fontsize=8.5, title=note, labelcolor=style.INK, title_fontsize=8.5,
        loc="upper right", borderaxespad=0,
    )  # fmt: skip
    legend.set_in_layout(False)
