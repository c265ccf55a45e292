"""Flows over images (C, H, W): Real NVP as in the paper, Glow, and couplings of small patches; scales by recursion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from ..bijections import (
    ActNorm,
    Affine,
    BatchNorm,
    Bijection,
    Chain,
    Checkerboard,
    Coupling,
    Elementwise,
    InvertibleConv,
    LatticeCoupling,
    OnHalf,
    Permute,
    RationalQuadratic,
    Squeeze,
    Within,
)
from ..convnets import ConvNet, LearnedBound, ResidualConvNet
from ..flow import Flow
from ..io.pixels import size_text
from .build import IMAGE_RECIPES, check_size, check_sizes, generator_of, recipe

Shape = tuple[int, int, int]
_LAST_CHECKERBOARDS = 1  # of the last scale, beyond those of the others
_PATCH_CLAMP, _PATCH_BOUND = 2.0, 4.0


@recipe(register=IMAGE_RECIPES)
def real_nvp_image(
    shape: Sequence[int],
    *,
    levels: int = 2,
    width: int = 64,
    blocks: int = 4,
    checkerboards: int = 3,
    norm: str = "act",
    lattice: str = "packed",
    context_dim: int = 0,
    seed: int | None = None,
) -> Flow:
    """Real NVP for images, by the architecture of Dinh et al. 2016, section 3.6.

    A scale is three couplings with checkerboards, a squeeze, three couplings of channels, and the next scale on half of
    the channels, the other half being latent already; the last scale is four couplings with checkerboards. Conditioners
    are weight-normalised residual networks with skips, and each log-scale is bounded by a learned tanh.

    Args:
        shape: (C, H, W); H and W must be multiples of 2 ** levels.
        levels: scales, 1 at least.
        width: channels of the conditioners.
        blocks: residual blocks of each.
        checkerboards: couplings of each kind at a scale; the last one has one more.
        norm: what follows each coupling: "act", a learned shift and scale of each channel; "batch", the paper's
            running averages, with which the rows of a training batch depend on each other (see `BatchNorm`).
        lattice: how a checkerboard is conditioned on: "packed", the pixels of either colour as channels of a lattice of
            half the width; "full", the paper's masked convolution over the whole lattice, at twice the arithmetic.
        context_dim: K, the width of the context of a conditional density; 0 for none.
        seed: of the initial weights; torch's global generator when None.

    Returns:
        A `Flow` over (C, H, W), of numbers on the whole line: see `ImageDensity` for bytes.

    Raises:
        ValueError: an argument is out of range, or H or W cannot be halved that often; a shape that can is named.

    Example:
        >>> real_nvp_image((1, 8, 8), width=8, blocks=1).sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    image = check_levels(shape, check_size("levels", levels))
    for name, value, known in (("norm", norm, ("act", "batch")), ("lattice", lattice, ("packed", "full"))):
        if value not in known:
            raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
    check_size("checkerboards", checkerboards)
    net = partial(
        ResidualConvNet, width=check_size("width", width), blocks=check_size("blocks", blocks),
        context_dim=check_size("context_dim", context_dim), generator=generator_of(seed),
    )  # fmt: skip

    def coupling(channels: int, flip: bool) -> Coupling:
        moved = channels // 2
        return Coupling(LearnedBound(net(channels - moved, 2 * moved), moved), Affine(), flip)

    def checkerboard(channels: int, flip: bool) -> Bijection:
        if lattice == "packed":
            return Within(Checkerboard(), coupling(2 * channels, flip))
        return LatticeCoupling(LearnedBound(net(channels, 2 * channels), channels), Affine(), flip)

    def normalised(channels: int, layer: Bijection) -> list[Bijection]:
        return [layer, ActNorm(channels) if norm == "act" else BatchNorm(channels)]

    def scale(channels: int, left: int) -> Chain:
        count = checkerboards + (_LAST_CHECKERBOARDS if left == 1 else 0)
        layers = [part for i in range(count) for part in normalised(channels, checkerboard(channels, i % 2 == 1))]
        if left > 1:
            squeezed = 4 * channels
            inner = [
                part for i in range(checkerboards) for part in normalised(squeezed, coupling(squeezed, i % 2 == 1))
            ]
            layers.append(Within(Squeeze(), Chain(*inner, OnHalf(scale(squeezed // 2, left - 1)))))
        return Chain(*layers)

    return Flow(Chain(ActNorm(image[0]), scale(image[0], levels)), image, context_dim=context_dim)


@recipe(register=IMAGE_RECIPES)
def glow(
    shape: Sequence[int],
    *,
    levels: int = 2,
    depth: int = 8,
    width: int = 64,
    context_dim: int = 0,
    seed: int | None = None,
) -> Flow:
    """Glow: at each scale a squeeze and steps of normalisation, 1 x 1 convolution and coupling (Kingma, Dhariwal 2018).

    Each scale but the last leaves half of its channels as latent. Conditioners are two hidden convolutional layers.

    Args:
        shape: (C, H, W); H and W must be multiples of 2 ** levels.
        levels: scales, 1 at least.
        depth: steps of each scale.
        width: channels of the conditioners.
        context_dim: K, the width of the context of a conditional density; 0 for none.
        seed: of the initial weights; torch's global generator when None.

    Returns:
        A `Flow` over (C, H, W), of numbers on the whole line: see `ImageDensity` for bytes.

    Raises:
        ValueError: as `real_nvp_image`.

    Example:
        >>> glow((3, 8, 8), depth=2, width=8).sample(2).shape
        torch.Size([2, 3, 8, 8])
    """
    image = check_levels(shape, check_size("levels", levels))
    check_size("depth", depth)
    net = partial(
        ConvNet, width=check_size("width", width), context_dim=check_size("context_dim", context_dim),
        generator=generator_of(seed),
    )  # fmt: skip

    def scale(channels: int, left: int) -> Within:
        squeezed = 4 * channels
        layers = _glow_steps(squeezed, depth, net, Affine(), net.keywords["generator"])
        if left > 1:
            layers.append(OnHalf(scale(squeezed // 2, left - 1)))
        return Within(Squeeze(), Chain(*layers))

    return Flow(scale(image[0], levels), image, context_dim=context_dim)


@recipe(register=IMAGE_RECIPES)
def patch_flow(
    shape: Sequence[int],
    *,
    depths: Sequence[int] = (12, 6),
    widths: Sequence[int] = (32, 48),
    bins: int = 0,
    mixing: str = "conv",
    context_dim: int = 0,
    seed: int | None = None,
) -> Flow:
    """Couplings of small patches: many at 2 x 2 pixels, fewer at 4 x 4, with slim conditioners.

    Conditioners have a bias for each position; all channels go through all scales. With splines, and splits of the
    pixels of a patch in place of Glow's 1 x 1 convolutions, it is what `fit_images` takes on a GPU and for large
    images: a spline can then follow the steps between the bytes of a pixel, which a mixture of pixels hides.

    Args:
        shape: (C, H, W); H and W must be multiples of 2 ** levels, of which there are as many as `depths`.
        depths: couplings of each scale, the finest first.
        widths: channels of the conditioners of each scale.
        bins: of the splines that couplings move numbers by, at least 2; 0 for affine maps, as in Glow.
        mixing: "conv", a learned `InvertibleConv` before each coupling; or "split", pairs of couplings that move either
            half of a patch, by checkerboards, rows and columns in turn.
        context_dim: K, the width of the context of a conditional density; 0 for none.
        seed: of the initial weights; torch's global generator when None.

    Returns:
        A `Flow` over (C, H, W), of numbers on the whole line: see `ImageDensity` for bytes.

    Raises:
        ValueError: as `real_nvp_image`; depths and widths are no lists, or not as many; mixing is another word.

    Example:
        >>> patch_flow((1, 8, 8), depths=[2, 1], widths=[8, 8]).sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    check_sizes("depths", depths)
    check_sizes("widths", widths)
    if len(depths) != len(widths):
        raise ValueError(f"expected a width for each of the {len(depths)} scales, got {list(widths)}")
    image = check_levels(shape, check_size("levels", len(depths)))
    elementwise = RationalQuadratic(bins, _PATCH_BOUND) if check_size("bins", bins) else Affine(_PATCH_CLAMP)
    if mixing not in ("conv", "split"):
        raise ValueError(f"mixing must be conv or split, got {mixing!r}")
    generator = generator_of(seed)
    channels, height, width = image
    check_size("context_dim", context_dim)

    def scale(level: int) -> Within:
        squeezed, side = channels * 4**level, 2**level
        net = partial(
            ConvNet, width=widths[level - 1], positions=(height // side, width // side), context_dim=context_dim,
            generator=generator,
        )  # fmt: skip
        if mixing == "conv":
            layers = _glow_steps(squeezed, depths[level - 1], net, elementwise, generator)
        else:
            layers = _split_steps(squeezed, depths[level - 1], net, elementwise, level)
        if level < len(depths):
            layers.append(scale(level + 1))
        return Within(Squeeze(), Chain(*layers))

    return Flow(scale(1), image, context_dim=context_dim)


def check_levels(shape: Sequence[int], levels: int) -> Shape:
    """The shape (C, H, W) of images that can be halved so often.

    Raises:
        ValueError: it is no such shape, or H or W is no multiple of 2 ** levels; the next that is one is named.

    Example:
        >>> check_levels([1, 28, 28], 2)
        (1, 28, 28)
    """
    channels, height, width = check_shape(shape)
    padded = padded_size((height, width), levels)
    if padded != (height, width):
        times = {1: "once", 2: "twice"}.get(levels, f"{levels} times")
        fewer = ", or take fewer levels" if levels > 1 else ""
        raise ValueError(
            f"images of {size_text((height, width))} cannot be halved {times}; {size_text(padded)} can: pad them, as "
            f"by pad=True{fewer}"
        )
    return channels, height, width


def check_shape(shape: Sequence[int]) -> Shape:
    """The shape (C, H, W) of images.

    Raises:
        ValueError: it is none.
    """
    sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
    if len(sizes) != 3 or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(f"the shape of images must be (C, H, W), each at least 1, got {shape!r}")
    channels, height, width = sizes
    return channels, height, width


def padded_size(size: tuple[int, int], levels: int) -> tuple[int, int]:
    """The smallest (H, W), not below those given, that can be halved so often.

    Example:
        >>> padded_size((28, 28), 3)
        (32, 32)
    """
    unit = 2**levels
    return -(-size[0] // unit) * unit, -(-size[1] // unit) * unit


def _glow_steps(
    channels: int,
    depth: int,
    net: Callable[[int, int], ConvNet],
    elementwise: Elementwise,
    generator: torch.Generator | None,
) -> list[Bijection]:
    """The layers of so many steps of Glow, whose couplings take turns in which half they move."""
    layers: list[Bijection] = []
    for i in range(depth):
        given = channels // 2
        coupling = Coupling(net(given, elementwise.num_params * (channels - given)), elementwise, flip=i % 2 == 1)
        layers += [ActNorm(channels), InvertibleConv(channels, generator), coupling]
    return layers


def _split_steps(
    channels: int, depth: int, net: Callable[[int, int], ConvNet], elementwise: Elementwise, levels: int
) -> list[Bijection]:
    """Pairs of couplings after so many squeezes; the two of a pair move either half of a split of the channels.

    The channels come and leave in the order of the squeezes.
    """
    layers: list[Bijection] = []
    order = natural = list(range(channels))
    half = channels // 2
    for i in range(depth):
        if i % 2 == 0:
            split = _split(channels, levels, i // 2)
            layers.append(Permute([order.index(channel) for channel in split]))
            order = split
        layers += [ActNorm(channels), Coupling(net(half, elementwise.num_params * half), elementwise, flip=i % 2 == 1)]
    return [*layers, Permute([order.index(channel) for channel in natural])]


def _split(channels: int, levels: int, number: int) -> list[int]:
    """An order of the channels after so many squeezes: one half of the pixels of each patch, then the other.

    The halves are the two colours of checkerboards, of the largest squares first and of single pixels last, then
    alternate columns and rows of them. In every second split some channels of the image have the halves the other way
    round: those with a bit of their number set, each bit in turn, so that any two channels of a pixel are once apart.
    """
    masks = [kind * 4**level for kind in (3, 1, 2) for level in range(levels)]  # the bits of a pixel that are added
    mask, pixels = masks[number % len(masks)], 4**levels
    bits = max(1, (channels // pixels - 1).bit_length())
    turned = 1 << (number // 2 % bits) if number % 2 else 0  # the bit of the image's channel that is added

    def half(channel: int) -> int:
        of_image, pixel = divmod(channel, pixels)
        return ((pixel & mask).bit_count() + (of_image & turned).bit_count()) % 2

    return sorted(range(channels), key=half)
