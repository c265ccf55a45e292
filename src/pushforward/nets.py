"""Conditioners: networks (h, context) -> parameters, to be handed to a coupling."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._fast.kernels.chunks import Scratch, scratch

ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


_LEAST_FUSED = 64  # inputs and outputs
_POINTWISE: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def fuses(weight: Tensor) -> bool:
    """Whether `product` serves: a matrix of float32, not small, on a CPU for which torch has oneDNN."""
    known = _POINTWISE is not None and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return known and weight.ndim == 2 and min(weight.shape) >= _LEAST_FUSED


def product(h: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(h weight^T + bias) in one pass over memory, of h (B, I) and weight (O, I) -> (B, O); no gradients.

    Bias and ReLU included, oneDNN takes 5 to 10 % less time than a plain product alone (measured, 512 to 4,096 rows).
    """
    return _POINTWISE(h, weight, bias, activation, [], "")


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
        transposed: write the output's columns, not its rows, along memory. The values are the same; maps with many
            parameters an element, such as `RationalQuadratic`, read them faster.
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
        transposed: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        if width < 1 or hidden_layers < 0 or features_in < 0 or features_out < 0 or context_dim < 0:
            raise ValueError(
                "expected width >= 1 and hidden_layers, features_in, features_out, context_dim >= 0, got "
                f"{width}, {hidden_layers}, {features_in}, {features_out}, {context_dim}"
            )
        self.activation = activation
        self.residual = residual
        self.context_dim = context_dim
        self.transposed = transposed
        sizes = [features_in + context_dim] + [width] * hidden_layers + [features_out]
        self.weights = nn.ParameterList(torch.empty(o, i) for i, o in itertools.pairwise(sizes))
        self.biases = nn.ParameterList(torch.empty(o) for o in sizes[1:])
        self._reset(generator)

    @torch.no_grad()
    def _reset(self, generator: torch.Generator | None) -> None:
        # torch's own start of nn.Linear, U(-1/sqrt(fan_in), 1/sqrt(fan_in)): a last layer at zero learns slower.
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(max(weight.shape[1], 1))
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C_in), context (B, K) -> (B, C_out).

        Raises:
            ValueError: the network was built with a context and none came, or one of another width.
        """
        if self.context_dim:
            if context is None or context.shape[-1] != self.context_dim:
                got = "none" if context is None else f"shape {tuple(context.shape)}"
                raise ValueError(f"expected a context of shape (..., {self.context_dim}), got {got}")
            h = torch.cat([h, context], 1)
        held = scratch()
        if held is not None and not _autocast(h.device.type):
            return self._in_buffers(h, held)
        activate = ACTIVATIONS[self.activation]
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i == last and self.transposed:
                return torch.addmm(bias[:, None], weight, h.t()).t()
            out = F.linear(h, weight, bias)
            if i < last:
                out = activate(out)
                out = out + h if self.residual and i > 0 else out
            h = out
        return h

    def _in_buffers(self, h: Tensor, held: Scratch) -> Tensor:
        """As `forward`, with hidden layers in memory that is used again, and the output always transposed."""
        activate = ACTIVATIONS[self.activation]
        hidden, (last_weight, last_bias) = held.once(self._hidden_and_last)
        fused = self.activation == "relu" and not self.residual
        for i, (weight, bias) in enumerate(hidden):
            h = _as_dtype(h, weight, held)
            if fused and fuses(weight):
                h = product(h, weight.t(), bias, "relu")
                continue
            out = held.buffer(i % 2, len(h), weight.shape[1], weight)
            if len(weight) == 1:  # an outer product, which a product of matrices would take twice the time for
                torch.addcmul(bias, h, weight, out=out)
            else:
                torch.addmm(bias, h, weight, out=out)
            out = out.relu_() if self.activation == "relu" else activate(out)
            h = out.add_(h) if self.residual and i > 0 else out
        return torch.addmm(last_bias, last_weight, _as_dtype(h, last_weight, held).t()).t()

    def _hidden_and_last(self) -> tuple[list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
        """Weights (in, out) and biases of the hidden layers; weight (out, in) and bias (out, 1) of the last."""
        *hidden, (weight, bias) = zip(self.weights, self.biases, strict=True)
        held = scratch()
        # The input of the first layer is no place to round: an error there is one of the data.
        dtypes = [None, *[held and held.hidden] * (len(hidden) - 1)]
        return [(w.t().to(d), b.to(d)) for d, (w, b) in zip(dtypes, hidden, strict=False)], (weight, bias[:, None])


def _autocast(device: str) -> bool:
    """Whether products are cast on the way, which `out=` cannot be."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _as_dtype(h: Tensor, like: Tensor, held: Scratch) -> Tensor:
    return h if h.dtype == like.dtype else held.buffer(2, len(h), h.shape[1], like).copy_(h)


class StandardizeContext(nn.Module):
    """Shifts and scales a context to mean 0 and standard deviation 1, as measured on the training rows.

    It is the identity until `initialize` saw data. A constant column is only shifted.

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
        std = values.std(0, correction=0)
        self.mean.copy_(values.mean(0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))
        self.initialized.fill_(True)

    def forward(self, context: Tensor) -> Tensor:
        """context (B, K) -> (B, K)."""
        return (context - self.mean) / self.std
