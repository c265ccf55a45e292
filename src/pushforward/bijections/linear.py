"""Linear maps over the channels: a permutation, a rotation, and full matrices in LU form (Kingma and Dhariwal 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..switch import PLAIN
from .base import Bijection, check_channels, log_det_of_sites
from .elementwise import inverse_soft_clamp, soft_clamp

fast: Any = None
if not PLAIN:
    from .._fast.kernels import chunks as fast

L = TypeVar("L")
T = TypeVar("T")


class Permute(Bijection):
    """A fixed permutation of the channels: z[:, i] = x[:, permutation[i]], with log-det 0.

    Args:
        permutation: the numbers 0 to C - 1 in any order.

    Raises:
        ValueError: it is not a permutation.

    Example:
        >>> Permute([2, 0, 1])(torch.tensor([[1.0, 2.0, 3.0]]))[0]
        tensor([[3., 1., 2.]])
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(self, permutation: Sequence[int] | Tensor) -> None:
        super().__init__()
        # A flow that is built without memory (as `load` does) keeps its permutations all the same.
        device = "cpu" if torch.get_default_device().type == "meta" else None
        index = torch.as_tensor(permutation, dtype=torch.int64, device=device)
        if index.ndim != 1 or sorted(index.tolist()) != list(range(len(index))):
            raise ValueError(f"permutation must hold each of 0..C-1 once, got {index.tolist()}")
        self.register_buffer("permutation", index, persistent=False)
        self.register_buffer("inverse_permutation", index.argsort(), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), zeros (B,)."""
        return x.index_select(1, self.permutation), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), zeros (B,)."""
        return z.index_select(1, self.inverse_permutation), z.new_zeros(z.shape[0])


class LULinear(Bijection):
    """An invertible matrix over the channels, z = L U x + b, with L unit lower and U upper triangular.

    It starts as the identity. The diagonal of U is exp(d), with d softly clamped to |d| < 5, so the matrix can never
    become singular and the log-det is sum(d) at every site.

    Args:
        channels: C, at least 1.

    Raises:
        ValueError: `channels` is below 1.

    Example:
        >>> LULinear(3)(torch.ones(1, 3))[0].tolist()
        [[1.0, 1.0, 1.0]]
    """

    clamp = 5.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_channels(channels)
        # Both triangles in one matrix, the diagonal being the log-diagonal of U.
        self.factors = nn.Parameter(torch.zeros(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), log_det (B,)."""
        matrix, log_det_per_site = _once(self, LULinear._matrix)
        z = F.linear(x.movedim(1, -1), matrix, self.bias).movedim(-1, 1)
        return z, log_det_of_sites(log_det_per_site, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,)."""
        lower, upper, log_det_per_site = _once(self, LULinear._triangles)
        rows = z.movedim(1, -1) - self.bias
        flat = rows.reshape(-1, rows.shape[-1])
        flat = torch.linalg.solve_triangular(lower.mT, flat, upper=True, left=False, unitriangular=True)
        flat = torch.linalg.solve_triangular(upper.mT, flat, upper=False, left=False)
        return flat.view(rows.shape).movedim(-1, 1), log_det_of_sites(-log_det_per_site, z)

    def _triangles(self) -> tuple[Tensor, Tensor, Tensor]:
        """L, U, and the log-det of one site."""
        log_diagonal = soft_clamp(self.factors.diagonal(), self.clamp)
        eye = torch.eye(len(self.bias), dtype=self.bias.dtype, device=self.bias.device)
        lower = self.factors.tril(-1) + eye
        upper = self.factors.triu(1) + torch.diag(log_diagonal.exp())
        return lower, upper, log_diagonal.sum()

    def _matrix(self) -> tuple[Tensor, Tensor]:
        """L U, and the log-det of one site."""
        lower, upper, log_det_per_site = self._triangles()
        return lower @ upper, log_det_per_site


class InvertibleConv(Bijection):
    """A learned matrix over the channels, z = P L U x, that starts as a random rotation: Glow's 1 x 1 convolution.

    The permutation P and the signs of U's diagonal are those of the start and stay; L is unit lower triangular, and the
    logarithms d of U's diagonal are softly clamped to |d| < 5, so that the log-det is sum(d) at every site (Kingma and
    Dhariwal 2018, section 3.2).

    Args:
        channels: C, at least 1.
        generator: the source of the rotation; torch's global one when None.

    Raises:
        ValueError: `channels` is below 1.

    Example:
        >>> InvertibleConv(3)(torch.ones(1, 3, 4, 4))[1].abs() < 1e-5
        tensor([True])
    """

    clamp = 5.0
    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        check_channels(channels)
        normal = torch.randn(channels, channels, generator=generator, dtype=torch.float64, device="cpu")
        permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(normal)[0])
        diagonal = upper.diagonal()
        log_diagonal = inverse_soft_clamp(diagonal.abs().log().clamp(-0.99 * self.clamp, 0.99 * self.clamp), self.clamp)
        factors = lower.tril(-1) + upper.triu(1) + torch.diag(log_diagonal)
        # Both triangles in one matrix, the diagonal being the log-diagonal of U.
        self.factors = nn.Parameter(torch.empty(channels, channels))
        self.register_buffer("permutation", torch.empty(channels, dtype=torch.int64))
        self.register_buffer("sign", torch.empty(channels))
        with torch.no_grad():
            self.factors.copy_(factors)
            self.permutation.copy_(permutation.argmax(1))
            self.sign.copy_(diagonal.sign())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), log_det (B,)."""
        matrix, log_det_per_site = _once(self, InvertibleConv._matrix)
        return _over_channels(matrix, x), log_det_of_sites(log_det_per_site, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,)."""
        matrix, log_det_per_site = _once(self, InvertibleConv._inverse_matrix)
        return _over_channels(matrix, z), log_det_of_sites(-log_det_per_site, z)

    def _triangles(self) -> tuple[Tensor, Tensor, Tensor]:
        """L, U, and the log-det of one site."""
        log_diagonal = soft_clamp(self.factors.diagonal(), self.clamp)
        upper = self.factors.triu(1) + torch.diag(self.sign * log_diagonal.exp())
        return self.factors.tril(-1) + _eye(self.factors), upper, log_diagonal.sum()

    def _matrix(self) -> tuple[Tensor, Tensor]:
        """P L U, and the log-det of one site."""
        lower, upper, log_det_per_site = self._triangles()
        return (lower @ upper).index_select(0, self.permutation), log_det_per_site

    def _inverse_matrix(self) -> tuple[Tensor, Tensor]:
        """Its inverse, and the log-det of one site of the map itself."""
        lower, upper, log_det_per_site = self._triangles()
        turned = _eye(self.factors).index_select(0, self.permutation).mT
        half = torch.linalg.solve_triangular(lower, turned, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True), log_det_per_site


