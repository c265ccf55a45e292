"""The map of a flow, layer by layer: as a row of panels, and as an animation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from ..flow import Flow
from ..io.atomic import atomic
from . import mesh, style
from .layers import states_of

_PANEL_POINTS = 150  # the width of a panel in points
_MOST_STATES = 24  # of an animation


@torch.no_grad()
def warped_grid(
    flow: Flow,
    *,
    bounds: Sequence[float] | None = None,
    lines: int = 25,
    max_panels: int = 10,
    context: Any = None,
    ax: Axes | style.Panels | None = None,
) -> style.Panels:
    """A regular grid of the latent plane, layer by layer on its way to the data: one panel a state.

    The sheet and its lines are coloured by latent position and fade out where the base has little mass. Each panel has
    limits of its own, so layers that only shift and scale are joined to a neighbour.

    Args:
        flow: over D = 2; a bijection that is no `Chain` counts as one layer.
        bounds: (xmin, xmax, ymin, ymax) of the grid in latent units, all of which is drawn; None ends it where the base
            does, at three standard deviations of a normal one.
        lines: in each direction.
        max_panels: at most so many, at least 2: then every second state, or third, and so on.
        context: (K,), the one context of a conditional flow.
        ax: axes to draw into, at least 2, of which the rest stays empty; or one, which is divided.

    Returns:
        the axes of the panels (P,).

    Raises:
        ValueError: the flow is not two-dimensional, or a number is out of range.
    """
    flow = style.plane_map(flow, context, "warped_grid")
    max_panels = max_panels if ax is None or isinstance(ax, Axes) else min(max_panels, np.size(ax))
    if lines < 2 or max_panels < 2:
        raise ValueError(f"lines and max_panels must be at least 2, got {lines} and {max_panels}")
    z = flow.base.sample(2000, generator=style.seeded(flow, None))
    states = states_of(flow, z, context, max_panels)
    windows = [_view(state.points) for state in states]
    grid = mesh.grid_of(flow, states, bounds, lines, context, windows)
    count = len(states)
    across = count if count <= 5 else min((5, 4, 3), key=lambda k: -count % k)
    down = math.ceil(count / across)
    if ax is None or isinstance(ax, Axes):
        axes = style.panels(ax, down, across, (2.3 * across, 2.5 * down))[0].ravel()
    else:
        axes = style.panels(ax, 1, np.size(ax), (0, 0))[0].ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    for i, (panel, state) in enumerate(zip(axes, states, strict=False)):
        style.dress(panel, state.name, closed=True)
        panel.set(xticks=[], yticks=[])
        style.frame(panel, windows[i])
        mesh.draw(panel, grid, i, windows[i], _PANEL_POINTS)
    return axes[:count]


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
    flow = style.plane_map(flow, context, "animate")
    if frames < 2 or n < 1 or size < 50 or not 0 < fps <= 100 or not 0 <= hold <= 60:
        raise ValueError(
            "expected frames >= 2, n >= 1, size >= 50, 0 < fps <= 100 and 0 <= hold <= 60, "
            f"got {frames}, {n}, {size}, {fps} and {hold}"
        )
    z = flow.base.sample(n, generator=style.seeded(flow, generator))
    states = states_of(flow, z, context, _MOST_STATES)
    windows = [_view(state.points) for state in states]
    lattice = mesh.grid_of(flow, states, None, 17, context, windows)
    order, line_colours = mesh.line_colours(lattice, 0.7)
    clouds = [state.points for state in states]
    # Each state in units of its own window. Far outside nothing is seen, and Agg gives up on very long lines.
    views = [np.array(window) for window in windows]
    keys, nets = (
        [((points - v[::2]) / (v[1::2] - v[::2])).clip(-20, 20) for points, v in zip(what, views, strict=True)]
        for what in (clouds, [segments[order] for segments in lattice.segments])
    )
    fig = Figure((size / 100, size / 100), dpi=100)
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    net = LineCollection([], colors=line_colours, linewidths=0.6)
    ax.add_collection(net, autolim=False)
    colours = style.position_colours(clouds[0], clouds[0].mean(0), clouds[0].std(0) + 1e-12)
    dots = ax.scatter(*keys[0].T, s=5, c=colours, linewidths=0)
    (progress,) = ax.plot([0, 0], [0.004, 0.004], color=style.INK, linewidth=2, solid_capstyle="butt")
    images = []
    for part in np.linspace(0, 1, frames):
        time = part * (len(keys) - 1)
        k = min(int(time), len(keys) - 2)
        ease = (time - k) ** 2 * (3 - 2 * (time - k))
        dots.set_offsets(keys[k] + ease * (keys[k + 1] - keys[k]))
        net.set_segments(list(nets[k] + ease * (nets[k + 1] - nets[k])) if grid else [])
        progress.set_xdata([0, part])
        images.append(_pixels(fig))
    durations = [round(1000 * (1 / fps + (hold if i in (0, frames - 1) else 0))) for i in range(frames)]
    _write_gif(images, durations, Path(path))
    return Path(path)


def _write_gif(images: list[Image.Image], durations: list[int], path: Path) -> None:
    """Images, each for so many milliseconds; one palette for all, without dithering, makes the file far smaller."""
    some = np.linspace(0, len(images) - 1, 5).astype(int)
    sheet = Image.fromarray(np.concatenate([np.asarray(images[i]) for i in some]))
    colours = np.array(sheet.quantize(128).getpalette()).reshape(-1, 3)
    colours[(colours > 244).all(1)] = 255  # Pillow's look-up is coarse, and would make the background a light grey
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.flatten().tolist())
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    with atomic(path) as part:
        first.save(part, "GIF", save_all=True, append_images=others, duration=durations, loop=0, disposal=1)


def _view(points: np.ndarray) -> style.Window:
    return style.view(points, pad=0.06, tail=0.001)


def _pixels(fig: Figure) -> Image.Image:
    canvas = cast(FigureCanvasAgg, fig.canvas)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
