"""The map of a flow, layer by layer: as a row of panels, and as an animation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from .._files import atomic
from ..bijections import Bijection, Chain
from ..flow import Flow
from . import style

_POINTS_OF_A_LINE = 160


@torch.no_grad()
def warped_grid(
    flow: Flow,
    *,
    bounds: Sequence[float] | None = None,
    lines: int = 25,
    max_panels: int = 10,
    context: Any = None,
    fig: Figure | None = None,
) -> Figure:
    """A regular grid of the latent plane, layer by layer on its way to the data: one panel a state.

    Lines are coloured by latent position and fade where the base has little mass. Each panel has limits of its own, so
    layers that only shift and scale are joined to a neighbour.

    Args:
        flow: over D = 2; a bijection that is no `Chain` counts as one layer.
        bounds: (xmin, xmax, ymin, ymax) of the grid in latent units; those of base samples when None.
        lines: in each direction.
        max_panels: at most so many, at least 2; an even selection of the states otherwise.
        context: (K,), the one context of a conditional flow.
        fig: the figure to draw into.

    Raises:
        ValueError: the flow is not two-dimensional, or a number is out of range.
    """
    style.dimension(flow, (2,), "warped_grid")
    if lines < 2 or max_panels < 2:
        raise ValueError(f"lines and max_panels must be at least 2, got {lines} and {max_panels}")
    z = flow.base.sample(2000, generator=style.seeded(flow, None))
    passed, states, total, colours = _grid_states(flow, z, bounds, lines, max_panels, context)
    count = len(states)
    across = count if count <= 5 else min((5, 4, 3), key=lambda k: -count % k)
    down = math.ceil(count / across)
    fig = Figure((2.3 * across, 2.5 * down), layout="constrained") if fig is None else fig
    for i, ax in enumerate(fig.subplots(down, across, squeeze=False).flat):
        if i >= count:
            ax.set_axis_off()
            continue
        title = "z" if i == 0 else "X = g(z)" if i == count - 1 else f"after {passed[i]} of {total} layers"
        style.dress(ax, title, closed=True)
        ax.set(xticks=[], yticks=[])
        style.frame(ax, style.view(states[i][: len(z)], pad=0.2))
        segments = _segments(states[i][len(z) :])
        ax.add_collection(LineCollection(segments, colors=colours, linewidths=0.8, rasterized=True), autolim=False)
    return fig


@torch.no_grad()
def animate(
    flow: Flow,
    path: str | Path,
    *,
    frames: int = 80,
    fps: float = 20,
    hold: float = 1.2,
    n: int = 1200,
    grid: bool = True,
    size: int = 420,
    context: Any = None,
    generator: torch.Generator | None = None,
) -> Path:
    """Writes an animated GIF of points that flow from base samples, layer by layer, to the data.

    Between the states of two layers points move on straight lines, slowly at both ends; the camera follows. Each point
    keeps the colour of its latent position. The file appears whole or not at all.

    Args:
        flow: over D = 2.
        path: of the GIF.
        frames: how many, at least 2.
        fps: frames a second.
        hold: seconds for which the first and the last frame stand.
        n: the number of points.
        grid: whether to draw a grid of the latent plane behind the points.
        size: width and height in pixels.
        context: (K,), the one context of a conditional flow.
        generator: of the draws.

    Returns:
        the path.

    Raises:
        ValueError: the flow is not two-dimensional, or a number is out of range.
    """
    style.dimension(flow, (2,), "animate")
    if frames < 2 or n < 1 or size < 50 or not 0 < fps <= 100 or not 0 <= hold <= 60:
        raise ValueError(
            "expected frames >= 2, n >= 1, size >= 50, 0 < fps <= 100 and 0 <= hold <= 60, "
            f"got {frames}, {n}, {size}, {fps} and {hold}"
        )
    z = flow.base.sample(n, generator=style.seeded(flow, generator))
    _, states, _, line_colours = _grid_states(flow, z, None, 17, 16, context)
    keys = []
    for state in states:  # each in units of its own window
        xmin, xmax, ymin, ymax = style.view(state[:n], pad=0.2)
        # Far outside nothing is seen, and Agg gives up on very long lines.
        keys.append(((state - [xmin, ymin]) / [xmax - xmin, ymax - ymin]).clip(-20, 20))
    fig = Figure((size / 100, size / 100), dpi=100)
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    net = LineCollection([], colors=line_colours * [1, 1, 1, 0.7], linewidths=0.6)
    ax.add_collection(net, autolim=False)
    latent = z.cpu().double().numpy()
    dots = ax.scatter(
        *keys[0][:n].T, s=5, c=style.position_colours(latent, latent.mean(0), latent.std(0) + 1e-12), linewidths=0
    )
    (progress,) = ax.plot([0, 0], [0.004, 0.004], color=style.INK, linewidth=2, solid_capstyle="butt")
    images = []
    for i in range(frames):
        time = i / (frames - 1) * (len(keys) - 1)
        k = min(int(time), len(keys) - 2)
        ease = (time - k) ** 2 * (3 - 2 * (time - k))
        points = keys[k] + ease * (keys[k + 1] - keys[k])
        dots.set_offsets(points[:n])
        net.set_segments(_segments(points[n:]) if grid else [])
        progress.set_xdata([0, i / (frames - 1)])
        images.append(_pixels(fig))
    # One palette for all frames, without dithering: both make the file far smaller.
    sheet = Image.fromarray(np.concatenate([np.asarray(images[i]) for i in np.linspace(0, frames - 1, 5).astype(int)]))
    colours = np.array(sheet.quantize(128).getpalette()).reshape(-1, 3)
    colours[(colours > 244).all(1)] = 255  # Pillow's look-up is coarse, and would make the background a light grey
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.flatten().tolist())
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    step = 1000 / fps
    durations = [round(step + (1000 * hold if i in (0, frames - 1) else 0)) for i in range(frames)]
    with atomic(path) as temporary:
        images[0].save(
            temporary, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1
        )
    return Path(path)


def _grid_states(
    flow: Flow, z: torch.Tensor, bounds: Sequence[float] | None, lines: int, limit: int, context: Any
) -> tuple[list[int], list[np.ndarray], int, np.ndarray]:
    """Base samples z (N, 2) with the points of a grid put behind them, layer by layer.

    Returns:
        as `_layer_states`, the states (N + 2 * lines * points of a line, 2); and the RGBA of each segment of a line.
    """
    latent = z.cpu().double().numpy()
    limits = style.view(latent, pad=0.1) if bounds is None else _window(bounds)
    along = (np.linspace(0, 1, lines)[:, None], np.linspace(0, 1, _POINTS_OF_A_LINE))
    upright = np.stack(np.broadcast_arrays(*along), -1)
    unit = np.concatenate([upright, upright[..., ::-1]])
    grid = np.array(limits[::2]) + unit * [limits[1] - limits[0], limits[3] - limits[2]]
    centre, scale = latent.mean(0), latent.std(0) + 1e-12
    middles = ((grid[:, 1:] + grid[:, :-1]) / 2).reshape(-1, 2)
    fade = np.exp(-((((middles - centre) / scale) ** 2).sum(1)) / 4.5)
    colours = np.column_stack([style.position_colours(middles, centre, scale), 0.06 + 0.84 * fade])
    points = torch.cat([z, torch.as_tensor(grid.reshape(-1, 2), dtype=z.dtype, device=z.device)])
    return (*_layer_states(flow, points, context, limit, len(z)), colours)


def _window(bounds: Sequence[float]) -> style.Window:
    x, y = style.checked(bounds)
    return (*x, *y)


def _segments(points: np.ndarray) -> list[Any]:
    """The points of all lines, one line after the other -> the segments between neighbours (S, 2, 2)."""
    strands = points.reshape(-1, _POINTS_OF_A_LINE, 2)
    return list(np.stack([strands[:, :-1], strands[:, 1:]], 2).reshape(-1, 2, 2))


def _pixels(fig: Figure) -> Image.Image:
    canvas = cast(FigureCanvasAgg, fig.canvas)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


@torch.no_grad()
def _layer_states(
    flow: Flow, z: torch.Tensor, context: Any, limit: int, weight: int
) -> tuple[list[int], list[np.ndarray], int]:
    """What each layer makes of z (N, 2) on its way to the data, judged by the first `weight` rows.

    A layer that only shifts and scales the axes shows nothing in a panel with limits of its own, and is joined to its
    neighbour. Of more than `limit` states an even selection is kept, with both ends.

    Returns:
        for each state kept the number of layers passed; the states (N, 2); the number of layers.
    """
    if context is not None:
        context = flow._tensor(context, "context").expand(len(z), -1)
    context = flow._embedded(context)
    states = [z]
    for layer in reversed(list(_flat(flow.bijection)) or [flow.bijection]):
        states.append(layer.inverse(states[-1], context)[0])
    # Points that left the floats are not drawn: matplotlib skips NaN.
    arrays = [torch.where(state.isfinite(), state, math.nan).cpu().double().numpy() for state in states]
    last = len(arrays) - 1
    kept, reference = [0], _normalised(arrays[0][:weight])
    for i in range(1, last + 1):
        normalised = _normalised(arrays[i][:weight])
        if np.quantile(abs(normalised - reference), 0.99) > 0.03:
            kept.append(i)
            reference = normalised
        elif len(kept) > 1:
            kept[-1] = i
    if kept[-1] != last:
        kept.append(last)
    if len(kept) > limit:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, limit).round().astype(int)]
    return kept, [arrays[i] for i in kept], last


def _flat(bijection: Bijection) -> Iterator[Bijection]:
    if isinstance(bijection, Chain):
        for i in range(len(bijection)):
            yield from _flat(bijection[i])
    else:
        yield bijection


def _normalised(points: np.ndarray) -> np.ndarray:
    points = np.nan_to_num(points)
    middle = np.median(points, 0)
    return (points - middle) / (abs(points - middle).mean(0) + 1e-12)
