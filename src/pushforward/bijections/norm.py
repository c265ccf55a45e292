"""Shifts and scales of each channel: measured once (Standardize), learned from a measured start (ActNorm), or running
averages of the batches (BatchNorm)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..scale import check_scale, look_at_scale
from ..switch import is_eager
from .base import Bijection, check_channels, log_det_of_sites
from .elementwise import inverse_soft_clamp, soft_clamp

_VISIBLE = 1e-4  # standard deviations, the steps of values in a dtype
_SHOWS = 1e-3  # standard deviations, a rounding that is told
_FAR_SHARE = 1e-4  # of the largest number of a dtype: values may lie a few spreads beyond where they lie
_FAR = 1e5  # beyond it float32 holds steps of a hundredth and more


class Standardize(Bijection):
    """z = (x - mean) / std with mean and std of each channel taken from the training data, once.

    It is the identity until `initialize` saw data, and warns once where training rows are far from unit scale. With
    it inside the flow, densities are in data units. Rows in float64 are shifted and scaled in float64, and leave in the
    layer's dtype, so that little is lost of large numbers that vary little.

    Args:
        channels: C, at least 1.

    Raises:
        ValueError: `channels` is below 1.

    Example:
        >>> layer = Standardize(1)
        >>> _ = layer.initialize(torch.tensor([[1.0], [3.0]]))
        >>> layer(torch.tensor([[3.0]]))[0]
        tensor([[1.]])
    """

    takes_float64 = is_fixed = True
    mean: Tensor
    std: Tensor
    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_channels(channels)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("initialized", torch.tensor(False))
        self._is_rounded = VisibleRounding()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), log_det (B,)."""
        look_at_scale(self, x)
        mean, std = _per_channel(self.mean, x), _per_channel(self.std, x)
        return ((x - mean) / std).to(self.std.dtype), log_det_of_sites(-self.std.log().sum(), x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,).

        x has the dtype of z, or float64 where channels lie so far from 0 that z's would round them visibly.
        """
        mean, std = _per_channel(self.mean, z), _per_channel(self.std, z)
        log_det = log_det_of_sites(self.std.log().sum(), z)
        if is_eager() and self._is_rounded(z.dtype, (self.mean, self.std), lambda: (self.mean, self.std)):
            z = z.double()
        return z * std + mean, log_det

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Takes mean and std from x (B, C, *S), unless already done; returns z (B, C, *S).

        Raises:
            ValueError: a channel is constant (a density over it would be unbounded), or there are fewer than 2 rows.
        """
        if not self.initialized:
            mean, std = moments(x)
            check_scale(mean, std, self.std.dtype)
            self.mean.copy_(mean)
            self.std.copy_(std)
            self.initialized.fill_(True)
        return self(x)[0]


