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

from ..bijections import Bijection, Chain
from ..flow import Flow
from ..io.atomic import atomic
from . import style

_POINTS_OF_A_LINE = 160
# Where the map stretches, segments longer than this part of a panel are cut in two, so that lines stay curves.
_LONGEST, _CUTS, _MOST_POINTS = 0.01, 10, 60_000


@torch.no_grad()
def warped_grid(
    flow: Flow,
    *,
    bounds: Sequence[float] | None = None,
    lines: int = 25,
    max_panels: int = 10,
    context: Any = None,
    ax: style.Panels | None = None,
) -> style.Panels:
    """A regular grid of the latent plane, layer by layer on its way to the data: one panel a state.

    Lines are coloured by latent position and fade where the base has little mass. Each panel has limits of its own, so
    layers that only shift and scale are joined to a neighbour.

    Args:
        flow: over D = 2; a bijection that is no `Chain` counts as one layer.
        bounds: (xmin, xmax, ymin, ymax) of the grid in latent units; those of base samples when None.
        lines: in each direction.
        max_panels: at most so many, at least 2; an even selection of the states otherwise.
        context: (K,), the one context of a conditional flow.
        ax: axes to draw into, at least 2; of more than there are states the rest stays empty.

    Returns:
        the axes of the panels (P,).

    Raises:
        ValueError: the flow is not two-dimensional, or a number is out of range.
    """
    flow = style.plane_map(flow, context, "warped_grid")
    max_panels = max_panels if ax is None else min(max_panels, ax.size)
    if lines < 2 or max_panels < 2:
        raise ValueError(f"lines and max_panels must be at least 2, got {lines} and {max_panels}")
    z = flow.base.sample(2000, generator=style.seeded(flow, None))
    passed, points, total = _layer_states(flow, z, context, max_panels)
    segments, colours = _grid(flow, points, passed, bounds, lines, context)
    count = len(points)
    across = count if count <= 5 else min((5, 4, 3), key=lambda k: -count % k)
    down = math.ceil(count / across)
    axes = style.panels(None, down, across, (2.3 * across, 2.5 * down))[0].ravel() if ax is None else ax.ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    for i, panel in enumerate(axes[:count]):
        title = "z" if i == 0 else "X = g(z)" if i == count - 1 else f"after {passed[i]} of {total} layers"
        style.dress(panel, title, closed=True)
        panel.set(xticks=[], yticks=[])
        style.frame(panel, _view(points[i]))
        lined = LineCollection(list(segments[i]), colors=colours, linewidths=0.8, rasterized=True)
        panel.add_collection(lined, autolim=False)
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
    passed, states, _ = _layer_states(flow, z, context, 16)
    strands, line_colours = _grid(flow, states, passed, None, 17, context)
    # Each state in units of its own window. Far outside nothing is seen, and Agg gives up on very long lines.
    views = [np.array(_view(state)) for state in states]
    keys, nets = (
        [((points - v[::2]) / (v[1::2] - v[::2])).clip(-20, 20) for points, v in zip(what, views, strict=True)]
        for what in (states, strands)
    )
    fig = Figure((size / 100, size / 100), dpi=100)
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    net = LineCollection([], colors=line_colours * [1, 1, 1, 0.7], linewidths=0.6)
    ax.add_collection(net, autolim=False)
    colours = style.position_colours(states[0], states[0].mean(0), states[0].std(0) + 1e-12)
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


