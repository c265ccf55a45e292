"""What the pictures of `plots` share: colours, windows, the dress of axes.

Nothing here touches matplotlib's global settings, not even for a moment (`rc_context` would, and is not thread-safe):
each axes is dressed by itself, so a figure of the user's keeps its own style everywhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec
from matplotlib.ticker import MaxNLocator

from ..density import Density
from ..flow import Flow

INK, MUTED, RULE = "#20252b", "#5b6570", "#b9c0c7"
DATA, MODEL = "#3b6fa0", "#d95f02"  # blue and orange stay apart in every common form of colour blindness
CLASSES = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Paul Tol's bright scheme

Panels: TypeAlias = np.ndarray  # of Axes
Window = tuple[float, float, float, float]  # xmin, xmax, ymin, ymax, as in `Toy.bounds`

_OF_PYPLOT: ContextVar[bool] = ContextVar("figures_of_pyplot", default=True)
_WIDTHS, _BANDWIDTH_BINS = np.geomspace(0.012, 0.1, 8), 96  # that `bandwidth` tries, and on how fine a grid
_BANDWIDTH_SLACK = 0.05  # nats a point that a smoother picture may cost
_PAD = 0.08  # inches around panels and their labels


def rows(values: Any, name: str, width: int | None = None) -> np.ndarray:
    """A tensor or array (N, D) -> float64 array (N, D); (N,) stands for (N, 1).

    Raises:
        ValueError: it has another shape, or no rows.
    """
    array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, float)
    if array.ndim == 1 and width in (None, 1):
        array = array[:, None]
    if array.ndim != 2 or len(array) == 0 or array.shape[1] != (width or array.shape[1]):
        raise ValueError(f"expected {name} of shape (N, {width or 'D'}) with N >= 1, got {array.shape}")
    return array


def dimension(density: Density, allowed: tuple[int, ...], what: str) -> int:
    """The number D of columns that a density is over, all of them numbers.

    Raises:
        ValueError: D is not one of those allowed, or a column has categories or missing cells.
    """
    space = density.space
    names = space.names  # of images made anew each time
    features = [f for f in space.feature_list if names[f.column] not in space.given]
    coded = {names[f.column] for f in features if f.indicator}
    if coded:
        raise ValueError(f"{what} needs columns of numbers, got categories or missing cells in {', '.join(coded)}")
    if len(features) not in allowed:
        wanted = " or ".join(str((d,)) for d in allowed)
        raise ValueError(f"{what} needs a density of shape {wanted}, got one of shape {(len(features),)}")
    return len(features)


def has_map(density: Density) -> TypeGuard[Flow]:
    """Whether a density is the image of a base density under one bijection, whose map can be shown."""
    return density.has_map


def plane_map(density: Density, context: Any, what: str) -> Flow:
    """A density of the plane that has a map to a latent plane.

    Raises:
        ValueError: it is over other than two numbers, has no such map, or does not take the context.
    """
    dimension(density, (2,), what)
    if not has_map(density):
        raise ValueError(f"{what} shows the map of one flow to its latent space; {type(density).__name__} has none")
    density.sample(0, context)
    return density


def seeded(density: Density, generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or a fixed seed: a picture then repeats, and the global one is left as it was."""
    if generator is not None:
        return generator
    tensors = itertools.chain(density.parameters(), density.buffers(), [torch.empty(0)])
    return torch.Generator(next(tensors).device).manual_seed(0)


def finite(points: np.ndarray) -> np.ndarray:
    """The rows of points (N, D) without NaN or infinity."""
    return points[np.isfinite(points).all(1)]


