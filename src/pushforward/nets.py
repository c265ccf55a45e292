"""Conditioners: networks (h, context) -> parameters, to be handed to a layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .scale import HUGE_SPREAD, check_scale, look_at_scale
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
        h = self.joined(h, context)
        if fast and fast.fast_ok():
            return fast.apply(self, h)
        *hidden, (weight, bias) = self.layers()
        return F.linear(self.hidden(h, hidden), weight, bias)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight (out, in) and bias (out,) of each layer."""
        return list(zip(self.weights, self.biases, strict=True))

    def hidden(self, h: Tensor, layers: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """All layers but the last, of weight and bias: h (B, C_in + K) -> (B, width)."""
        for i, (weight, bias) in enumerate(layers):
            out = self.activate(F.linear(h, weight, bias))
            h = out + h if self.residual and i > 0 else out
        return h

    def joined(self, h: Tensor, context: Tensor | None) -> Tensor:
        """An input h (B, C_in) beside the context (B, K), if the network takes one: (B, C_in + K)."""
        context = checked_context(context, self.context_dim)
        return h if context is None else torch.cat([h, context], 1)

    def activate(self, h: Tensor) -> Tensor:
        """The activation, element by element."""
        return ACTIVATIONS[self.activation](h)


class MaskedMLP(MLP):
    """An `MLP` whose outputs for channel i depend on the inputs before i alone, and on the context.

    It is the masked autoencoder of Germain et al. 2015 (MADE, arXiv 1502.03509): weights are zero from a unit to those
    that must not see it. As many hidden units see the first input alone as the first two, and so on up to C - 1; with a
    context, as many see none but the context.

    Args:
        features_in: C, at least 1.
        features_out: P * C, in P blocks of C channels.
        width: hidden units of each hidden layer; with fewer than C, some channels see a few inputs less than they may.
        hidden_layers: number of hidden layers.
        activation: as in `MLP`.
        residual: as in `MLP`.
        context_dim: K, the width of the context, which all outputs see; 0 means that any context is ignored.
        generator: the source of the initial weights; torch's global one when None.

    Raises:
        ValueError: a size is out of range, `features_out` is no multiple of `features_in`, or the activation is
            unknown.

    Example:
        >>> net = MaskedMLP(3, 3)
        >>> (net(torch.tensor([[1.0, 2.0, 3.0]])) == net(torch.tensor([[1.0, 2.0, 9.0]]))).all()
        tensor(True)
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
        super().__init__(
            features_in, features_out, width=width, hidden_layers=hidden_layers, activation=activation,
            residual=residual, context_dim=context_dim, generator=generator,
        )  # fmt: skip
        if features_in < 1 or features_out % features_in:
            raise ValueError(
                f"features_out must be a multiple of features_in >= 1, got {features_out} and {features_in}"
            )
        self.features_in, self.features_out = features_in, features_out
        first = 0 if context_dim or features_in == 1 else 1
        most = max(features_in - 1, first)
        # How many inputs a unit sees: an input itself and those before it, an output those before its channel.
        inputs = torch.cat([torch.arange(1, features_in + 1), torch.zeros(context_dim, dtype=torch.long)])
        self.hidden_see = first + torch.arange(width) * (most - first + 1) // width  # in order
        if width <= most - first:  # fewer units than numbers of inputs: evenly spaced, with both ends
            self.hidden_see = torch.linspace(first, most, width).round().long()
        outputs = torch.arange(features_in).repeat(features_out // features_in)
        seen = [inputs, *[self.hidden_see] * hidden_layers, outputs]
        for i, (before, after) in enumerate(itertools.pairwise(seen)):
            self.register_buffer(f"mask_{i}", (after[:, None] >= before).to(self.weights[0].dtype), persistent=False)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight (out, in), zero where a unit must not see another, and bias (out,) of each layer."""
        masks = (getattr(self, f"mask_{i}") for i in range(len(self.weights)))
        return [(w * mask, b) for w, b, mask in zip(self.weights, self.biases, masks, strict=True)]


class StandardizeContext(nn.Module):
    """Shifts and scales a context to mean 0 and standard deviation 1, as measured on the training rows.

    Contexts in float64 are shifted and scaled in float64, and leave in the module's dtype, as rows of `Standardize` do.
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

    takes_float64 = is_fixed = True
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
        std = values.std(0, correction=0)
        check_scale(values.mean(0), std, self.std.dtype, "the context")
        self.mean.copy_(values.mean(0))
        self.std.copy_(torch.where(is_constant, HUGE_SPREAD, std))
        self.initialized.fill_(True)

    def forward(self, context: Tensor) -> Tensor:
        """context (B, K) -> (B, K)."""
        look_at_scale(self, context, "contexts")
        return ((context - self.mean) / self.std).to(self.std.dtype)


def checked_context(context: Tensor | None, width: int) -> Tensor | None:
    """The context (B, K) of a network that takes one of that width; None where it takes none."""
    if width == 0:
        return None
    if context is None or context.shape[-1] != width:
        got = "none" if context is None else f"shape {tuple(context.shape)}"
        raise ValueError(f"expected a context of shape (..., {width}), got {got}")
    return context
