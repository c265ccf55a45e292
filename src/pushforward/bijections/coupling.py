"""Coupling layers: one part of x is moved by a map whose parameters are read off the other part.

Dinh et al. 2016 (Real NVP, arXiv 1605.08803), section 3.3; `MaskedCoupling` is the textbook's form of section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..elementwise import Elementwise
from .base import Bijection, sum_event


class Coupling(Bijection):
    """Moves one half of the channels, given the other half: x = (a, b) -> (a, h(b; net(a, context))).

    The first half holds C // 2 channels and the second the rest, so any C works: with C = 1 one half is empty, and the
    net must then take an input of width 0 (as `MLP` does).

    Args:
        net: (half (B, C_cond, *S), context) -> (B, P * C_moved, *S), the parameters, P blocks of C_moved channels each.
        elementwise: the map h, with P parameters an element.
        flip: False moves the second half, True the first.

    Raises:
        ValueError: in use, when the net returns another number of channels.

    Example:
        >>> from pushforward import MLP, Affine
        >>> layer = Coupling(MLP(1, 2), Affine())
        >>> z, log_det = layer(torch.randn(5, 2))
        >>> z.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(self, net: Callable[..., Tensor], elementwise: Elementwise, flip: bool = False) -> None:
        super().__init__()
        self.net = net
        self.elementwise = elementwise
        self.flip = flip

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        return self._move(self.elementwise.forward, x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        return self._move(self.elementwise.inverse, z, context)

    def _move(self, apply: Callable[..., Any], x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        channels = x.shape[1]
        first, second = x.split([channels // 2, channels - channels // 2], 1)
        given, moved = (second, first) if self.flip else (first, second)
        params = self.net(given, context)
        num_params = self.elementwise.num_params
        if params.shape[1] != num_params * moved.shape[1]:
            raise ValueError(
                f"the net of a coupling that moves {moved.shape[1]} channels with {num_params} parameters each must "
                f"return {num_params * moved.shape[1]} channels, got {params.shape[1]}"
            )
        params = params.unflatten(1, (num_params, moved.shape[1]))
        moved, log_det = apply(moved, params)
        return torch.cat([moved, given] if self.flip else [given, moved], 1), sum_event(log_det)


class MaskedCoupling(Bijection):
    """The textbook's affine coupling, with a binary mask and two networks.

    With b the mask: y = x exp((1 - b) s(b x)) + (1 - b) t(b x), log-det = sum (1 - b) s(b x). Entries with b = 1 pass
    unchanged. Nothing clamps s: the networks are the user's own.

    Args:
        mask: (C,) or (C, *S), zeros and ones.
        scale_net: s, (B, C, *S) -> (B, C, *S).
        shift_net: t, (B, C, *S) -> (B, C, *S).

    Raises:
        ValueError: the mask holds other values than 0 and 1; in use, a network changes the shape.

    Example:
        >>> layer = MaskedCoupling(torch.tensor([1.0, 0.0]), nn.Linear(2, 2), nn.Linear(2, 2))
        >>> layer(torch.tensor([[3.0, 4.0]]))[0][0, 0].item()
        3.0
    """

    mask: Tensor

    def __init__(self, mask: Tensor, scale_net: nn.Module, shift_net: nn.Module) -> None:
        super().__init__()
        mask = torch.as_tensor(mask).to(torch.get_default_dtype())
        if mask.ndim == 0 or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"mask must be a tensor (C, *S) of zeros and ones, got {mask.tolist()}")
        self.register_buffer("mask", mask.clone())
        self.scale_net = scale_net
        self.shift_net = shift_net

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), log_det (B,); the context is ignored."""
        log_scale, shift = self._params(x)
        return x * log_scale.exp() + shift, sum_event(log_scale)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,); the context is ignored."""
        log_scale, shift = self._params(z)
        return (z - shift) * (-log_scale).exp(), -sum_event(log_scale)

    def _params(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given = x * self.mask
        log_scale, shift = self.scale_net(given), self.shift_net(given)
        for name, value in (("scale_net", log_scale), ("shift_net", shift)):
            if value.shape != x.shape:
                raise ValueError(f"{name} must keep the shape {tuple(x.shape)}, got {tuple(value.shape)}")
        free = 1 - self.mask
        return free * log_scale, free * shift
