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
    Standardize,
    Within,
)
from ..convnets import ConvNet
from ..flow import Flow
from ..nets import MaskedMLP
from .build import IMAGE_RECIPES, check_size, check_sizes, generator_of, recipe
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
    sigmoids: int = 4,
    context_dim: int = 0,
    seed: int | None = None,
) -> Flow:
    """Splines from coarse to fine, one for each pixel: an autoregressive flow over lattices.

    Of each square of 2 x 2 pixels the first belongs to a coarser image, a sample of the pixels and not their mean, over
    which the flow is of the same kind. The three others are moved in turn, each given all that come before it within
    three positions of the coarser lattice, by convolutions (`GroupAutoregressive`); as in Reed et al. 2017 (parallel
    multiscale autoregressive density estimation, arXiv 1703.03664), but that the pixel across from the first comes
    next, whose neighbours the others are. The coarsest image is moved number by number (`Autoregressive`), channel
    after channel. Conditioners see pixels, not latent numbers, so that one layer a scale suffices. The latents of a
    scale are those of its three pixels.

    Args:
        shape: (C, H, W); H and W must be multiples of 2 ** levels, of which there are as many as `widths`.
        widths: channels of the convolutions of each scale, the finest first.
        coarse_width: hidden units of the network of the coarsest image.
        bins: of the splines, at least 2.
        sigmoids: of each pixel, by which convolutions see it, see `LearnedSigmoids`; 0 for the number itself.
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
    check_sizes("widths", widths)
    channels, height, width = image = check_levels(shape, check_size("levels", len(widths)))
    for name, size in (("coarse_width", coarse_width), ("sigmoids", sigmoids), ("context_dim", context_dim)):
        check_size(name, size)
    spline, generator = RationalQuadratic(check_size("bins", bins), _BOUND), generator_of(seed)

    def finer(level: int) -> Within:
        lattice = (height >> level, width >> level)
        nets = [
            ConvNet(
                given, spline.num_params, width=widths[level - 1], positions=lattice, sizes=_KERNELS,
                sigmoids=sigmoids, context_dim=context_dim, generator=generator,
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

    return Flow(Chain(Standardize(channels), finer(1)), image, context_dim=context_dim)
