"""Coupling layers: one part of x is moved by a map whose parameters are read off the other part.

Dinh et al. 2016 (Real NVP, arXiv 1605.08803), section 3.3; `MaskedCoupling` is the textbook's form of section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..switch import PLAIN
from .base import Bijection, check_channels, sum_event
from .elementwise import Elementwise

fast: Any = None
if not PLAIN:
    from .._fast.kernels import vectors as fast


class Coupling(Bijection):
    """Moves one half of the channels, given the other half: x = (a, b) -> (a, h(b; net(a, context))).

    The first half holds C // 2 channels and the second the rest, so any C works: with C = 1 one half is empty, and the
    net must then take an input of width 0 (as `MLP` does).

    Args:
        net: (half (B, C_given, *S), context) -> (B, P * C_moved, *S), the parameters, P blocks of C_moved channels.
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
        given, moved = _halves(x, self.flip)
        moved, log_slope = self.elementwise.forward(moved, _params(self, given, moved, context))
        return _joined(given, moved, self.flip), sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        given, moved = _halves(z, self.flip)
        moved, log_slope = self.elementwise.inverse(moved, _params(self, given, moved, context))
        return _joined(given, moved, self.flip), sum_event(log_slope)


class TriangularCoupling(Bijection):
    """Moves both halves: x = (a, b) -> (h(a; own), h(b; net(a, context))), which has a triangular Jacobian.

    A `Coupling` leaves a as it is; here it passes through maps of its own, whose parameters are learned numbers or
    functions of the context. In two dimensions such a layer is a whole autoregressive (Knothe-Rosenblatt) map, so very
    few suffice.

    Args:
        net: (half (B, C_given, *S), context) -> (B, P * C_moved, *S), as in `Coupling`.
        elementwise: the map h, with P parameters an element.
        channels: C, of which the first half holds C // 2.
        flip: False conditions the second half on the first, True the first on the second.
        own: the parameters of the map of a, which nflows calls the unconditional transform. None for P learned numbers
            a channel, which start at zero; or (nothing (B, 0, *S), context) -> (B, P * C_given, *S), for parameters
            that follow the context.

    Raises:
        ValueError: `channels` is below 1; in use, when a net returns another number of channels.

    Example:
        >>> from pushforward import MLP, RationalQuadratic
        >>> layer = TriangularCoupling(MLP(1, 23), RationalQuadratic(bins=8), channels=2)
        >>> z, log_det = layer(torch.randn(5, 2))
        >>> z.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        net: Callable[..., Tensor],
        elementwise: Elementwise,
        channels: int,
        flip: bool = False,
        own: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_channels(channels)
        self.net = net
        self.elementwise = elementwise
        self.channels = channels
        self.flip = flip
        given = channels - channels // 2 if flip else channels // 2
        self.own = nn.Parameter(torch.zeros(elementwise.num_params, given)) if own is None else own

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        given, moved = _halves(x, self.flip)
        moved, log_slope_moved = self.elementwise.forward(moved, _params(self, given, moved, context))
        given, log_slope_given = self.elementwise.forward(given, self._own_params(given, context))
        return _joined(given, moved, self.flip), sum_event(log_slope_given) + sum_event(log_slope_moved)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        given, moved = _halves(z, self.flip)
        given, log_slope_given = self.elementwise.inverse(given, self._own_params(given, context))
        moved, log_slope_moved = self.elementwise.inverse(moved, _params(self, given, moved, context))
        return _joined(given, moved, self.flip), sum_event(log_slope_given) + sum_event(log_slope_moved)

    def _own_params(self, given: Tensor, context: Tensor | None) -> Tensor:
        num_params, channels = self.elementwise.num_params, given.shape[1]
        if not isinstance(self.own, Tensor):
            return as_params(self.own(given[:, :0], context), self.elementwise, channels)
        own = self.own.view(1, num_params, channels, *[1] * (given.ndim - 2))
        return own.expand(given.shape[0], -1, -1, *given.shape[2:])


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


class LatticeCoupling(Bijection):
    """Moves the pixels of one colour of a checkerboard, given the others, by a network over the whole lattice.

    It is the masked convolution of Dinh et al. 2016, equation 9 and section 3.4: with b the mask, y = b x + (1 - b)
    h(x; net(b x)). A `Coupling` within `Checkerboard` moves the same pixels by a network over a lattice of half the
    width, which takes half of the arithmetic.

    Args:
        net: (x with zeros for what is moved (B, C, H, W), context) -> (B, P * C, H, W), P blocks of C channels.
        elementwise: the map h, with P parameters an element.
        flip: False moves pixels whose row and column add up to an odd number, True the others.

    Raises:
        ValueError: in use, when the net returns another number of channels.

    Example:
        >>> from pushforward import Affine, ConvNet
        >>> LatticeCoupling(ConvNet(1, 2), Affine())(torch.ones(1, 1, 2, 2))[0].shape
        torch.Size([1, 1, 2, 2])
    """

    def __init__(self, net: Callable[..., Tensor], elementwise: Elementwise, flip: bool = False) -> None:
        super().__init__()
        self.net = net
        self.elementwise = elementwise
        self.flip = flip

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, H, W), context (B, K) -> z (B, C, H, W), log_det (B,)."""
        mask = self._mask(x)
        moved, log_slope = self.elementwise.forward(x, self._params(x, mask, context))
        return torch.where(mask, moved, x), sum_event(log_slope * mask)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, H, W), context (B, K) -> x (B, C, H, W), log_det (B,)."""
        mask = self._mask(z)
        moved, log_slope = self.elementwise.inverse(z, self._params(z, mask, context))
        return torch.where(mask, moved, z), sum_event(log_slope * mask)

    def _mask(self, x: Tensor) -> Tensor:
        """Which pixels (H, W) are moved."""
        rows, columns = (torch.arange(size, device=x.device) for size in x.shape[-2:])
        return (rows[:, None] + columns) % 2 == (0 if self.flip else 1)

    def _params(self, x: Tensor, mask: Tensor, context: Tensor | None) -> Tensor:
        return as_params(self.net(x * ~mask, context), self.elementwise, x.shape[1])


def _halves(x: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
    """x (B, C, *S) -> what is given and what is moved: the first C // 2 channels and the rest, or the reverse."""
    channels = x.shape[1]
    first, second = x.split([channels // 2, channels - channels // 2], 1)
    return (second, first) if flip else (first, second)


def _joined(given: Tensor, moved: Tensor, flip: bool) -> Tensor:
    """The inverse of `_halves`."""
    first, second = (moved, given) if flip else (given, moved)
    return fast.joined(first, second) if fast and fast.fast_ok() else torch.cat([first, second], 1)


def _params(layer: Coupling | TriangularCoupling, given: Tensor, moved: Tensor, context: Tensor | None) -> Tensor:
    """The parameters (B, P, C_moved, *S) of what is moved, given the rest."""
    return as_params(layer.net(given, context), layer.elementwise, moved.shape[1])


def as_params(params: Tensor, elementwise: Elementwise, channels: int) -> Tensor:
    """What a net gave, (B, P * C, *S), as parameters of a map of C channels: (B, P, C, *S)."""
    num_params = elementwise.num_params
    if params.shape[1] != num_params * channels:
        raise ValueError(
            f"the net of {channels} channels that are moved with {num_params} parameters each must "
            f"return {num_params * channels} channels, got {params.shape[1]}"
        )
    return params.unflatten(1, (num_params, channels))
