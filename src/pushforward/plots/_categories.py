"""Panels with categories: bars of one, ranges of a number within each, squares of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.patches import Rectangle

_LONGEST = 14  # letters of a label
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Kinds = Sequence[tuple[np.ndarray, str]]  # rows and colour, the data first


def short(label: str, longest: int = _LONGEST) -> str:
    """A label that fits beside a panel; one of the axes of an array, as $x_1$, stays as it is."""
    if label.startswith("$x_{"):
        return label
    return (label if len(label) <= longest else f"{label[: longest - 1]}…").replace(r"\$", "$").replace("$", r"\$")


def span(labels: Sequence[str]) -> tuple[float, float]:
    """The limits of an axis of categories."""
    return -0.6, len(labels) - 0.4


def bars(ax: Axes, kinds: Sequence[tuple[np.ndarray, str, str]], labels: Sequence[str]) -> None:
    """The shares of categories: codes (N,), colour and name of each kind, the first filled."""
    at = np.arange(len(labels))
    for i, (codes, colour, name) in enumerate(kinds):
        shares = np.bincount(codes.astype(int), minlength=len(labels)) / max(len(codes), 1)
        filled: dict[str, Any] = {"color": colour, "alpha": 0.3} if i == 0 and len(kinds) > 1 else {}
        outline: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.4}
        ax.bar(at, shares, 0.72, label=name, **(filled or outline))
    ax.set_xlim(span(labels))


def ranges(ax: Axes, kinds: Kinds, labels: Sequence[str], upright: bool) -> None:
    """A number within each category: its middle half and its middle nine tenths, the kinds side by side.

    Args:
        ax: to draw into.
        kinds: codes and numbers (N, 2), and the colour.
        labels: of the codes.
        upright: whether the number runs upwards.
    """
    for i, (rows, colour) in enumerate(kinds):
        place = 0.0 if len(kinds) == 1 else 0.36 * (i / (len(kinds) - 1) - 0.5)
        for code in range(len(labels)):
            values = rows[rows[:, 0] == code, 1]
            values = values[np.isfinite(values)]
            if len(values) == 0:
                continue
            low, lower, middle, upper, high = np.quantile(values, _QUANTILES)
            at = code + place
            lines = [[(at, low), (at, high)], [(at, lower), (at, upper)]]
            dot = (at, middle)
            if not upright:
                lines, dot = [[p[::-1] for p in line] for line in lines], dot[::-1]
            ax.add_collection(LineCollection(lines, colors=colour, linewidths=[1.0, 3.6], alpha=0.75))
            ax.plot(*dot, "o", color="white", markersize=2.2, zorder=3)


def squares(ax: Axes, kinds: Kinds, labels: tuple[Sequence[str], Sequence[str]]) -> None:
    """Two categories: a square for each pair, its area the share of rows; of the first kind filled.

    Args:
        ax: to draw into.
        kinds: codes (N, 2) along x and y, and the colour.
        labels: of either.
    """
    shape = (len(labels[0]), len(labels[1]))
    tables = [np.zeros(shape) for _ in kinds]
    for table, (codes, _) in zip(tables, kinds, strict=True):
        np.add.at(table, tuple(codes.astype(int).T), 1 / max(len(codes), 1))
    largest = max(table.max() for table in tables)
    for i, (table, (_, colour)) in enumerate(zip(tables, kinds, strict=True)):
        patches = []
        for (x, y), share in np.ndenumerate(table):
            side = 0.92 * np.sqrt(share / largest) if largest else 0.0
            if side > 0.01:
                patches.append(Rectangle((x - side / 2, y - side / 2), side, side))
        filled: dict[str, Any] = {"facecolor": colour, "edgecolor": "none", "alpha": 0.3}
        outline: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.1}
        ax.add_collection(PatchCollection(patches, **(filled if i == 0 and len(kinds) > 1 else outline)))
