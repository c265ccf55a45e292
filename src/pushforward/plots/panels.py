"""The pictures of one or a few panels: data and latents, densities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import make_axes_locatable

from ..density import Density
from ..flow import Flow
from ..io import frames
from ..io.atomic import atomic
from . import style

_PARTS = 4  # of the side of a cell over which a density is averaged
# Nats that a neighbour's density lies above a cell's from which on it is averaged, and below the peak that matter.
_STEP, _SIGHT = 2.0, 13.0
_AVERAGING_ROUNDS, _MOST_AVERAGED = 3, 0.03  # and the part of all cells that one takes


@torch.no_grad()
def four_panels(
    flow: Flow,
    x: Any,
    *,
    n: int | None = None,
    context: Any = None,
    labels: Any = None,
    generator: torch.Generator | None = None,
    ax: Axes | style.Panels | None = None,
) -> style.Panels:
    """The map both ways: z = f(X), z ~ p(z), X and X = g(z) in a 2 x 2 figure.

    A point has the same colour in latent and in data space, given by its latent position (angle: hue; radius:
    lightness), so one sees what goes where. Panels of one space share their limits; points beyond are counted.

    Args:
        flow: over D = 2.
        x: data (N, 2), of which at most n rows are drawn.
        n: the number of points of each panel; min(N, 2000) when None.
        context: (K,), the one context of a conditional flow; x should be data of that context.
        labels: (N,), classes of the rows of x, which then colour the two panels of data instead.
        generator: of the draws.
        ax: four axes to draw into, or one, which is divided.

    Returns:
        the axes (2, 2).

    Raises:
        ValueError: the flow or x is not two-dimensional, or labels has another length than x.
    """
    flow = style.plane_map(flow, context, "four_panels")
    data = style.rows(x, "x", 2)
    classes = None if labels is None else np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if classes is not None and classes.shape != (len(data),):
        raise ValueError(f"expected labels of shape ({len(data)},), one a row of x, got {classes.shape}")
    generator = style.seeded(flow, generator)
    n = min(len(data), 2000) if n is None else n
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    chosen = torch.randperm(len(data), generator=generator, device=generator.device)[:n].cpu().numpy()
    data = data[chosen]
    z = flow.base.sample(n, generator=generator)
    both = flow.f(data, context)[0], z, flow.g(z, context)
    z_data, z, samples = (points.cpu().double().numpy() for points in both)
    data_colours, sample_colours = (style.position_colours(p, z.mean(0), z.std(0) + 1e-12) for p in (z_data, z))
    if classes is not None:
        _, index = np.unique(classes[chosen], return_inverse=True)
        data_colours, sample_colours = np.array(style.CLASSES)[index % len(style.CLASSES)], style.MUTED
    latent, space = style.view(z_data, z, pad=0.3), style.view(data, pad=0.18, flattest=0.5)
    panels = (
        ("z = f(X)", z_data, data_colours, latent),
        ("z ~ p(z)", z, sample_colours, latent),
        ("X ~ data", data, data_colours, space),
        ("X = g(z)", samples, sample_colours, space),
    )
    heights = [style.height(latent), style.height(space)]
    size = 7.4, 3.4 * sum(heights) + 0.8
    axes, _ = style.panels(ax, 2, 2, size, gridspec_kw={"height_ratios": heights})
    for panel, (title, points, colours, limits) in zip(axes.flat, panels, strict=True):
        _cloud(panel, title, points, colours, limits)
    return axes


def _cloud(ax: Axes, title: str, points: np.ndarray, colours: Any, limits: style.Window) -> None:
    """Points (N, 2) within limits; those beyond are counted."""
    style.dress(ax, title, closed=True)
    style.frame(ax, limits)
    ax.scatter(*points.T, s=7, c=colours, alpha=0.75, linewidths=0, rasterized=True)
    low, high = np.array(limits[::2]), np.array(limits[1::2])
    if outside := int((~((points >= low) & (points <= high)).all(1)).sum()):
        note = f"{outside} of {len(points)} outside"
        ax.text(0.98, 0.02, note, transform=ax.transAxes, ha="right", fontsize=7.5, color=style.MUTED)


@torch.no_grad()
def density(
    density: Density,
    *,
    x: Any = None,
    bounds: Sequence[float] | None = None,
    resolution: int = 500,
    context: Any = None,
    log: bool = False,
    truth: Callable[[torch.Tensor], torch.Tensor] | None = None,
    columns: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The density p(x): an image with a colour bar for D = 2, a curve (over a histogram of x) for D = 1.

    Args:
        density: over D = 1 or 2 columns of numbers: a flow, a mixture, the density of a table.
        x: rows (N, D) of data, for the bounds and the histogram.
        bounds: (xmin, xmax, ymin, ymax), or (xmin, xmax) for D = 1, in data units; those of x, or of samples,
            when None.
        resolution: cells along each axis; the density is taken at their centres, and where it changes much between
            neighbours, as at a thread thinner than a cell, as its mean over the cell.
        context: the one context of a conditional density: (K,), or a table of one row.
        log: log p(x) in nats instead (D = 2), a logarithmic axis (D = 1).
        truth: log-density (*N, D) -> (*N,), such as `toy.log_prob`: drawn dashed; for D = 2 as the contours
            that hold 50 and 95 % of its mass within the bounds.
        columns: D names for the axes.
        ax: the axes to draw into.

    Raises:
        ValueError: the density has another D; x, bounds or columns do not fit it; the resolution is below 2.
    """
    features = style.dimension(density, (1, 2), "density")
    data = None if x is None else style.rows(x, "x", features)
    if resolution < 2:
        raise ValueError(f"resolution must be at least 2, got {resolution}")
    names = style.axis_names(columns, features)
    if bounds is None:
        points = data
        if points is None:
            draws = density.sample(4000, context, generator=style.seeded(density, None))
            points = density.space.features(density.space.flatten_samples(draws))[:, :features]
        spans = style.window(style.rows(points, "samples"), pad=0.15)
    else:
        spans = style.checked(bounds, features)
    centres = [a + (b - a) * (np.arange(resolution) + 0.5) / resolution for a, b in spans]
    grid = np.stack(np.meshgrid(*centres, indexing="xy"), -1)  # rows of the image run along the second axis of x
    log_p = _log_prob_at(density, grid, context)
    if features == 2:
        log_p = _averaged(log_p, grid, lambda points: _log_prob_at(density, points, context))
    true_p = None
    if truth is not None:
        true_p = truth(torch.as_tensor(grid, dtype=torch.get_default_dtype())).double().exp().cpu().numpy()
    if features == 1:
        ax = style.figure_of(ax, (6.2, 3.8))
        _curve(ax, centres[0], np.exp(log_p), true_p, data, log)
        ax.set_xlim(spans[0])
        style.dress(ax, x=names[0], y="density p(x)")
        return ax

    height = (spans[1][1] - spans[1][0]) / (spans[0][1] - spans[0][0])
    ax = style.figure_of(ax, (6.4, min(max(5.2 * height, 2.2), 6.5) + 0.6 if style.comparable(*spans) else 5.2))
    _image(ax, log_p, spans, log)
    style.dress(ax, x=names[0], y=names[1], closed=True)
    if true_p is not None:
        levels = sorted(set(style.mass_levels(true_p, [0.95, 0.5])))
        ax.contour(*centres, true_p, levels=levels, colors="white", linewidths=0.8, linestyles="dashed", alpha=0.8)
    return ax


