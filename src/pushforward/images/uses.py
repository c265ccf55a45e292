"""What a density of images is for beside scores: interpolation, scales, inpainting, nearest images, typicality."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_generator
from ..bijections import Bijection, Chain, OnChannels, OnHalf, Within
from ..density import Density
from ..flow import Flow
from .density import ImageDensity
from .noise import uniforms
from .space import as_tensor

_DISTANCES = 2**24  # pixels that are compared at a time


def flow_of(density: ImageDensity) -> Flow:
    """The flow that a density of images is made of.

    Raises:
        ValueError: it is made of something else.
    """
    inner = getattr(density, "inner", density)
    if not isinstance(inner, Flow):
        raise ValueError(
            f"this needs a latent space: a density of images with one flow inside, got {type(inner).__name__}"
        )
    return inner


@torch.no_grad()
def interpolate(density: ImageDensity, corners: Any, steps: int = 8, context: Any = None) -> Tensor:
    """Images between four, on the manifold of Dinh et al. 2016, equation 19: -> (steps, steps, *row_shape).

    z = cos(f) (cos(g) z1 + sin(g) z2) + sin(f) (cos(g) z3 + sin(g) z4), with f, down, and g, across, from 0 to pi / 2:
    the four images are the corners, and all points have about the norm of typical latents.

    Args:
        density: with a flow inside.
        corners: four images: above left, above right, below left, below right.
        steps: of each side, at least 2.
        context: the class of all, or one for each corner, of which then the nearest corner's is taken.

    Raises:
        ValueError: there are other than four, or less than two steps.
    """
    flow, space = flow_of(density), density.space
    images = space.planes(corners)
    if len(images) != 4 or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"expected 4 images and at least 2 steps, got {len(images)} and {steps!r}")
    z = density.latent(corners, context)
    assert z is not None  # a flow has a latent space
    angle = torch.linspace(0, math.pi / 2, steps, dtype=z.dtype, device=z.device)
    near, far = angle.cos(), angle.sin()
    shares = torch.stack([near[:, None] * near, near[:, None] * far, far[:, None] * near, far[:, None] * far], -1)
    points = (shares.view(-1, 4) @ z.flatten(1)).view(-1, *flow.shape)
    rows, _ = space.contexts(context)
    if rows is not None:
        rows = rows.expand(4, -1)[shares.view(-1, 4).argmax(1).to(rows.device)]
    drawn = density.to_bytes(flow.g(points, density.encode_contexts(rows)))
    return density.as_rows(drawn).view(steps, steps, *space.row_shape)


@torch.no_grad()
def redraw_scales(
    density: ImageDensity, images: Any, context: Any = None, *, generator: torch.Generator | int | None = None
) -> Tensor:
    """Images of which the finer scales are drawn anew: N images, S scales -> (S + 1, N, *row_shape).

    The first are the images themselves, the next have the latents of the finest scale drawn, ..., the last all of them:
    they show what each scale holds (Dinh et al. 2016, figure 14).

    Args:
        density: with a flow inside that leaves channels as latent at several scales.
        images: N of them.
        context: as of `ImageDensity.log_prob`.
        generator: the source of randomness, or a seed.

    Raises:
        ValueError: all latents are of one scale.
    """
    flow = flow_of(density)
    scales = latent_scales(flow.bijection, flow.shape)
    count = int(scales.max()) + 1
    if count < 2:
        raise ValueError(
            "all latents of this flow are of one scale, as those of patch_flow are: take another recipe, and two levels"
        )
    z = density.latent(images, context)
    assert z is not None  # a flow has a latent space
    noise = flow.base.sample(len(z), generator=as_generator(generator, z.device))
    encoded = density.contexts_of(len(z), context)
    parts = []
    for drawn in range(count + 1):
        mixed = torch.where(scales.to(z.device) < drawn, noise, z)
        parts.append(density.as_rows(density.to_bytes(flow.g(mixed, encoded))))
    return torch.stack(parts)


def latent_scales(bijection: Bijection, shape: tuple[int, ...]) -> Tensor:
    """The scale of each latent (C, H, W), 0 the finest, by which it leaves the flow.

    Example:
        >>> from pushforward import ActNorm
        >>> latent_scales(OnHalf(ActNorm(1)), (2, 1, 1)).flatten()
        tensor([0, 1])
    """
    return _scales(bijection, torch.zeros(1, *shape))[0].long()


def _scales(bijection: Bijection, scales: Tensor) -> Tensor:
    """The scales (1, C, H, W) of the latents, of which those so far are given, as numbers that may be rearranged."""
    if isinstance(bijection, Chain):
        for layer in bijection.bijections:
            scales = _scales(layer, scales)  # type: ignore[arg-type]
    elif isinstance(bijection, Within):
        scales = bijection.rearrangement.inverse(_scales(bijection.inner, bijection.rearrangement.forward(scales)))
    elif isinstance(bijection, OnChannels):
        part = scales.index_select(1, bijection.channels)
        leaves_some = part.shape[1] < scales.shape[1]  # else it is the same scale, in another order of channels
        scales = scales.index_copy(1, bijection.channels, _scales(bijection.inner, part + leaves_some))
    elif isinstance(bijection, OnHalf):
        first, second = scales.tensor_split([scales.shape[1] // 2], 1)
        scales = torch.cat([first, _scales(bijection.inner, second + 1)], 1)
    return scales


@torch.inference_mode(False)
@torch.enable_grad()
def inpaint(
    density: ImageDensity, images: Any, known: Tensor, context: Any = None, *, steps: int = 200, lr: float = 0.05,
    tolerance: float = 0.1, generator: torch.Generator | int | None = None,
) -> Tensor:  # fmt: skip
    """Fills in pixels by gradient steps: N images -> N images.

    Steps of Adam raise log p(z) - |y(z) - y|^2 / (2 tolerance^2), the latter over known pixels, y being the numbers of
    bytes; then known pixels are put back. With a flow inside z is latent, drawn from the base at first. With another
    density inside z is y itself, drawn from that density. The result is a likely image, not a draw given the known
    pixels.

    Args:
        density: whose inner density has gradients.
        images: N of them; what is not known is not looked at.
        known: True for pixels to keep, (H, W), or (N, H, W).
        context: as of `ImageDensity.log_prob`.
        steps: of the optimizer, at least 1.
        lr: its rate, positive.
        tolerance: how far known numbers may be missed, of which most lie within 3; positive.
        generator: the source of the first z, or a seed.

    Raises:
        ValueError: the mask has another shape, or an argument is out of range.
    """
    if not isinstance(density, ImageDensity):
        raise ValueError(f"expected a density of images by itself, got a {type(density).__name__}")
    if not isinstance(steps, int) or steps < 1 or not lr > 0 or not tolerance > 0:
        raise ValueError(
            f"expected at least 1 step, a rate and a tolerance above 0, got {steps!r}, {lr!r} and {tolerance!r}"
        )
    planes = density.space.planes(images)
    mask = torch.as_tensor(known, dtype=torch.bool, device=planes.device)
    if mask.shape not in (planes.shape[2:], (len(planes), *planes.shape[2:])):
        raise ValueError(f"expected a mask of shape {tuple(planes.shape[2:])} or one for each image, got {mask.shape}")
    mask = mask.expand(len(planes), *planes.shape[2:])[:, None].expand_as(planes)
    padded = density.pad(torch.where(mask, planes, 0))
    encoded = density.contexts_of(len(planes), context)
    wanted = density.to_numbers(padded, uniforms(padded, 0), encoded)[0].detach()
    kept = density.pad(mask.to(torch.uint8)).bool().to(wanted.device)
    z, as_numbers, log_prob = _start(density.inner, len(planes), encoded, as_generator(generator, wanted.device))
    z.requires_grad_()
    optimizer = torch.optim.Adam([z], lr=lr)
    for _ in range(steps):
        missed = ((as_numbers(z).view(wanted.shape) - wanted) * kept).flatten(1).square().sum(1)
        loss = (missed / (2 * tolerance**2) - log_prob(z)).sum()
        (z.grad,) = torch.autograd.grad(loss, z)
        optimizer.step()
    with torch.no_grad():
        filled = density.to_bytes(as_numbers(z)).to(planes.device)
    return density.as_rows(torch.where(mask, planes, filled))


@torch.no_grad()
def _start(
    inner: Density, count: int, context: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Where `inpaint` begins: z of so many images, what makes numbers of z, and log p(z)."""
    if isinstance(inner, Flow):
        return inner.base.sample(count, generator=generator), lambda z: inner.g(z, context), inner.base.log_prob
    drawn = inner.sample(count if context is None else 1, context, generator=generator)
    return inner.space.flatten_samples(drawn), lambda y: y, lambda y: inner.log_prob(y, context)