def window(*clouds: np.ndarray, pad: float = 0.12, tail: float = 0.005) -> list[tuple[float, float]]:
    """A (low, high) per axis of points (N, D), blind to outliers: the quantiles from tail to 1 - tail, padded."""
    points = finite(np.concatenate(clouds))
    if not len(points):
        return [(-1.0, 1.0)] * clouds[0].shape[1]
    lows, highs = np.quantile(points, [tail, 1 - tail], axis=0)
    spans = highs - lows
    spans = np.where(spans > 1e-9 * np.maximum(abs(lows), abs(highs)), spans, np.maximum(abs(highs), 1.0))
    return [(float(a - pad * s), float(b + pad * s)) for a, b, s in zip(lows, highs, spans, strict=True)]


def comparable(x: tuple[float, float], y: tuple[float, float]) -> bool:
    """Whether two axes may share a unit length: else one of them would be a sliver."""
    return 0.2 < (x[1] - x[0]) / (y[1] - y[0]) < 5


def view(*clouds: np.ndarray, pad: float = 0.12, flattest: float = 1.0, tail: float = 0.005) -> Window:
    """As `window`, of points (N, 2), for a panel whose axes share their unit where they are comparable.

    The panel is square, or if `flattest` is below 1 as flat as the points, down to that height for a width of 1.
    """
    x, y = window(*clouds, pad=pad, tail=tail)
    if comparable(x, y):
        wide = max(x[1] - x[0], y[1] - y[0])
        x, y = (_widened(x, wide), _widened(y, max(flattest * wide, y[1] - y[0])))
    return (*x, *y)


@contextmanager
def without_pyplot() -> Iterator[None]:
    """Within, in this thread or task, new figures are unknown to pyplot: nothing shows them, or keeps them alive."""
    token = _OF_PYPLOT.set(False)
    try:
        yield
    finally:
        _OF_PYPLOT.reset(token)


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure whose layout keeps every label inside, also beside axes that share their unit."""
    if _OF_PYPLOT.get():
        import matplotlib.pyplot as plt

        fig = plt.figure(figsize=size, layout="compressed")
    else:
        fig = Figure(size, layout="compressed")
    cast(Any, fig.get_layout_engine()).set(w_pad=_PAD, h_pad=_PAD)
    return fig


def figure_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure.

    Raises:
        ValueError: something else was given.
    """
    if ax is None:
        return new_figure(size).add_subplot()
    if not isinstance(ax, Axes):
        raise ValueError(f"expected ax to be axes of matplotlib, got {type(ax).__name__}")
    return ax


def panels(
    ax: Axes | Panels | None, down: int, across: int, size: tuple[float, float], **settings: Any
) -> tuple[Panels, Figure]:
    """Axes (down, across) of those given, or in the place of one given, or of a new figure; and their figure.

    Raises:
        ValueError: fewer were given, or something else.
    """
    if ax is None:
        fig = new_figure(size)
        return fig.subplots(down, across, squeeze=False, **settings), fig
    if isinstance(ax, Axes) and down * across > 1:
        return _divided(ax, down, across, **settings)
    given = np.asarray(ax, dtype=object).ravel()
    if not all(isinstance(one, Axes) for one in given):
        raise ValueError(f"expected ax to be axes of matplotlib or an array of them, got {type(ax).__name__}")
    if len(given) < down * across:
        raise ValueError(f"expected an array of {down * across} axes, got {len(given)}")
    axes = given[: down * across].reshape(down, across)
    return axes, cast(Figure, axes[0, 0].get_figure(root=False))


def _divided(ax: Axes, down: int, across: int, gridspec_kw: Any = None, **settings: Any) -> tuple[Panels, Figure]:
    """Axes (down, across) in the place of one, which is removed."""
    fig, spec = cast(Figure, ax.get_figure(root=False)), ax.get_subplotspec()
    ax.remove()
    if spec is None:
        (left, bottom), (right, top) = ax.get_position().get_points()
        grid = GridSpec(down, across, fig, left, bottom, right, top, **(gridspec_kw or {}))
    else:
        grid = GridSpecFromSubplotSpec(down, across, spec, **(gridspec_kw or {}))
    return grid.subplots(squeeze=False, **settings), fig


