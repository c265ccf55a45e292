"""Convolutional conditioners of images, to be handed to a coupling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nets import checked_context

_SLOPE = 7.0  # of a `LearnedSigmoids` at the start, measured on MNIST


class LearnedSigmoids(nn.Module):
    """Each number as T sigmoids of it, 2 sigmoid(exp(a) (h - t)) - m, with learned thresholds t and slopes.

    m is fixed; with it, standard normal numbers give a mean of about 0 at the start. As the first layer of a
    conditioner of pixels, sigmoids tell bytes from the noise within them: a byte that most images have at a pixel is a
    wide interval of numbers there, all of which mean the same. `fit_images` puts thresholds between bytes.

    Args:
        shape: (C, *S) of one h, of whose elements each has thresholds and slopes of its own.
        count: T, at least 1; the thresholds begin at quantiles of the standard normal.
        slope: exp(a) at the start, positive.

    Raises:
        ValueError: an argument is out of range; in use, when h has another shape.

    Example:
        >>> LearnedSigmoids((1, 2, 2), count=3)(torch.zeros(1, 1, 2, 2)).shape
        torch.Size([1, 3, 2, 2])
    """

    means: Tensor

    def __init__(self, shape: Sequence[int], count: int = 4, slope: float = _SLOPE) -> None:
        super().__init__()
        if count < 1 or not slope > 0:
            raise ValueError(f"expected a count of at least 1 and a slope above 0, got {count} and {slope}")
        ones = torch.ones(count, *shape)
        self.thresholds = nn.Parameter(ones.clone())
        self.log_slopes = nn.Parameter(ones * math.log(slope))
        self.register_buffer("means", ones)
        self.place(torch.special.ndtri((torch.arange(count) + 0.5) / count).view(-1, *[1] * len(shape)))

    @torch.no_grad()
    def place(self, thresholds: Tensor) -> None:
        """Takes thresholds (T, C, *S), and what is subtracted accordingly: 2 Phi(-t), Phi being the normal's."""
        self.thresholds.copy_(thresholds)
        self.means.copy_(2 * torch.special.ndtr(-self.thresholds))

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, *S) -> (B, T C, *S)."""
        if h.shape[1:] != self.thresholds.shape[1:]:
            raise ValueError(f"expected rows of shape {tuple(self.thresholds.shape[1:])}, got {tuple(h.shape[1:])}")
        above = torch.sigmoid((h[:, None] - self.thresholds) * self.log_slopes.exp())
        return (2 * above - self.means).flatten(1, 2)


class ConvNet(nn.Module):
    """A small convolutional conditioner: by default 3 x 3, 1 x 1 and 3 x 3 convolutions with ReLU between, as in Glow.

    Each layer may have a bias for each position of the lattice, by which it tells the middle of an image from its rim.
    The last layer starts at zero: a coupling is the identity then.

    Args:
        channels_in: C_in, at least 1.
        channels_out: C_out, at least 1.
        width: channels of the hidden layers.
        positions: (H, W) of the lattice, for biases (C, H, W); None for one bias a channel and lattices of any size.
        sizes: of the square kernels of each layer, odd numbers.
        sigmoids: T, for an input that passes `LearnedSigmoids` first, which needs positions; 0 takes it as it is.
        context_dim: K, the width of the context, which is added to all hidden layers by linear maps; 0 ignores any.
        generator: the source of the initial weights; torch's global one when None.

    Raises:
        ValueError: a size is out of range; sigmoids without positions; in use, when h is no such lattice.

    Example:
        >>> ConvNet(2, 4, width=8, positions=(3, 5))(torch.zeros(1, 2, 3, 5)).shape
        torch.Size([1, 4, 3, 5])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 32,
        positions: tuple[int, int] | None = None,
        sizes: Sequence[int] = (3, 1, 3),
        sigmoids: int = 0,
        context_dim: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_conv(channels_in, channels_out, width, context_dim)
        if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"sizes of kernels must be odd numbers, one for each layer, got {sizes}")
        if sigmoids and positions is None:
            raise ValueError("sigmoids= needs the positions of the lattice")
        self.context_dim = context_dim
        self.sigmoids = LearnedSigmoids((channels_in, *positions), sigmoids) if sigmoids and positions else None
        inputs = channels_in * max(sigmoids, 1)
        channels = [inputs, *[width] * (len(sizes) - 1), channels_out]
        shapes = [(after, before, k, k) for before, after, k in zip(channels, channels[1:], sizes, strict=False)]
        self.weights = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(shape[0], *(positions or (1, 1))) for shape in shapes)
        self.of_context = nn.ParameterList(torch.empty(width, context_dim) for _ in sizes[1:] if context_dim)
        with torch.no_grad():
            for weight in (*list(self.weights)[:-1], *self.of_context):
                _uniform(weight, generator)
            self.weights[-1].zero_()

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C_in, H, W), context (B, K) -> (B, C_out, H, W).

        Raises:
            ValueError: the network was built with a context and none came, or one of another width.
        """
        context = checked_context(context, self.context_dim)
        last = len(self.weights) - 1
        if self.sigmoids is not None:
            h = self.sigmoids(h)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = F.conv2d(h, weight, padding=weight.shape[-1] // 2) + bias
            if i < last:
                if context is not None:
                    h = h + F.linear(context, self.of_context[i])[:, :, None, None]
                h = F.relu(h)
        return h


class WeightNormConv(nn.Module):
    """A convolution whose kernels are a direction times a learned length (Salimans and Kingma 2016, arXiv 1602.07868).

    Args:
        channels_in: C_in.
        channels_out: C_out.
        size: 1 or 3, of the kernel.
        zero: whether the lengths start at 0; else at 1.
        generator: the source of the initial weights.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int,
        *,
        zero: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(channels_out, channels_in, size, size))
        self.length = nn.Parameter(torch.zeros(channels_out) if zero else torch.ones(channels_out))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        with torch.no_grad():
            _uniform(self.direction, generator)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C_in, H, W) -> (B, C_out, H, W)."""
        norm = (self.direction.square().sum((1, 2, 3)) + 1e-12).rsqrt()
        weight = self.direction * (self.length * norm)[:, None, None, None]
        return F.conv2d(h, weight, self.bias, padding=weight.shape[-1] // 2)


class ResidualConvNet(nn.Module):
    """The conditioner of the Real NVP paper: pre-activation residual blocks with skips, weight-normalised.

    Each block adds conv(relu(conv(relu(h)))) to h, and a 1 x 1 convolution of h to the sum from which the output is
    read (Dinh et al. 2016, section 4.1, and their code). The paper also normalises the blocks by batches, which would
    make rows depend on each other; we do not. The last layer starts at zero.

    Args:
        channels_in: C_in, at least 1.
        channels_out: C_out, at least 1.
        width: channels of the blocks.
        blocks: how many; the paper takes 4 for images of 64 x 64 and 8 for 32 x 32.
        context_dim: K, the width of the context, which is added to the input of the first block; 0 ignores any.
        generator: the source of the initial weights; torch's global one when None.

    Raises:
        ValueError: a size is out of range.

    Example:
        >>> ResidualConvNet(2, 4, width=8, blocks=2)(torch.zeros(1, 2, 3, 5)).shape
        torch.Size([1, 4, 3, 5])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 64,
        blocks: int = 4,
        context_dim: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_conv(channels_in, channels_out, width, context_dim)
        if blocks < 0:
            raise ValueError(f"blocks must be at least 0, got {blocks}")
        self.context_dim = context_dim

        def conv(inputs: int, outputs: int, size: int, zero: bool = False) -> WeightNormConv:
            return WeightNormConv(inputs, outputs, size, zero=zero, generator=generator)

        self.first = conv(channels_in, width, 3)
        self.of_context = nn.Parameter(torch.empty(width, context_dim)) if context_dim else None
        if self.of_context is not None:
            with torch.no_grad():
                _uniform(self.of_context, generator)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), conv(width, width, 3), nn.ReLU(), conv(width, width, 3)) for _ in range(blocks)
        )
        self.skips = nn.ModuleList(conv(width, width, 1) for _ in range(blocks + 1))
        self.last = conv(width, channels_out, 1, zero=True)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C_in, H, W), context (B, K) -> (B, C_out, H, W).

        Raises:
            ValueError: the network was built with a context and none came, or one of another width.
        """
        context = checked_context(context, self.context_dim)
        h = self.first(h)
        if context is not None and self.of_context is not None:
            h = h + F.linear(context, self.of_context)[:, :, None, None]
        total = self.skips[0](h)
        for block, skip in zip(self.blocks, list(self.skips)[1:], strict=True):
            h = h + block(h)
            total = total + skip(h)
        return self.last(F.relu(total))


class LearnedBound(nn.Module):
    """A conditioner of affine couplings whose log-scale is bounded by a learned number a channel: s = a tanh(r).

    Of the output of a network, the first half of the channels are r and the second the shift (Dinh et al. 2016,
    section 4.1).

    Args:
        net: (h, context) -> (B, 2 C, *S).
        channels: C, that the coupling moves.

    Example:
        >>> LearnedBound(ConvNet(2, 4, width=8), 2)(torch.zeros(1, 2, 3, 5)).shape
        torch.Size([1, 4, 3, 5])
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.bound = nn.Parameter(torch.ones(channels))

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C_in, *S), context (B, K) -> the log-scales and the shifts (B, 2 C, *S)."""
        raw, shift = self.net(h, context).chunk(2, 1)
        return torch.cat([self.bound.view(-1, *[1] * (raw.ndim - 2)) * torch.tanh(raw), shift], 1)


def _check_conv(channels_in: int, channels_out: int, width: int, context_dim: int) -> None:
    """Checks the sizes of a convolutional network."""
    if channels_in < 1 or channels_out < 1 or width < 1 or context_dim < 0:
        raise ValueError(
            "expected channels_in, channels_out and width >= 1 and context_dim >= 0, got "
            f"{channels_in}, {channels_out}, {width}, {context_dim}"
        )


def _uniform(weight: Tensor, generator: torch.Generator | None) -> None:
    """Torch's own start of a layer with that weight (C_out, C_in, ...): U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1 / math.sqrt(max(math.prod(weight.shape[1:]), 1))
    weight.uniform_(-bound, bound, generator=generator)
