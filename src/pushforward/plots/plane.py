"""The density of two columns among many, from rows of the data and samples of the model side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from ..density import Space
from . import style
from .pairs import clouds, ticks


def plane(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    space: Space | None = None,
    ax: Axes | style.Panels | None = None,
) -> style.Panels:
    """The joint density of two columns, whatever others there are: smoothed histograms of rows, on one scale.

    Args:
        samples: (N, 2), of a model: many, as they are counted; or rows of the space.
        data: others, drawn to the left of them.
        columns: two names.
        space: what the rows are, such as `density.space`.
        ax: axes to draw into, one or, with data, two; or one that is divided.

    Returns:
        the axes, (1,) or (2,).

    Raises:
        ValueError: the rows have another number of columns, there are other than two names, or one is a category's.
    """
    shown = clouds(samples, data, columns, space)
    if len(shown) != 2:
        raise ValueError(f"expected two columns, got {len(shown)}")
    for column in shown:
        if column.labels:
            raise ValueError(f"column {column.name!r} has a few single values and no density to draw")
    tables = [np.stack(pair, 1) for pair in zip(*(column.values for column in shown), strict=True)]
    labels = ("data", "model")[data is None :]
    kinds = [(label, len(rows), style.finite(rows)) for label, rows in zip(labels, tables, strict=True)]
    spans = style.window(kinds[0][2], pad=0.06)
    width = style.bandwidth(min((points for _, _, points in kinds), key=len), spans[0], spans[1])
    images = []
    for _, n, points in kinds:
        counts, edges = style.smoothed(points, spans[0], spans[1], width, bins=160)
        area = (edges[0][1] - edges[0][0]) * (edges[1][1] - edges[1][0])
        images.append(counts / (max(n, 1) * area))
    # A needle of little mass must not turn the rest dark: the scale ends where the densest 0.5 % of the mass begin.
    top = max(style.mass_levels(image, [0.005])[0] for image in images)
    axes, fig = style.panels(ax, 1, len(kinds), (4.6 * len(kinds) + 0.9, 4.4), sharex=True, sharey=True)
    axes = axes[0]
    drawn: Any = None
    for i, (panel, (label, n, _), image) in enumerate(zip(axes, kinds, images, strict=True)):
        drawn = panel.imshow(
            image.T, origin="lower", extent=(*spans[0], *spans[1]), aspect="auto", cmap="magma",
            norm=PowerNorm(0.5, 0, top if top > 0 else 1), interpolation="bilinear",
        )  # fmt: skip
        style.dress(panel, f"{label}, {n:,} rows", x=shown[0].name, y=shown[1].name if i == 0 else "", closed=True)
        ticks(panel.xaxis, shown[0], False, narrow=False)
        ticks(panel.yaxis, shown[1], False, narrow=False)
        panel.set_box_aspect(1)
    bar = fig.colorbar(drawn, ax=list(axes), extend="max", fraction=0.05, pad=0.02, aspect=30)
    style.colour_bar(bar, "density, on a scale of square roots")
    return axes