class Rotation(Bijection):
    """A learned rotation of the channels, z = Q x with log-det 0.

    Two channels have one angle. For more, Q = (I + A)^-1 (I - A) is the Cayley transform of the skew matrix
    A = raw - raw^T, which reaches every rotation but those that turn some direction by exactly half a circle. It starts
    as the identity.

    Args:
        channels: C, at least 1; a single channel stays as it is.
        angle: the start for C = 2, in radians; counterclockwise.

    Raises:
        ValueError: `channels` is below 1, or an angle is given for other than two.

    Example:
        >>> Rotation(2, angle=torch.pi / 2)(torch.tensor([[1.0, 0.0]]))[0].detach().round()
        tensor([[-0., 1.]])
    """

    def __init__(self, channels: int, angle: float = 0.0) -> None:
        super().__init__()
        check_channels(channels)
        if angle and channels != 2:
            raise ValueError(f"an angle turns 2 channels, got channels = {channels}")
        self.channels = channels
        shape = {1: (0,), 2: (1,)}.get(channels, (channels, channels))
        self.raw = nn.Parameter(torch.full(shape, float(angle)))

    def matrix(self) -> Tensor:
        """Q (C, C)."""
        if self.channels == 1:
            return torch.ones(1, 1, dtype=self.raw.dtype, device=self.raw.device)
        if self.channels == 2:
            cos, sin = self.raw.cos(), self.raw.sin()
            return torch.cat([cos, -sin, sin, cos]).view(2, 2)
        skew = self.raw - self.raw.mT
        eye = torch.eye(self.channels, dtype=skew.dtype, device=skew.device)
        return torch.linalg.solve(eye + skew, eye - skew)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) -> z (B, C, *S), zeros (B,)."""
        return self._turn(x, _once(self, Rotation.matrix))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), zeros (B,)."""
        return self._turn(z, _once(self, Rotation.matrix).mT)

    @staticmethod
    def _turn(x: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x.movedim(1, -1), matrix).movedim(-1, 1), x.new_zeros(x.shape[0])


def _eye(matrix: Tensor) -> Tensor:
    """The unit matrix of the same size, dtype and device."""
    return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)


def _over_channels(matrix: Tensor, x: Tensor) -> Tensor:
    """The product of a matrix (C, C) with the channels of x (B, C, *S), at each site."""
    if x.ndim == 4:
        return F.conv2d(x, matrix[:, :, None, None])
    return F.linear(x.movedim(1, -1), matrix).movedim(-1, 1)


def _once(layer: L, make: Callable[[L], T]) -> T:
    """make(layer), which depends on its weights alone: the fast path makes it once for many chunks of rows."""
    return fast.once(layer, make) if fast and fast.fast_ok() else make(layer)