def _log_prob_at(density: Density, points: np.ndarray, context: Any) -> np.ndarray:
    """log p (*N,) at points (*N, D), in one context."""
    space, flat = density.space, points.reshape(-1, points.shape[-1])
    names = [name for name in space.names if name not in space.given]
    contexts, _ = space.expand_context(len(flat), context)
    rows = space.read(frames.of_array(flat, names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of points of a picture that no row may have
        return density.log_prob(rows, contexts).cpu().double().numpy().reshape(points.shape[:-1])


def _averaged(log_p: np.ndarray, grid: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Log-densities (R, R) at the centres of cells -> those of cells among unlike neighbours as means over the cell.

    A cell that a thread crosses beside its centre is found by its neighbours, so that the thread is whole.

    Args:
        log_p: at the centres.
        grid: the centres (R, R, 2).
        score: log-densities (N,) at points (N, 2).
    """
    log_p, side = log_p.copy(), (grid[1, 1] - grid[0, 0]) / _PARTS
    places = np.arange(_PARTS) - (_PARTS - 1) / 2
    offsets = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2) * side
    pending = np.ones(log_p.shape, dtype=bool)
    for _ in range(_AVERAGING_ROUNDS):
        padded = np.pad(np.nan_to_num(log_p, nan=-np.inf, posinf=np.inf, neginf=-1e9), 1, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*log_p.shape, 9)
        highest, own = around.max(-1), padded[1:-1, 1:-1]
        is_unlike = np.maximum(highest - own, own - np.median(around, -1)) > _STEP
        is_rough = pending & is_unlike & (highest > padded.max() - _SIGHT)
        cells = np.flatnonzero(is_rough)
        if len(cells) == 0:
            break
        brightest = np.argsort(-highest.flat[cells], kind="stable")
        cells = cells[brightest[: math.ceil(_MOST_AVERAGED * log_p.size)]]
        values = score((grid.reshape(-1, 1, 2)[cells] + offsets).reshape(-1, 2)).reshape(len(cells), -1)
        log_p.flat[cells] = np.logaddexp.reduce(values, 1) - math.log(values.shape[1])
        pending.flat[cells] = False
    return log_p


def _image(ax: Axes, log_p: np.ndarray, spans: Sequence[tuple[float, float]], log: bool) -> None:
    """Log-densities (R, R) as an image of densities, or of themselves, with a colour bar."""
    image = log_p if log else np.exp(log_p)
    finite = image[np.isfinite(image)]
    # A needle of little mass must not turn the rest dark: the scale ends where the densest 0.5 % of the mass begin.
    high = finite.max(initial=-math.inf) if log else style.mass_levels(np.nan_to_num(image, posinf=0), [0.005])[0]
    low = high - 12 if log else 0.0
    drawn = ax.imshow(
        image, origin="lower", extent=(*spans[0], *spans[1]), aspect="equal" if style.comparable(*spans) else "auto",
        cmap="magma", vmin=low, vmax=high if high > low else low + 1, interpolation="antialiased",
    )  # fmt: skip
    fig = ax.figure
    if fig.get_layout_engine() is None:
        place: Any = {"cax": make_axes_locatable(ax).append_axes("right", "3.5%", pad=0.1)}
    else:  # which does not know such axes, and makes no room for the labels of an inset beside axes of one unit
        place = {"ax": ax, "fraction": 0.05, "pad": 0.02, "aspect": 30}
    beyond = "min" if log and (image < low).any() else "max" if not log and (finite > 1.05 * high).any() else "neither"
    style.colour_bar(fig.colorbar(drawn, extend=beyond, **place), "log p(x)  [nats]" if log else "density p(x)")


def save_figure(picture: Figure | Axes | style.Panels, path: str | Path, *, dpi: float = 150) -> Path:
    """Writes a figure, or that of some axes, whole or not at all; the ending of path (.png, .pdf, .svg) says how.

    Raises:
        ValueError: the ending is none that matplotlib can write.
    """
    first = picture.flat[0] if isinstance(picture, np.ndarray) else picture
    fig = first if isinstance(first, Figure) else cast(Figure, first.get_figure(root=True))
    path = Path(path)
    if path.suffix[1:].lower() not in fig.canvas.get_supported_filetypes():
        known = ", ".join(sorted(fig.canvas.get_supported_filetypes()))
        raise ValueError(f"expected a path that ends in one of {known}, got {path}")
    with atomic(path) as temporary:
        fig.savefig(temporary, format=path.suffix[1:].lower(), dpi=dpi, facecolor="white")
    return path


def _curve(
    ax: Axes, at: np.ndarray, p: np.ndarray, true_p: np.ndarray | None, data: np.ndarray | None, log: bool
) -> None:
    if data is not None:
        style.histogram(ax, style.finite(data)[:, 0], (at[0], at[-1]), style.DATA, "data")
    ax.plot(at, p, color=style.MODEL, linewidth=1.8, label="model")
    if true_p is not None:
        ax.plot(at, true_p, color=style.INK, linewidth=1.1, linestyle=(0, (4, 3)), label="truth")
    top = p[np.isfinite(p)].max(initial=0)
    if log and top > 0:
        ax.set(yscale="log", ylim=(top * 1e-5, top * 3))
    elif not log:
        ax.set_ylim(bottom=0)
    if data is not None or true_p is not None:
        ax.legend(fontsize=8.5, frameon=False, labelcolor=style.INK)
