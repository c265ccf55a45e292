"""Pictures of images: grids, interpolations in latent space, what each scale holds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from ..images import ImageDensity
from ..images.uses import flow_of, interpolate, latent_scales, redraw_scales
from ..io.image_writer import grid, rows_of_groups, short_name
from ..io.pixels import as_bytes
from . import style

_INCHES, _LEAST_INCHES = 0.45, 2.0  # of the height of an image; of the width of a picture
_LETTERS = 13  # of a title, in an inch


def images(
    images: Any, *, columns: int | None = None, title: str = "", groups: Mapping[str, int] | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Images side by side.

    Args:
        images: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W).
        columns: images of a row; about as many as there are rows when None.
        title: above the picture.
        groups: how many images belong together, by the name that is written to the left of them; each group begins a
            row. Their sum is N.
        ax: axes to draw into.

    Raises:
        ValueError: there are none, or they have another shape, see `io.pixels.as_bytes`; the groups have other images.
    """
    planes, _ = as_bytes(images)
    sizes = list((groups or {"": len(planes)}).values())
    if sum(sizes) != len(planes):
        raise ValueError(f"the groups have {sum(sizes):,} images, expected {len(planes):,}, as there are")
    columns = None if columns is None else min(columns, max(sizes))
    rows, names = np.array(rows_of_groups(sizes, columns)), [short_name(name) for name in groups or ()]
    picture = np.moveaxis(grid(planes, columns, sizes), 0, 2)
    height, width = picture.shape[:2]
    inches = max(_LEAST_INCHES, _INCHES * rows.sum() * width / height)
    lines = textwrap.wrap(title, int(inches * _LETTERS))
    margin = max(map(len, names), default=0) / _LETTERS
    ax = style.figure_of(ax, (inches + margin, inches * height / width + 0.1 + 0.2 * len(lines)))
    ax.imshow(picture[:, :, 0] if len(planes[0]) == 1 else picture, cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    if names:
        ax.set_axis_on()
        ax.set_frame_on(False)
        ax.set_xticks([])
        ax.set_yticks((rows.cumsum() - rows / 2) * height / rows.sum(), names, fontsize=10, parse_math=False)
        ax.tick_params(length=0)
    if title:
        ax.set_title("\n".join(lines), fontsize=10, loc="left")
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