class ActNorm(Bijection):
    """A learned shift and scale of each channel, z = x exp(s) + b (Kingma and Dhariwal 2018, section 3.1).

    It starts as the identity; `initialize` sets s and b so that the first batch leaves with mean 0 and std 1. The
    log-scale is softly clamped to |s| < 10.

    Args:
        channels: C, at least 1.

    Raises:
        ValueError: `channels` is below 1.

    Example:
        >>> layer = ActNorm(1)
        >>> layer.initialize(torch.tensor([[1.0], [3.0]])).flatten()
        tensor([-1.,  1.])
    """

    initialized: Tensor
    clamp = 10.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_channels(channels)
        self.raw_log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def log_scale(self) -> Tensor:
        """s (C,), bounded."""
        return soft_clamp(self.raw_log_scale, self.clamp)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), log_det (B,)."""
        log_scale = self.log_scale()
        z = x * _per_channel(log_scale.exp(), x) + _per_channel(self.shift, x)
        return z, log_det_of_sites(log_scale.sum(), x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,)."""
        log_scale = -self.log_scale()
        x = (z - _per_channel(self.shift, z)) * _per_channel(log_scale.exp(), z)
        return x, log_det_of_sites(log_scale.sum(), z)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Sets shift and scale from x (B, C, *S), unless already done; returns z (B, C, *S).

        Raises:
            ValueError: a channel is constant, or there are fewer than 2 rows.
        """
        if not self.initialized:
            mean, std = moments(x)
            log_scale = (-std.log()).clamp(-0.99 * self.clamp, 0.99 * self.clamp)
            self.raw_log_scale.copy_(inverse_soft_clamp(log_scale, self.clamp))
            self.shift.copy_(-mean * log_scale.exp())
            self.initialized.fill_(True)
        return self(x)[0]


class BatchNorm(Bijection):
    """Real NVP's batch normalisation: each channel is shifted and scaled by running averages of its moments.

    The averages m and v follow the batches with a small step, and in training the averages that already hold the
    current batch are used, gradients going through its share: z = (x - m) / sqrt(v + eps), log-det = -1/2 sum log(v +
    eps) at every site (Dinh et al. 2016, section 3.7 and appendix E). There are no learned numbers: the next coupling
    shifts and scales.

    In training mode the output of a row therefore depends on the other rows of its batch, `inverse` does not undo
    `forward`, and a log-density is not that of the density that remains. In evaluation mode the averages are fixed
    and the layer is an ordinary affine map; only figures of that mode are likelihoods.

    Args:
        channels: C, at least 1.
        step: the share of a new batch in the averages, above 0 and at most 1.
        eps: added to the variances, at least 0.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> layer = BatchNorm(1, eps=0.0).eval()
        >>> layer.initialize(torch.tensor([[1.0], [3.0]])).flatten()
        tensor([-1.,  1.])
    """

    mean: Tensor
    variance: Tensor
    initialized: Tensor
    mixes_rows = True  # in training

    def __init__(self, channels: int, *, step: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        check_channels(channels)
        if not 0 < step <= 1 or not eps >= 0:
            raise ValueError(f"expected 0 < step <= 1 and eps >= 0, got {step!r} and {eps!r}")
        self.step = step
        self.eps = eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), log_det (B,). In training mode the averages move."""
        _check_width(self.mean, x)
        mean, variance = self.mean, self.variance
        if self.training and len(x):
            axes = [0, *range(2, x.ndim)]
            mean = torch.lerp(mean, x.mean(axes), self.step)
            variance = torch.lerp(variance, x.var(axes, correction=0), self.step)
            self.mean.copy_(mean.detach())
            self.variance.copy_(variance.detach())
        variance = variance + self.eps
        z = (x - _per_channel(mean, x)) * _per_channel(variance.rsqrt(), x)
        return z, log_det_of_sites(-0.5 * variance.log().sum(), x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data, by the averages as they are: z (B, C, *S) -> x (B, C, *S), log_det (B,)."""
        variance = self.variance + self.eps
        x = z * _per_channel(variance.sqrt(), z) + _per_channel(self.mean, z)
        return x, log_det_of_sites(0.5 * variance.log().sum(), z)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Takes the averages from x (B, C, *S), unless already done; returns z (B, C, *S) by them.

        Raises:
            ValueError: a channel is constant, or there are fewer than 2 rows.
        """
        if not self.initialized:
            mean, std = moments(x)
            self.mean.copy_(mean)
            self.variance.copy_(std.square())
            self.initialized.fill_(True)
        return (x - _per_channel(self.mean, x)) * _per_channel((self.variance + self.eps).rsqrt(), x)


def warn_of_rounding(given: Tensor, rounded: Tensor, what: str = "rows") -> None:
    """Warns where numbers lost digits that show, a thousandth of a column's standard deviation.

    Args:
        given: float64 numbers (N, *shape).
        rounded: the same as (N, D), in another dtype.
        what: "rows" or "contexts".
    """
    if len(rounded) < 2 or not rounded.numel():  # there is no spread
        return
    exact = given.detach().reshape(rounded.shape)
    lost, spread = (exact - rounded.double()).abs().amax(0), exact.std(0, correction=0)
    column = int((lost / spread.clamp_min(1e-300)).argmax())
    if float(lost[column]) > _SHOWS * float(spread[column]) > 0:
        scaled = "Make Standardize or Precondition the first layer of a flow trained by likelihood"
        warnings.warn(
            f"float64 {what} are rounded to the flow's {str(rounded.dtype).removeprefix('torch.')}: column {column} by "
            f"up to {float(lost[column]):.2g} at a standard deviation of {float(spread[column]):.2g}. "
            + (scaled if what == "rows" else "Subtract their mean")
            + ", or use flow.double()",
            stacklevel=4,
        )


def _check_width(values: Tensor, x: Tensor) -> None:
    if len(values) != x.shape[1]:
        raise ValueError(f"the layer has {len(values)} channels, got {x.shape[1]} in x of shape {tuple(x.shape)}")


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, ...), which broadcasts against x (B, C, *S)."""
    _check_width(values, x)
    return values.view(-1, *[1] * (x.ndim - 2))


class VisibleRounding:
    """Whether a dtype holds values only to more than a ten-thousandth of their spread, or not at all.

    It is computed once for each version of the tensors that it depends on, for it waits for their device.
    """

    def __init__(self) -> None:
        self._known: dict[Any, bool] = {}

    def __call__(
        self, dtype: torch.dtype, tensors: Sequence[Tensor], scale: Callable[[], tuple[Tensor, Tensor]]
    ) -> bool:
        """Whether it does.

        Args:
            dtype: of the values.
            tensors: on which `scale` depends.
            scale: -> where the values lie (C,), and how far they spread (C,).
        """
        if tensors[0].is_meta:
            return False
        key = (dtype, *((t.data_ptr(), None if t.is_inference() else t._version) for t in tensors))
        if key not in self._known:
            location, spread = scale()
            limits, size = torch.finfo(dtype), location.abs()
            steps = limits.eps * size.clamp_min(limits.smallest_normal)
            self._known = {key: bool(((steps > _VISIBLE * spread) | (size > _FAR_SHARE * limits.max)).any())}
        return self._known[key]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, C, *S) -> mean (C,), std (C,) in float64.

    Raises:
        ValueError: a channel is constant, or there are fewer than 2 rows.
    """
    values = x.double().transpose(0, 1).flatten(1)
    if values.shape[1] < 2:
        raise ValueError(f"at least 2 rows are needed to measure a scale, got {len(x)}")
    mean, std = values.mean(1), values.std(1, correction=0)
    # Rounding can leave a tiny spread in a constant column whose value is large.
    constant = std <= torch.finfo(x.dtype).eps * mean.abs()
    constant |= std == 0
    if bool(constant.any()):
        columns = constant.nonzero().flatten().tolist()
        far = x.dtype == torch.float32 and bool((mean[columns].abs() > _FAR).any())
        raise ValueError(
            f"column(s) {columns} are constant (value {[mean[c].item() for c in columns]}): "
            "a density over a constant is unbounded; leave them out"
            + (", or subtract so large a value first: float32 rounds it" if far else "")
        )
    return mean, std
