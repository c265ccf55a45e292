"""Autoregressive layers: each channel is moved by a map whose parameters are read off the channels before it.

Kingma et al. 2016 (inverse autoregressive flow, arXiv 1606.04934) and Papamakarios et al. 2017 (masked autoregressive
flow, arXiv 1705.07057), of which this is the latter: the latent numbers of a row follow from it all at once, and a
row from latent numbers channel by channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .base import Bijection, check_channels, sum_event
from .coupling import as_params
from .elementwise import Elementwise


class MaskedNet(Protocol):
    """A network of P blocks of C channels, of which those of channel i depend on the channels before i alone."""

    def __call__(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C), context (B, K) -> (B, P * C)."""
        ...

    def by_channel(self, like: Tensor, context: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """like (B, 0) -> a function of `like`, then of each channel (B, 1) in turn, to what follows from it (B, P)."""
        ...


class Autoregressive(Bijection):
    """Moves each channel, given those before it: z_i = h(x_i; net(x_1, ..., x_i-1, context)).

    Its Jacobian is triangular. One layer already has full dependence among the channels, which a `Coupling` reaches
    with several, so that fewer layers are needed; the inverse goes channel by channel.

    Args:
        net: as `MaskedMLP`.
        elementwise: the map h, with P parameters an element.
        channels: C.
        flip: False takes the channels in their order, True in the reverse.

    Raises:
        ValueError: `channels` is below 1; in use, when the net returns another number of channels.

    Example:
        >>> from pushforward import MaskedMLP, RationalQuadratic
        >>> layer = Autoregressive(MaskedMLP(3, 23 * 3), RationalQuadratic(bins=8), channels=3)
        >>> z, log_det = layer(torch.randn(5, 3))
        >>> z.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, net: MaskedNet, elementwise: Elementwise, channels: int, flip: bool = False) -> None:
        super().__init__()
        check_channels(channels)
        self.net = net
        self.elementwise = elementwise
        self.channels = channels
        self.flip = flip

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C), context (B, K) -> z (B, C), log_det (B,)."""
        x = self._ordered(x)
        z, log_slope = self.elementwise.forward(x, as_params(self.net(x, context), self.elementwise, self.channels))
        return self._ordered(z), sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data, channel by channel: z (B, C), context (B, K) -> x (B, C), log_det (B,)."""
        column, *rest = self._ordered(z).split([0] + [1] * self.channels, 1)
        next_params, columns, log_slopes = self.net.by_channel(column, context), [], []
        for latent in rest:
            params = as_params(next_params(column), self.elementwise, 1)
            column, log_slope = self.elementwise.inverse(latent, params)
            columns.append(column)
            log_slopes.append(log_slope)
        return self._ordered(torch.cat(columns, 1)), sum_event(torch.cat(log_slopes, 1))

    def _ordered(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.flip else x