def dress(ax: Axes, title: str = "", *, x: str = "", y: str = "", closed: bool = False) -> None:
    """Thin spines (all four if closed), small quiet ticks, a title at the left."""
    for side, spine in ax.spines.items():
        spine.set(linewidth=0.7, color=RULE, visible=closed or side in ("left", "bottom"))
    ax.tick_params(labelsize=8.5, length=3, width=0.7, color=RULE, labelcolor=MUTED, pad=3)
    ax.tick_params(which="minor", length=2, width=0.5, color=RULE)
    for locator in (ax.xaxis.get_major_locator(), ax.yaxis.get_major_locator()):
        if isinstance(locator, MaxNLocator):
            locator.set_params(nbins=5, steps=[1, 2, 5, 10])
    if title:
        ax.set_title(title, fontsize=11, color=INK, loc="left", pad=7)
    ax.set_xlabel(x, fontsize=9.5, color=MUTED)
    ax.set_ylabel(y, fontsize=9.5, color=MUTED)


def colour_bar(bar: Any, label: str) -> None:
    """A colour bar without a frame, its label small."""
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=9.5, color=MUTED)
    bar.ax.tick_params(labelsize=8.5, length=0, labelcolor=MUTED)


def height(limits: Window) -> float:
    """Height : width of a panel that shows the window: the window's own where its axes are comparable, else 1."""
    x, y = limits[:2], limits[2:]
    return (y[1] - y[0]) / (x[1] - x[0]) if comparable(x, y) else 1.0


def frame(ax: Axes, limits: Window) -> None:
    """A panel that shows the window."""
    ax.set(xlim=limits[:2], ylim=limits[2:], box_aspect=height(limits))


