"""`nets.MaskedMLP` for inputs that become known one by one, as where an autoregressive layer is inverted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fast_ok as fast_ok

if TYPE_CHECKING:
    from ...nets import MaskedMLP


def by_channel(net: MaskedMLP, like: Tensor, context: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Evaluates each unit of a network once, when all that it sees is known.

    Hidden units are in the order of how many inputs they see, so that those that are known are the first ones.

    Args:
        net: over C channels.
        like: (B, 0), of the dtype and device of the inputs.
        context: (B, K).

    Returns:
        A function that is called for each channel in turn, with the input before it (B, 1), `like` for the first; it
        gives what the network gives for the channel: (B, P).
    """
    *hidden, (last_weight, last_bias) = net.layers()
    context, channels = net.joined(like, context), net.features_in
    ends = torch.searchsorted(net.hidden_see, torch.arange(channels), right=True).tolist() if hidden else []
    inputs: list[Tensor] = []
    values: list[list[Tensor]] = [[] for _ in hidden]  # of the hidden units that are known, layer by layer

    def next_channel(column: Tensor) -> Tensor:
        i = len(inputs)
        inputs.append(column)
        h = torch.cat([*inputs, context], 1)
        start, end = (ends[i - 1] if i else 0, ends[i]) if hidden else (0, 0)
        for layer, (weight, bias) in enumerate(hidden):
            weight = weight[start:end]
            seen = torch.cat([weight[:, :i], weight[:, channels:]], 1) if layer == 0 else weight[:, :end]
            own = net.activate(F.linear(h, seen, bias[start:end]))
            values[layer].append(own + values[layer - 1][-1] if net.residual and layer > 0 else own)
            h = torch.cat(values[layer], 1)
        weight = last_weight[i::channels]
        seen = weight[:, :end] if hidden else torch.cat([weight[:, :i], weight[:, channels:]], 1)
        return F.linear(h, seen, last_bias[i::channels])

    return next_channel
