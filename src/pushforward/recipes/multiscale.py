"""Flows over images from coarse to fine: every pixel is moved given the pixels of a coarser lattice around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bijections import (
    Autoregressive,
    Chain,
    Flatten,
    GroupAutoregressive,
    OnChannels,
    RationalQuadratic,
    Squeeze,
    Within,
)
from ..convnets import ConvNet
from ..flow import Flow
from ..nets import MaskedMLP
from .build import IMAGE_RECIPES, check_size, generator_of, recipe
from .images import check_levels

_BOUND = 4.0  # of the splines
_KERNELS = (3, 3, 3, 1)
_ORDER = (0, 3, 1, 2)  # of the pixels of a square: the coarser lattice, across from it, beside it, below it


@recipe(register=IMAGE_RECIPES)
def multiscale_spline_flow(
    shape: Sequence[int],
    *,
    widths: Sequence[int] = (32, 64),
    coarse_width: int = 256,
    bins: int = 8,
    context_dim: int = 0,
    seed: int | None = None,
) -> Flow:
    """Splines from coarse to fine, one for each pixel: an autoregressive flow over lattices.

    Of each square of 2 x 2 pixels the first belongs to a coarser image, over which the flow is of the same kind; the
    three others are moved in turn, each given all that come before it, by convolutions (`GroupAutoregressive`). The
    coarsest image is moved number by number (`Autoregressive`). The order is that of Reed et al. 2017 (parallel
    multiscale autoregressive density estimation, arXiv 1703.03664). Conditioners see pixels, not latent numbers, so
    that one layer a scale suffices. The latents of a scale are those of its three pixels.

    Args:
        shape: (C, H, W); H and W must be multiples of 2 ** levels, of which there are as many as `widths`.
        widths: channels of the convolutions of each scale, the finest first.
        coarse_width: hidden units of the network of the coarsest image.
        bins: of the splines, at least 2.
        context_dim: K, the width of the context of a conditional density; 0 for none.
        seed: of the initial weights; torch's global generator when None.

    Returns:
        A `Flow` over (C, H, W), of numbers on the whole line: see `ImageDensity` for bytes.

    Raises:
        ValueError: as `real_nvp_image`; widths are no list.

    Example:
        >>> multiscale_spline_flow((1, 8, 8), widths=[8, 8], coarse_width=16).sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    if not isinstance(widths, list | tuple):
        raise ValueError(f"widths must be a list of whole numbers, one for each scale, got {widths!r}")
    channels, height, width = image = check_levels(shape, check_size("levels", len(widths)))
    for channels_hidden in widths:
        check_size("width", channels_hidden)
    check_size("coarse_width", coarse_width)
    check_size("context_dim", context_dim)
    spline, generator = RationalQuadratic(check_size("bins", bins), _BOUND), generator_of(seed)

    def finer(level: int) -> Within:
        lattice = (height >> level, width >> level)
        nets = [
            ConvNet(
                given, spline.num_params, width=widths[level - 1], positions=lattice, sizes=_KERNELS, squash=True,
                context_dim=context_dim, generator=generator,
            )
            for given in range(channels, 4 * channels)
        ]  # fmt: skip
        moves = GroupAutoregressive(nets, spline, [channels] + [1] * len(nets))
        order = [4 * channel + pixel for pixel in _ORDER for channel in range(channels)]
        coarser = finer(level + 1) if level < len(widths) else coarsest((channels, *lattice))
        return Within(Squeeze(), Chain(OnChannels(order, moves), OnChannels(order[:channels], coarser)))

    def coarsest(shape: tuple[int, int, int]) -> Within:
        size = math.prod(shape)
        net = MaskedMLP(
            size, spline.num_params * size, width=coarse_width, context_dim=context_dim, generator=generator
        )
        return Within(Flatten(shape), Autoregressive(net, spline, size))

    return Flow(finer(1), image, context_dim=context_dim)