def nearest(images: Any, train: Any, count: int = 1) -> tuple[Tensor, Tensor]:
    """The nearest training images: N images, M training images -> their numbers and distances (N, count).

    Distances are root mean squares of the differences of bytes. Copies of training images have 0.

    Raises:
        ValueError: the images have other shapes, or there are fewer than `count`.

    Example:
        >>> train = torch.tensor([[[0, 0]], [[9, 9]]], dtype=torch.uint8)
        >>> nearest(train[1:] - 1, train)
        (tensor([[1]]), tensor([[1.]]))
    """
    a, b = (part if isinstance(part, Tensor) else as_tensor(np.asarray(part)) for part in (images, train))
    if a.dtype != torch.uint8 or b.dtype != torch.uint8:
        raise ValueError(f"expected images of uint8, as sample gives them, got {a.dtype} and {b.dtype}")
    if a.shape[1:] != b.shape[1:] or a.ndim < 2 or not isinstance(count, int) or not 1 <= count <= len(b):
        raise ValueError(
            f"expected images of one shape and 1 to {len(b)} neighbours, got {a.shape}, {b.shape}, {count!r}"
        )
    dimensions = math.prod(a.shape[1:])
    flat = a.flatten(1).float()
    parts = [
        torch.cdist(flat, part.flatten(1).float(), compute_mode="donot_use_mm_for_euclid_dist")
        for part in b.split(max(1, _DISTANCES // dimensions))
    ]
    distances, index = torch.cat(parts, 1).topk(count, 1, largest=False)
    return index, distances / math.sqrt(dimensions)


def typicality(log_prob: Any, reference: Any) -> Tensor:
    """How typical log-masses are: (N,), those of M images held out (M,) -> p-values (N,).

    The share of the held-out images, itself counted, whose log-mass is as far from their median or farther. A density
    may give foreign images a higher likelihood than its own (Nalisnick et al. 2019, arXiv 1810.09136): these are too
    likely, which the likelihood alone does not tell. Of NaN it is NaN.

    Raises:
        ValueError: there are no log-masses of images held out, or some of those are NaN.

    Example:
        >>> typicality(torch.tensor([0.0, 90.0]), torch.arange(-49.0, 50.0))
        tensor([1.0000, 0.0100])
    """
    log_prob, reference = (
        part if part.is_floating_point() else part.double() for part in map(torch.as_tensor, (log_prob, reference))
    )
    if reference.ndim != 1 or not len(reference) or bool(reference.isnan().any()):
        raise ValueError(f"expected log-masses (M,) of images held out, none NaN, got shape {tuple(reference.shape)}")
    ordered = reference.sort().values
    centre = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    far = (reference - centre).abs().sort().values
    beyond = len(far) - torch.searchsorted(far, (log_prob - centre).abs().contiguous())
    shares = (beyond + 1).to(reference.dtype).clamp(max=len(far) + 1) / (len(far) + 1)
    return shares.masked_fill(log_prob.isnan(), math.nan)
