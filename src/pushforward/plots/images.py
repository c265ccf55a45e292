"""Pictures of images: grids, interpolations in latent space, what each scale holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from ..images import ImageDensity
from ..images.uses import flow_of, interpolate, latent_scales, redraw_scales
from ..io.image_writer import grid
from ..io.pixels import as_bytes
from . import style

_INCHES = 0.45  # of an image


def images(images: Any, *, columns: int | None = None, title: str = "", ax: Axes | None = None) -> Axes:
    """Images side by side.

    Args:
        images: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W).
        columns: images of a row; about as many as there are rows when None.
        title: above the picture.
        ax: axes to draw into.

    Raises:
        ValueError: there are none, or they have another shape; see `io.pixels.as_bytes`.
    """
    planes, _ = as_bytes(images)
    columns = int(np.ceil(np.sqrt(len(planes)))) if columns is None else min(columns, len(planes))
    rows = -(-len(planes) // columns)
    ax = style.figure_of(ax, (max(2.0, _INCHES * columns), max(1.0, _INCHES * rows) + (0.3 if title else 0.0)))
    picture = np.moveaxis(grid(planes, columns), 0, 2)
    ax.imshow(picture[:, :, 0] if len(planes[0]) == 1 else picture, cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    if title:
        ax.set_title(title, fontsize=10, loc="left")
    return ax


def interpolation(
    density: ImageDensity, corners: Any, *, steps: int = 8, context: Any = None, ax: Axes | None = None
) -> Axes:
    """Images between the four at the corners, in latent space; see `images.uses.interpolate`.

    Args:
        density: with a flow inside.
        corners: four images.
        steps: of each side.
        context: a class, or one for each corner.
        ax: axes to draw into.
    """
    between = interpolate(density, corners, steps, context)
    return images(between.flatten(0, 1), columns=steps, title="between the four corners, in latent space", ax=ax)


def has_scales(density: ImageDensity) -> bool:
    """Whether there is a flow inside, with latents of several scales, so that `scales` can be drawn."""
    if not style.has_map(density.inner):
        return False
    flow = flow_of(density)
    return int(latent_scales(flow.bijection, flow.shape).max()) > 0


def scales(
    density: ImageDensity,
    rows: Any,
    *,
    context: Any = None,
    generator: torch.Generator | int | None = 0,
    ax: Axes | None = None,
) -> Axes:
    """Images above those of which more and more of the finer scales are drawn anew; see `images.uses.redraw_scales`.

    Args:
        density: with a flow inside that has several scales.
        rows: N images.
        context: as of `ImageDensity.log_prob`.
        generator: of the draws.
        ax: axes to draw into.
    """
    drawn = redraw_scales(density, rows, context, generator=generator)
    title = "top: as they are; below: finer scales drawn anew"
    return images(drawn.flatten(0, 1), columns=drawn.shape[1], title=title, ax=ax)
