"""Noise within bytes that is learned: variational dequantization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..bijections import RationalQuadratic, Squeeze
from ..bijections.base import Conditioned, sum_event
from ..bijections.coupling import as_params
from ..convnets import ConvNet
from ..hashing import LEAST
from ..recipes import check_shape
from ..recipes.build import check_size
from .encoding import BYTES

_SPLINE = RationalQuadratic(bins=4, bound=1.0)


class VariationalDequantization(Conditioned):
    """Moves uniform noise within each byte, given all bytes (Ho et al. 2019, Flow++, arXiv 1902.00275, section 3.1).

    The noise e becomes u = h(e), an increasing spline of the unit interval whose parameters a network reads off squares
    of 2 x 2 bytes. With it the bound of `ImageDensity`, E log p(b + e), becomes E [log p(b + u) - log q(u | b)], which
    is tighter once the network is trained along with the flow.

    Args:
        shape: (C, H, W) of the images, padded; H and W even.
        width: channels of the network.
        context_dim: K, the width of the context; 0 for none.
        generator: the source of the initial weights; torch's global one when None.

    Raises:
        ValueError: an argument is out of range, or H or W is odd.

    Example:
        >>> layer = VariationalDequantization((1, 2, 2), width=4)
        >>> noise = torch.full((1, 1, 2, 2), 0.25)
        >>> layer(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), noise)[0].flatten().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 32,
        context_dim: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        channels, *size = self.shape = check_shape(shape)
        if any(side % 2 for side in size):
            raise ValueError(f"variational dequantization needs an even height and width, got {tuple(size)}")
        self.width, self.context_dim = check_size("width", width), check_size("context_dim", context_dim)
        self.net = ConvNet(
            4 * channels, 4 * channels * _SPLINE.num_params, width=width, positions=(size[0] // 2, size[1] // 2),
            context_dim=context_dim, generator=generator,
        )  # fmt: skip

    def forward(self, images: Tensor, noise: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bytes and noise e in [0, 1) (N, C, H, W), context (N, K) -> u (N, C, H, W), log|du/de| (N,), both float64."""
        squares = Squeeze()
        given = squares.forward(images.to(next(self.parameters()).dtype) / (BYTES - 1) * 2 - 1)
        e = squares.forward(noise.double())  # float32 would leave few digits to the noise
        params = as_params(self.net(given, context), _SPLINE, given.shape[1])
        u, log_slope = _SPLINE.forward(2 * e - 1, params.double())
        return squares.inverse((u + 1) / 2).clamp(LEAST, 1 - LEAST), sum_event(log_slope)
