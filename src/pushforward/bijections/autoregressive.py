"""Autoregressive layers: channels are moved by maps whose parameters are read off the channels before them.

Kingma et al. 2016 (inverse autoregressive flow, arXiv 1606.04934) and Papamakarios et al. 2017 (masked autoregressive
flow, arXiv 1705.07057), of which this is the latter: the latent numbers of a row follow from it all at once, and a
row from latent numbers channel by channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ..switch import PLAIN
from .base import Bijection, check_channels, sum_event
from .coupling import as_params
from .elementwise import Elementwise

fast: Any = None
if not PLAIN:
    from .._fast.kernels import masked as fast


class Autoregressive(Bijection):
    """Moves each channel, given those before it: z_i = h(x_i; net(x_1, ..., x_i-1, context)).

    Its Jacobian is triangular. One layer already has full dependence among the channels, which a `Coupling` reaches
    with several, so that fewer layers are needed; the inverse goes channel by channel.

    Args:
        net: (x (B, C), context) -> (B, P * C), P blocks of C channels, of which those of channel i depend on the
            channels before i alone, as `MaskedMLP` does.
        elementwise: the map h, with P parameters an element.
        channels: C.
        flip: False takes the channels in their order, True in the reverse.

    Raises:
        ValueError: `channels` is below 1, or a `MaskedMLP` is for others; in use, when the net returns another number
            of channels.

    Example:
        >>> from pushforward import MaskedMLP, RationalQuadratic
        >>> layer = Autoregressive(MaskedMLP(3, 23 * 3), RationalQuadratic(bins=8), channels=3)
        >>> z, log_det = layer(torch.randn(5, 3))
        >>> z.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self, net: Callable[..., Tensor], elementwise: Elementwise, channels: int, flip: bool = False
    ) -> None:  # fmt: skip
        super().__init__()
        check_channels(channels)
        wanted, sizes = (channels, elementwise.num_params * channels), _sizes(net)
        if sizes not in (None, wanted):
            raise ValueError(f"expected a net of {wanted[0]} inputs and {wanted[1]} outputs, got one of {sizes}")
        self.net = net
        self.elementwise = elementwise
        self.channels = channels
        self.flip = flip

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C), context (B, K) -> z (B, C), log_det (B,)."""
        x = self._ordered(x)
        z, log_slope = self.elementwise.forward(x, self._params(x, context))
        return self._ordered(z), sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data, channel by channel: z (B, C), context (B, K) -> x (B, C), log_det (B,)."""
        z = self._ordered(z)
        columns, log_slopes = [z[:, :0]], []
        params_after = self._params_after(z, context)
        for latent in z.split(1, 1):
            column, log_slope = self.elementwise.inverse(latent, params_after(columns))
            columns.append(column)
            log_slopes.append(log_slope)
        return self._ordered(torch.cat(columns, 1)), sum_event(torch.cat(log_slopes, 1))

    def _params_after(self, z: Tensor, context: Tensor | None) -> Callable[[list[Tensor]], Tensor]:
        """A function from the columns before a channel, each (B, 1) behind one (B, 0), to its parameters (B, P, 1)."""
        # The fast form passes over a `forward` that was replaced, as mixed precision does in training.
        has_fast_form = _sizes(self.net) is not None and "forward" not in vars(self.net)
        if fast and fast.fast_ok() and has_fast_form:
            next_params = fast.by_channel(self.net, z[:, :0], context)
            return lambda columns: next_params(columns[-1])[:, :, None]

        def params(columns: list[Tensor]) -> Tensor:
            i = len(columns) - 1
            return self._params(torch.cat([*columns, torch.zeros_like(z[:, i:])], 1), context)[:, :, i : i + 1]

        return params

    def _params(self, x: Tensor, context: Tensor | None) -> Tensor:
        return as_params(self.net(x, context), self.elementwise, self.channels)

    def _ordered(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.flip else x


class GroupAutoregressive(Bijection):
    """Moves each group of channels, given those before it: z_g = h(x_g; net_g(x_1, ..., x_g-1, context)).

    The first group passes unchanged: a `Coupling` is the case of two groups. All networks see the data themselves, and
    latent numbers follow from them all at once; the inverse goes group by group and takes as much arithmetic.

    Args:
        nets: of all groups but the first: (channels before the group (B, C_given, *S), context) -> (B, P * C_g, *S), P
            blocks of C_g channels.
        elementwise: the map h, with P parameters an element.
        sizes: how many channels each group has, one more than there are nets.

    Raises:
        ValueError: there are no nets, or not one for each group but the first, or a group is empty; in use, when x has
            another number of channels, or a net returns another number.

    Example:
        >>> from pushforward import MLP, Affine
        >>> layer = GroupAutoregressive([MLP(1, 4), MLP(3, 2)], Affine(), sizes=[1, 2, 1])
        >>> z, log_det = layer(torch.randn(5, 4))
        >>> z.shape, log_det.shape
        (torch.Size([5, 4]), torch.Size([5]))
    """

    def __init__(self, nets: Sequence[nn.Module], elementwise: Elementwise, sizes: Sequence[int]) -> None:
        super().__init__()
        if not nets or len(sizes) != len(nets) + 1 or min(sizes) < 1:
            raise ValueError(
                f"expected nets and one more sizes of groups, each at least 1, got {len(nets)} and {sizes}"
            )
        self.nets = nn.ModuleList(nets)
        self.elementwise = elementwise
        self.sizes = list(sizes)
        self._starts = list(accumulate(sizes))[:-1]  # of all groups but the first

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        self._check(x)
        params = [self._params(i, x, context) for i in range(len(self.nets))]
        first = self.sizes[0]
        moved, log_slope = self.elementwise.forward(x[:, first:], torch.cat(params, 2))
        return torch.cat([x[:, :first], moved], 1), sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data, group by group: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        self._check(z)
        x, *latents = z.split(self.sizes, 1)
        log_slopes = []
        for i, latent in enumerate(latents):
            group, log_slope = self.elementwise.inverse(latent, self._params(i, x, context))
            x = torch.cat([x, group], 1)
            log_slopes.append(log_slope)
        return x, sum_event(torch.cat(log_slopes, 1))

    def _params(self, i: int, x: Tensor, context: Tensor | None) -> Tensor:
        """The parameters of the map of group i + 1 (B, P, C_g, *S), of which x holds the channels before, at least."""
        params = self.nets[i](x[:, : self._starts[i]], context)
        return as_params(params, self.elementwise, self.sizes[i + 1])

    def _check(self, x: Tensor) -> None:
        if x.shape[1] != sum(self.sizes):
            raise ValueError(f"expected {sum(self.sizes)} channels, in groups of {self.sizes}, got {x.shape[1]}")


def _sizes(net: Any) -> tuple[int, int] | None:
    """The inputs and outputs of a `MaskedMLP`, None of other networks."""
    return (net.features_in, net.features_out) if hasattr(net, "hidden_see") else None