def _grid(
    flow: Flow, states: list[np.ndarray], passed: list[int], bounds: Sequence[float] | None, lines: int, context: Any
) -> tuple[list[np.ndarray], np.ndarray]:
    """The lines of a regular grid of the latent plane in each of some states, as fine as their windows need.

    Args:
        flow: over D = 2.
        states: base samples in each state (N, 2), the first of them the latent plane.
        passed: layers passed in each state.
        bounds: of the grid; those of the base samples when None.
        lines: in each direction.
        context: (K,) or None.

    Returns:
        for each state the segments between neighbours on a line (S, 2, 2); and their RGBA colours (S, 4).
    """
    low_x, high_x, low_y, high_y = style.view(states[0], pad=0.1) if bounds is None else _window(bounds)
    upright = np.stack(np.meshgrid(np.linspace(0, 1, lines), np.linspace(0, 1, _POINTS_OF_A_LINE), indexing="ij"), -1)
    unit = np.concatenate([upright, upright[..., ::-1]]).reshape(-1, 2)
    z = np.array([low_x, low_y]) + unit * [high_x - low_x, high_y - low_y]
    line = np.repeat(np.arange(2 * lines), _POINTS_OF_A_LINE)
    points = [_inverses(flow, z, context)[i] for i in passed]
    for _ in range(_CUTS):
        cut = _too_long(line, points, [_view(state) for state in states])
        if len(cut) == 0 or len(z) + len(cut) > _MOST_POINTS:
            break
        middle = (z[cut] + z[cut + 1]) / 2
        inverses = _inverses(flow, middle, context)
        line, z = np.insert(line, cut + 1, line[cut]), np.insert(z, cut + 1, middle, axis=0)
        points = [np.insert(p, cut + 1, inverses[i], axis=0) for p, i in zip(points, passed, strict=True)]
    joined = line[1:] == line[:-1]
    middles = ((z[1:] + z[:-1]) / 2)[joined]
    centre, scale = states[0].mean(0), states[0].std(0) + 1e-12
    fade = np.exp(-((((middles - centre) / scale) ** 2).sum(1)) / 4.5)
    colours = np.column_stack([style.position_colours(middles, centre, scale), 0.06 + 0.84 * fade])
    return [np.stack([p[:-1], p[1:]], 1)[joined] for p in points], colours


def _too_long(line: np.ndarray, points: list[np.ndarray], views: list[style.Window]) -> np.ndarray:
    """The segments (i, i + 1) of a line of which a long piece may be seen in one of the states: their i."""
    long = np.zeros(len(line) - 1, dtype=bool)
    for p, view in zip(points, views, strict=True):
        low, high = np.array(view[::2]), np.array(view[1::2])
        start, end = p[:-1], p[1:]
        seen = (np.maximum(start, end) >= low) & (np.minimum(start, end) <= high)
        long |= seen.all(1) & (abs(end - start) > _LONGEST * (high - low)).any(1)
    return np.flatnonzero(long & (line[1:] == line[:-1]))


def _view(points: np.ndarray) -> style.Window:
    return style.view(points, pad=0.2)


def _window(bounds: Sequence[float]) -> style.Window:
    x, y = style.checked(bounds)
    return (*x, *y)


def _pixels(fig: Figure) -> Image.Image:
    canvas = cast(FigureCanvasAgg, fig.canvas)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _inverses(flow: Flow, z: np.ndarray, context: Any) -> list[np.ndarray]:
    """What the layers make of z (N, 2) on its way to the data: after none of them, one, ..., all: each (N, 2)."""
    like = flow.base.sample(0)
    states = [torch.as_tensor(z, dtype=like.dtype, device=like.device)]
    if context is not None:
        context = torch.as_tensor(context, dtype=like.dtype, device=like.device).expand(len(z), -1)
        context = context if flow.embed is None else flow.embed(context)
    for layer in reversed(list(_flat(flow.bijection)) or [flow.bijection]):
        states.append(layer.inverse(states[-1], context)[0])
    # Points that left the floats are not drawn: matplotlib skips NaN.
    return [torch.where(state.isfinite(), state, math.nan).cpu().double().numpy() for state in states]


def _layer_states(flow: Flow, z: torch.Tensor, context: Any, limit: int) -> tuple[list[int], list[np.ndarray], int]:
    """The states of z (N, 2) on its way to the data that are worth a panel.

    A layer that only shifts and scales the axes shows nothing in a panel with limits of its own, and is joined to its
    neighbour. Of more than `limit` states an even selection is kept, with both ends.

    Returns:
        for each state kept the number of layers passed; the states (N, 2); the number of layers.
    """
    arrays = _inverses(flow, z.cpu().double().numpy(), context)
    last = len(arrays) - 1
    kept, reference = [0], _normalised(arrays[0])
    for i in range(1, last + 1):
        normalised = _normalised(arrays[i])
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