def position_colours(z: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The 2-D colour map, z (N, 2) -> RGB (N, 3): the angle is the hue, the radius the lightness and the chroma.

    Made in OKLCH, where equal steps look equal. The radius enters through its distribution under a normal, so that a
    Gaussian cloud uses all of the map evenly; the centre is dark and nearly grey, since all hues meet there.
    """
    u, v = ((np.nan_to_num(z) - centre) / scale).T
    reach = 1 - np.exp(-(u * u + v * v) / 2)
    lightness, chroma, hue = 0.36 + 0.38 * reach, 0.03 + 0.13 * np.sqrt(reach), np.arctan2(v, u)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    to_cones = np.array([[1, 0.39633778, 0.21580376], [1, -0.10556135, -0.06385417], [1, -0.08948418, -1.29148555]])
    to_rgb = np.array(
        [[4.07674166, -3.30771159, 0.23096993], [-1.268438, 2.6097574, -0.3413194], [-0.0041961, -0.7034186, 1.7076147]]
    )
    linear = (np.stack([lightness, a, b], 1) @ to_cones.T) ** 3 @ to_rgb.T
    linear = linear.clip(0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).clip(0, 1)


def mass_levels(density: np.ndarray, masses: Sequence[float]) -> list[float]:
    """For each mass the density above which that part of all mass lies, on an even grid of densities of any shape."""
    values = np.sort(density, axis=None)[::-1]
    mass = values.cumsum()
    if not mass[-1] > 0:
        return [0.0] * len(masses)
    return [float(values[min(np.searchsorted(mass, m * mass[-1]), len(values) - 1)]) for m in masses]


def _widened(span: tuple[float, float], width: float) -> tuple[float, float]:
    return sum(span) / 2 - width / 2, sum(span) / 2 + width / 2


def checked(bounds: Sequence[float], features: int = 2) -> list[tuple[float, float]]:
    """Bounds (xmin, xmax) or (xmin, xmax, ymin, ymax) -> a (low, high) per axis.

    Raises:
        ValueError: they are not 2 D finite numbers in order.
    """
    values = [float(b) for b in bounds]
    spans = list(zip(values[::2], values[1::2], strict=False))
    if len(values) != 2 * features or not all(math.isfinite(b - a) and a < b for a, b in spans):
        wanted = "(xmin, xmax, ymin, ymax)" if features == 2 else "(xmin, xmax)"
        raise ValueError(f"expected bounds {wanted}, finite and each pair in order, got {tuple(values)}")
    return spans


def axis_names(columns: Sequence[str] | None, features: int) -> list[str]:
    """The names of D axes, x_1 to x_D when None.

    Raises:
        ValueError: there are not D of them.
    """
    if columns is None:
        return ["x"] if features == 1 else [f"$x_{{{i + 1}}}$" for i in range(features)]
    if len(columns) != features:
        raise ValueError(f"expected {features} column names, got {len(columns)}: {list(columns)}")
    return [str(c).replace("$", r"\$") for c in columns]


def histogram(
    ax: Axes, values: np.ndarray, span: tuple[float, float], colour: str, label: str, fill: bool = True,
    like: int | None = None,
) -> None:  # fmt: skip
    """A histogram within the span whose heights are densities of all values, also of those beyond it; with as many bins
    as suit its values, or `like` others that it is compared with."""
    bins = int(min(max(math.sqrt(len(values) if like is None else like), 10), 60))
    counts, edges = np.histogram(values, bins, span)
    heights = counts / (max(len(values), 1) * np.diff(edges))
    if fill:
        ax.stairs(heights, edges, fill=True, color=colour, alpha=0.25, label=label)
    ax.stairs(heights, edges, color=colour, linewidth=0.9 if fill else 1.4, label=None if fill else label)


def smoothed(
    points: np.ndarray, x: tuple[float, float], y: tuple[float, float], width: float, bins: int = 96
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Points (N, 2) -> a histogram (B, B) of them within the limits, smoothed by a Gaussian, and its edges.

    Args:
        points: those beyond the limits count where the Gaussian reaches inside.
        x: limits.
        y: limits.
        width: standard deviation of the Gaussian in parts of the limits; see `bandwidth`.
        bins: along each axis.
    """
    counts, edges, margin = _counts(points, x, y, bins)
    inner = slice(margin, margin + bins)
    blur = _blur(len(counts), width * bins)
    return (blur @ counts @ blur)[inner, inner], [e[margin : margin + bins + 1] for e in edges]


def bandwidth(points: np.ndarray, x: tuple[float, float], y: tuple[float, float]) -> float:
    """The width of a Gaussian, in parts of the limits, that makes each of some points (N, 2) most likely by the others,
    or nearly so.

    Thin curves ask for a narrow one, which no rule of thumb from the spread of all points gives.
    """
    counts, _, _ = _counts(points, x, y, _BANDWIDTH_BINS)
    cells, n = counts.size, counts.sum()
    scores = []
    for width in _WIDTHS:
        blur = _blur(len(counts), width * _BANDWIDTH_BINS)
        others = (blur @ counts @ blur - blur.max() ** 2).clip(0) / max(n - 1, 1)
        scores.append((counts * np.log(0.99 * others + 0.01 / cells)).sum() / max(n, 1))
    widest = max(w for w, score in zip(_WIDTHS, scores, strict=True) if score >= max(scores) - _BANDWIDTH_SLACK)
    return float(max(widest, 0.15 * max(n, 1) ** -0.25))  # values that are heaped ask for less than a picture can show


def _counts(
    points: np.ndarray, x: tuple[float, float], y: tuple[float, float], bins: int
) -> tuple[np.ndarray, list[np.ndarray], int]:
    """-> a histogram beyond the limits, its edges, and how many bins it goes beyond them on each side."""
    margin = bins // 4
    edges = [low + (high - low) * np.arange(-margin, bins + margin + 1) / bins for low, high in (x, y)]
    return np.histogram2d(points[:, 0], points[:, 1], edges)[0], edges, margin


def _blur(bins: int, width: float) -> np.ndarray:
    """The matrix (B, B) of a Gaussian of that width in bins."""
    places = np.arange(bins)
    weights = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    return weights / weights[bins // 2].sum()
