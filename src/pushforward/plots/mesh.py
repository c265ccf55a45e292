"""A grid of the latent plane, carried along by the layers of a flow: its lines, and the sheet between them.

Lines alone beat with the pixels where the map presses them together. So the sheet between them is coloured, too: as
lines come closer than a few points they fade into the sheet, which takes on the tone that they had on average. All
colours are opaque and drawn from the lightest to the darkest, so that no line is cut by a paler one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from ..flow import Flow
from . import style
from .layers import State, inverses

_POINTS_OF_A_LINE = 160
# Where the map stretches, segments longer than this part of a panel are cut in two, so that lines stay curves.
_LONGEST, _CUTS, _MOST_POINTS = 0.01, 10, 60_000
_CELLS = 200  # of the sheet, along each axis
_TORN = 0.1  # of a panel: longer cells are not filled, as the map between their corners is unknown
_EDGE = 4.5  # nats below the peak of the base at which the grid ends: three standard deviations of a normal
_FAINT = 0.2  # how strong lines beyond that are, where they are asked for
_WIDTH, _CLOSE, _APART = 0.8, 1.5, 4.0  # points: of a line, and distances of lines that are not and that are drawn


@dataclass(frozen=True)
class Grid:
    """A regular grid of the latent plane.

    Attributes:
        low: of the plane (2,).
        high: of the plane (2,).
        lines: in each direction.
        line_ends: latents (S, 2, 2) of the segments of all lines.
        is_upright: (S,), whether a segment is of a line that runs along the second axis.
        segments: for each state (S, 2, 2).
        sheets: for each state the corners (K, K, 2) of the sheet's cells, the first axis along x.
        colours: (S, 3) of the segments.
        strength: (S,) from 0 to 1, by the mass of the base.
        sheet_colours: (K, K, 3).
        sheet_strength: (K, K).
    """

    low: np.ndarray
    high: np.ndarray
    lines: int
    line_ends: np.ndarray
    is_upright: np.ndarray
    segments: list[np.ndarray]
    sheets: list[np.ndarray]
    colours: np.ndarray
    strength: np.ndarray
    sheet_colours: np.ndarray
    sheet_strength: np.ndarray


def grid_of(
    flow: Flow, states: Sequence[State], bounds: Sequence[float] | None, lines: int, context: Any, windows: list[Any]
) -> Grid:
    """The lines of a regular grid of the latent plane in each of some states, as fine as their windows need.

    Args:
        flow: over D = 2.
        states: of base samples, the first of them the latent plane.
        bounds: of the grid; those of the base's mass when None.
        lines: in each direction.
        context: (K,) or None.
        windows: of each state.
    """
    if bounds is None:
        low_x, high_x, low_y, high_y = style.view(states[0].points, pad=0.25)
    else:
        (low_x, high_x), (low_y, high_y) = style.checked(bounds)
    low, high = np.array([low_x, low_y]), np.array([high_x, high_y])
    passed = [state.passed for state in states]
    line, z, points = _lines(flow, low, high, lines, passed, windows, context)
    corners = np.stack(np.meshgrid(*np.linspace(low, high, _CELLS + 1).T, indexing="ij"), -1)
    sheets = inverses(flow, corners.reshape(-1, 2), context)
    ends = np.stack([z[:-1], z[1:]], 1)
    joined = line[1:] == line[:-1]
    peak = float(_log_base(flow, corners).max())
    if bounds is None:  # the grid ends where the base does
        joined &= _log_base(flow, ends.mean(1)) > peak - _EDGE
    centre, scale = states[0].points.mean(0), states[0].points.std(0) + 1e-12
    strength = _strength(_log_base(flow, ends[joined].mean(1)) - peak, bounds is None)
    return Grid(
        low, high, lines, ends[joined], line[:-1][joined] < lines,
        [np.stack([p[:-1], p[1:]], 1)[joined] for p in points],
        [sheets[i].reshape(corners.shape) for i in passed],
        style.position_colours(ends[joined].mean(1), centre, scale), strength,
        style.position_colours(corners.reshape(-1, 2), centre, scale).reshape(*corners.shape[:2], 3),
        _strength(_log_base(flow, corners) - peak, bounds is None),
    )  # fmt: skip


def draw(ax: Axes, grid: Grid, i: int, window: style.Window, width: float) -> None:
    """The sheet and the lines of state i in a panel of that width in points."""
    scale = width / np.array([window[1] - window[0], window[3] - window[2]])
    sheet = np.nan_to_num(grid.sheets[i]) * scale  # in points
    whole = _is_whole(grid.sheets[i], window)
    along = np.gradient(sheet, axis=0), np.gradient(sheet, axis=1)
    area = abs(along[0][..., 0] * along[1][..., 1] - along[0][..., 1] * along[1][..., 0])
    cells = _CELLS / (grid.lines - 1)  # from a line to the next
    upright, level = (cells * area / (np.linalg.norm(a, axis=-1) + 1e-12) for a in along[::-1])
    cover = 1 - (1 - (_WIDTH / (upright + 1e-9)).clip(max=1)) * (1 - (_WIDTH / (level + 1e-9)).clip(max=1))
    tone = grid.sheet_strength * (0.14 + 0.7 * cover)
    rgba = np.dstack([_mixed(grid.sheet_colours, tone), np.ones_like(tone)])
    corners = [c[:-1, :-1] + c[1:, :-1] + c[:-1, 1:] + c[1:, 1:] for c in (rgba, tone)]
    colours = corners[0] / 4
    colours[..., 3] = whole & (corners[1] > 0)
    sheet = np.nan_to_num(grid.sheets[i])
    ax.pcolormesh(sheet[..., 0], sheet[..., 1], colours, shading="flat", rasterized=True, zorder=0.5)
    place = ((grid.line_ends.mean(1) - grid.low) / (grid.high - grid.low) * _CELLS).astype(int).clip(0, _CELLS - 1)
    a, b = place.T
    apart = np.where(grid.is_upright, upright[a, b], level[a, b])
    clear = np.where(whole[a, b], ((apart - _CLOSE) / (_APART - _CLOSE)).clip(0, 1), 1.0)
    under = np.where(whole[a, b], tone[a, b], 0)
    _draw_lines(ax, grid.segments[i], grid.colours, under + (0.92 * grid.strength - under).clip(0) * clear)


def line_colours(grid: Grid, most: float) -> tuple[np.ndarray, np.ndarray]:
    """The order in which lines are drawn, and their colours in it, at most of that strength."""
    order = np.argsort(grid.strength, kind="stable")
    return order, _mixed(grid.colours[order], most * grid.strength[order])


def _draw_lines(ax: Axes, segments: np.ndarray, colours: np.ndarray, tone: np.ndarray) -> None:
    order = np.argsort(tone, kind="stable")
    drawn = LineCollection(
        list(segments[order]), colors=_mixed(colours[order], tone[order]), linewidths=_WIDTH, rasterized=True
    )
    ax.add_collection(drawn, autolim=False)


def _lines(
    flow: Flow, low: np.ndarray, high: np.ndarray, lines: int, passed: list[int], windows: list[Any], context: Any
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """-> the line of each point (N,), its latent (N, 2), and where it is in each state (N, 2)."""
    upright = np.stack(np.meshgrid(np.linspace(0, 1, lines), np.linspace(0, 1, _POINTS_OF_A_LINE), indexing="ij"), -1)
    z = low + np.concatenate([upright, upright[..., ::-1]]).reshape(-1, 2) * (high - low)
    line = np.repeat(np.arange(2 * lines), _POINTS_OF_A_LINE)
    every = inverses(flow, z, context)
    points = [every[i] for i in passed]
    for _ in range(_CUTS):
        cut = _too_long(line, points, windows)
        if len(cut) == 0 or len(z) + len(cut) > _MOST_POINTS:
            break
        middle = (z[cut] + z[cut + 1]) / 2
        every = inverses(flow, middle, context)
        line, z = np.insert(line, cut + 1, line[cut]), np.insert(z, cut + 1, middle, axis=0)
        points = [np.insert(p, cut + 1, every[i], axis=0) for p, i in zip(points, passed, strict=True)]
    return line, z, points


def _too_long(line: np.ndarray, points: list[np.ndarray], windows: list[style.Window]) -> np.ndarray:
    """The segments (i, i + 1) of a line of which a long piece may be seen in one of the states: their i."""
    long = np.zeros(len(line) - 1, dtype=bool)
    for p, window in zip(points, windows, strict=True):
        low, high = np.array(window[::2]), np.array(window[1::2])
        start, end = p[:-1], p[1:]
        seen = (np.maximum(start, end) >= low) & (np.minimum(start, end) <= high)
        long |= seen.all(1) & (abs(end - start) > _LONGEST * (high - low)).any(1)
    return np.flatnonzero(long & (line[1:] == line[:-1]))


def _is_whole(sheet: np.ndarray, window: style.Window) -> np.ndarray:
    """Which cells (K - 1, K - 1) of a sheet (K, K, 2) are so small that they may be filled."""
    span = np.array([window[1] - window[0], window[3] - window[2]])
    corners = np.stack([sheet[:-1, :-1], sheet[1:, :-1], sheet[:-1, 1:], sheet[1:, 1:]]) / span
    with np.errstate(invalid="ignore"):
        return (corners.max(0) - corners.min(0) < _TORN).all(-1)


def _log_base(flow: Flow, z: np.ndarray) -> np.ndarray:
    """log p (*N,) of latents (*N, 2)."""
    like = flow.base.sample(0)
    points = torch.as_tensor(z.reshape(-1, 2), dtype=like.dtype, device=like.device)
    return flow.base.log_prob(points).cpu().double().numpy().reshape(z.shape[:-1])


def _strength(below_peak: np.ndarray, ends: bool) -> np.ndarray:
    """How strong a colour is, by how far the base is below its peak in nats; to nothing where the grid ends."""
    return (1 + below_peak / _EDGE).clip(0 if ends else _FAINT, 1)


def _mixed(colours: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """Colours (*N, 3) over white, of a tone (*N,) from 0 to 1."""
    return 1 - tone[..., None] * (1 - colours)
