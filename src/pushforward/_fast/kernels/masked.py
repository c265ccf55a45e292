"""`nets.MaskedMLP` for inputs that become known one by one, as where an autoregressive layer is inverted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fast_ok as fast_ok
from .chunks import once

if TYPE_CHECKING:
    from ...nets import MaskedMLP

Layer = tuple[Tensor, Tensor]  # weight (out, in), bias (out,)


def by_channel(net: MaskedMLP, like: Tensor, context: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Evaluates each unit of a network once, when all that it sees is known.

    Args:
        net: over C channels.
        like: (B, 0), of the dtype and device of the inputs.
        context: (B, K).

    Returns:
        A function that is called for each channel in turn, with the input before it (B, 1), `like` for the first; it
        gives what the network gives for the channel: (B, P).
    """
    layers_of_channels = iter(once(net, _layers_of_channels))
    known = [net.joined(like, context)] + [like] * (len(net.weights) - 1)  # (B, units) of each layer but the last

    def next_channel(column: Tensor) -> Tensor:
        *hidden, (last_weight, last_bias) = next(layers_of_channels)
        new = column
        for i, (weight, bias) in enumerate(hidden):
            known[i] = torch.cat([known[i], new], 1)
            own = net.activate(F.linear(known[i], weight, bias))
            new = own + new if net.residual and i > 0 else own
        known[-1] = torch.cat([known[-1], new], 1)
        return F.linear(known[-1], last_weight, last_bias)

    return next_channel


def _layers_of_channels(net: MaskedMLP) -> list[list[Layer]]:
    """For each channel, of each layer the units that are known first where the inputs before the channel are.

    Hidden units are in the order of how many inputs they see, so that those that are known are the first ones. The
    context comes before the inputs.
    """
    channels = net.features_in
    (weight, bias), *others = net.layers()
    layers = [(weight.roll(net.context_dim, 1), bias), *others]
    ends = torch.searchsorted(net.hidden_see, torch.arange(channels), right=True).tolist()

    def layers_of(channel: int) -> list[Layer]:
        units = slice(ends[channel - 1] if channel else 0, ends[channel])
        before = [net.context_dim + channel] + [ends[channel]] * (len(layers) - 1)
        rows = [units] * (len(layers) - 1) + [slice(channel, None, channels)]
        return [
            (weight[row, :seen].contiguous(), bias[row])
            for (weight, bias), row, seen in zip(layers, rows, before, strict=True)
        ]

    return [layers_of(channel) for channel in range(channels)]
