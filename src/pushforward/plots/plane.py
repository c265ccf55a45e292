"""The density of two columns among many, from rows of the data and samples of the model side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from matplotlib.colors import PowerNorm

from . import style
from .pairs import ticks


def plane(
    samples: Any,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    dates: Collection[int] = (),
    ax: style.Panels | None = None,
) -> style.Panels:
    """The joint density of two columns, whatever others there are: smoothed histograms of rows, on one scale.

    Args:
        samples: (N, 2), of a model: many, as they are counted.
        data: (M, 2), drawn to the left of it.
        columns: two names.
        dates: which of 0 and 1 are dates, in days since 1970.
        ax: axes to draw into, one or, with data, two.

    Returns:
        the axes, (1,) or (2,).

    Raises:
        ValueError: the rows have another number of columns, or there are other than two names.
    """
    model = style.finite(style.rows(samples, "samples", 2))
    kinds = [("model", len(samples), model)]
    if data is not None:
        kinds.insert(0, ("data", len(data), style.finite(style.rows(data, "data", 2))))
    names = style.axis_names(columns, 2)
    spans = style.window(kinds[0][2], pad=0.06)
    images, fewest = [], min(len(points) for _, _, points in kinds)
    for _, n, points in kinds:
        counts, edges = style.smoothed(points, spans[0], spans[1], fewest, most=120)
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
        style.dress(panel, f"{label}, {n:,} rows", x=names[0], y=names[1] if i == 0 else "", closed=True)
        for k, axis in enumerate((panel.xaxis, panel.yaxis)):
            ticks(axis, k in dates, None, False)
    bar = fig.colorbar(drawn, ax=list(axes), extend="max", fraction=0.05, pad=0.02)
    style.colour_bar(bar, "density, on a scale of square roots")
    return axes
