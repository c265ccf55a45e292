"""Conditioners: networks (h, context) -> parameters, to be handed to a coupling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .scale import HUGE_SPREAD, look_at_scale
from .switch import PLAIN

fast: Any = None
if not PLAIN:
    from ._fast.kernels import mlp as fast

ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class MLP(nn.Module):
    """A multilayer perceptron on vectors, with the context concatenated to its input.

    Args:
        features_in: C_in, the width of the input; 0 is allowed, the output is then a function of the context alone
            (or a learned constant).
        features_out: C_out, the width of the output.
        width: hidden units of each hidden layer.
        hidden_layers: number of hidden layers; 0 gives a linear map.
        activation: one of relu, leaky_relu, elu, gelu, silu, tanh. ReLU learns fastest in affine couplings (measured).
        residual: add each hidden layer's input to its output, from the second hidden layer on.
        context_dim: K, the width of the context; 0 means that any context is ignored.
        generator: the source of the initial weights; torch's global one when None.

    Raises:
        ValueError: a size is out of range, or the activation is unknown.

    Example:
        >>> MLP(1, 4, width=8)(torch.zeros(5, 1)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        width: int = 64,
        hidden_layers: int = 2,
        activation: str = "relu",
        residual: bool = False,
        context_dim: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        given = [features_in, features_out, hidden_layers, context_dim]
        if not all(isinstance(size, int) and size >= 0 for size in given) or not isinstance(width, int) or width < 1:
            raise ValueError(
                "expected whole numbers width >= 1 and features_in, features_out, hidden_layers, context_dim >= 0, got "
                f"{', '.join(map(repr, [width, *given]))}"
            )
        self.activation = activation
        self.residual = residual
        self.context_dim = context_dim
        sizes = [features_in + context_dim] + [width] * hidden_layers + [features_out]
        self.weights = nn.ParameterList(torch.empty(o, i) for i, o in itertools.pairwise(sizes))
        self.biases = nn.ParameterList(torch.empty(o) for o in sizes[1:])
        self._reset(generator)

    @torch.no_grad()
    def _reset(self, generator: torch.Generator | None) -> None:
        # torch's own start of nn.Linear, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), for the last layer, too: were it zero, no
        # layer before it would have a gradient at first, and it learns slower. With C = 1 a layer may have no inputs.
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(max(weight.shape[1], 1))
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C_in), context (B, K) -> (B, C_out).

        Raises:
            ValueError: the network was built with a context and none came, or one of another width.
        """
        context = _checked_context(context, self.context_dim)
        if context is not None:
            h = torch.cat([h, context], 1)
        if fast and fast.fast_ok():
            return fast.apply(self, h)
        *hidden, (weight, bias) = zip(self.weights, self.biases, strict=True)
        return F.linear(self.hidden(h, hidden), weight, bias)

    def hidden(self, h: Tensor, layers: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """All layers but the last, of weight and bias: h (B, C_in + K) -> (B, width)."""
        for i, (weight, bias) in enumerate(layers):
            out = self.activate(F.linear(h, weight, bias))
            h = out + h if self.residual and i > 0 else out
        return h

    def activate(self, h: Tensor) -> Tensor:
        """The activation, element by element."""
        return ACTIVATIONS[self.activation](h)


class StandardizeContext(nn.Module):
    """Shifts and scales a context to mean 0 and standard deviation 1, as measured on the training rows.

    It is the identity until `initialize` saw data, and warns once where training contexts are far from unit scale. A
    constant column, of which no training row tells what it does, becomes 0 whatever it holds.

    Args:
        context_dim: K, the width of the context.

    Example:
        >>> embed = StandardizeContext(1)
        >>> embed.initialize(torch.tensor([[1.0], [3.0]]))
        >>> embed(torch.tensor([[3.0]]))
        tensor([[1.]])
    """

    mean: Tensor
    std: Tensor
    initialized: Tensor

    def __init__(self, context_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(context_dim))
        self.register_buffer("std", torch.ones(context_dim))
        self.register_buffer("initialized", torch.tensor(False))

    @torch.no_grad()
    def initialize(self, context: Tensor) -> None:
        """Takes mean and standard deviation from context (B, K), once."""
        if self.initialized:
            return
        values = context.double()
        is_constant = (values == values[0]).all(0)
        self.mean.copy_(values.mean(0))
        self.std.copy_(torch.where(is_constant, HUGE_SPREAD, values.std(0, correction=0)))
        self.initialized.fill_(True)

    def forward(self, context: Tensor) -> Tensor:
        """context (B, K) -> (B, K)."""
        look_at_scale(self, context, "contexts")
        return (context - self.mean) / self.std


class ConvNet(nn.Module):
    """A small convolutional conditioner: 3 x 3, 1 x 1 and 3 x 3 convolutions with ReLU between them, as in Glow.

    Each layer may have a bias for each position of the lattice, by which it tells the middle of an image from its rim.
    The last layer starts at zero: a coupling is the identity then.

    Args:
        channels_in: C_in, at least 1.
        channels_out: C_out, at least 1.
        width: channels of the hidden layers.
        positions: (H, W) of the lattice, for biases (C, H, W); None for one bias a channel and lattices of any size.
        context_dim: K, the width of the context, which is added to both hidden layers by linear maps; 0 ignores any.
        generator: the source of the initial weights; torch's global one when None.

    Raises:
        ValueError: a size is out of range.

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
        context_dim: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_conv(channels_in, channels_out, width, context_dim)
        self.context_dim = context_dim
        shapes = [(width, channels_in, 3, 3), (width, width, 1, 1), (channels_out, width, 3, 3)]
        self.weights = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(shape[0], *(positions or (1, 1))) for shape in shapes)
        self.of_context = nn.ParameterList(torch.empty(width, context_dim) for _ in range(2 if context_dim else 0))
        with torch.no_grad():
            for weight in (*list(self.weights)[:-1], *self.of_context):
                _uniform(weight, generator)
            self.weights[-1].zero_()

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C_in, H, W), context (B, K) -> (B, C_out, H, W).

        Raises:
            ValueError: the network was built with a context and none came, or one of another width.
        """
        context = _checked_context(context, self.context_dim)
        last = len(self.weights) - 1
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
        context = _checked_context(context, self.context_dim)
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


def _checked_context(context: Tensor | None, width: int) -> Tensor | None:
    """The context (B, K) of a network that takes one of that width; None where it takes none."""
    if width == 0:
        return None
    if context is None or context.shape[-1] != width:
        got = "none" if context is None else f"shape {tuple(context.shape)}"
        raise ValueError(f"expected a context of shape (..., {width}), got {got}")
    return context


def _uniform(weight: Tensor, generator: torch.Generator | None) -> None:
    """Torch's own start of a layer with that weight (C_out, C_in, ...): U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1 / math.sqrt(max(math.prod(weight.shape[1:]), 1))
    weight.uniform_(-bound, bound, generator=generator)
