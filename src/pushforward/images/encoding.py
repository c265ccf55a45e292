"""Bytes as numbers on the line: spread by how often they occur, or by the logit of the Real NVP paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

BYTES = 256
ALPHA = 0.05
MOST_BLOCKS = 32  # an image is cut into at most so many blocks in each direction
_UNSEEN, _MOST_UNSEEN = 1e-6, 0.5  # bounds of the mass of all bytes that a channel was not seen to have
_STRENGTHS = [4.0**i for i in range(10, -1, -1)]  # pixels that the frequencies of the whole channel may count as
_TOGETHER = 2**22  # pixels that are worked on at a time
_INSIDE = 2.0**-53  # how far x stays from the ends of the unit interval
_LOG_2PI = math.log(2 * math.pi)


class ByteEncoding(nn.Module):
    """Bytes b with noise u in [0, 1) as numbers y, an increasing map of b + u.

    By default x = (b + u) / 256 and y = log(p / (1 - p)) with p = alpha + (1 - 2 alpha) x, as in the code of Dinh et
    al. 2016 (the paper prints alpha + (1 - alpha) x).

    With masses, bytes have intervals of these lengths in place of 1/256 (histogram equalisation), and y is the normal
    quantile of x = F(b) + m(b) u, F(b) being the mass of all darker bytes. Where the bytes of a pixel do have these
    masses its y is standard normal: a flow that is the identity, over a standard normal base, is the density of
    independent pixels.

    Args:
        alpha: of the logit, above 0 and below 1/2; None takes x as it is. Not used with masses.
        masses: (256, C, h, w), positive, of the bytes in a grid of h by w blocks of the image, such as `byte_masses`
            gives. They are divided by their sums.

    Raises:
        ValueError: alpha is out of range, or the masses are.

    Example:
        >>> encoding = ByteEncoding(masses=torch.ones(256, 1, 1, 1))
        >>> y, _ = encoding(torch.full((1, 1, 1, 1), 128, dtype=torch.uint8), torch.zeros(1, 1, 1, 1))
        >>> y.item()
        0.0
    """

    masses: Tensor | None

    def __init__(self, *, alpha: float | None = ALPHA, masses: Tensor | None = None) -> None:
        super().__init__()
        if alpha is not None and not (isinstance(alpha, float | int) and 0 < alpha < 0.5):
            raise ValueError(f"alpha must be None or above 0 and below 0.5, got {alpha!r}")
        if masses is not None:
            if not isinstance(masses, Tensor):
                raise ValueError(f"masses must be a tensor (256, C, h, w), got {type(masses).__name__}")
            is_positive = masses.device.type == "meta" or bool(((masses > 0) & (masses < math.inf)).all())
            if masses.ndim != 4 or len(masses) != BYTES or not is_positive:
                raise ValueError(f"masses must be positive, of shape (256, C, h, w), got {tuple(masses.shape)}")
            masses = (masses.double() / masses.double().sum(0)).float()
        self.alpha = alpha
        self.register_buffer("masses", masses)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Bytes and noise (N, C, H, W) -> y, log|dy/du|, both (N, C, H, W) float64."""
        u = noise.double()
        if self.masses is None:
            y, log_slope = _from_unit((images.double() + u) / BYTES, self.alpha)
            return y, log_slope - math.log(BYTES)
        masses, below, place = self._tables(images)
        place = place + images.long() * masses[0].numel()
        mass = masses.take(place)
        y = torch.special.ndtri((below.take(place) + mass * u).clamp(_INSIDE, 1 - _INSIDE))
        return y, mass.log() + 0.5 * (y.square() + _LOG_2PI)

    def between_bytes(self, count: int, shape: Sequence[int]) -> Tensor:
        """Numbers between bytes, the borders nearest to even shares of the mass: -> (count, C, H, W).

        Args:
            count: at least 1.
            shape: (C, H, W) of the images.

        Example:
            >>> ByteEncoding().between_bytes(3, (1, 1, 1)).flatten()
            tensor([-1.3790,  0.0000,  1.3790], dtype=torch.float64)
        """
        shares = ((torch.arange(count) + 0.5) / count).double()
        masses = (torch.ones(BYTES, 1) if self.masses is None else self.masses.cpu().flatten(1)).double()
        borders = (masses.cumsum(0) / masses.sum(0))[:-1]  # below the bytes 1, 2, ...
        first = torch.stack([(borders - share).abs().argmin(0) + 1 for share in shares])  # the bytes above
        blank = torch.zeros(count, *shape, dtype=torch.uint8)
        block = blank[0].long() if self.masses is None else self._tables(blank)[2]
        return self(first[:, block].to(torch.uint8), blank)[0]

    def log_mass(self, images: Tensor) -> Tensor:
        """Bytes (N, C, H, W) -> log m(b) of the same shape, float64."""
        if self.masses is None:
            return torch.full(images.shape, -math.log(BYTES), dtype=torch.float64, device=images.device)
        masses, _, place = self._tables(images)
        return masses.take(place + images.long() * masses[0].numel()).log()

    def inverse(self, y: Tensor) -> Tensor:
        """y (N, C, H, W) -> bytes (N, C, H, W); numbers beyond the range of bytes are those at its end."""
        if self.masses is None:
            return (BYTES * _to_unit(y, self.alpha)).floor().clamp(0, BYTES - 1).to(torch.uint8)
        masses, below, place = self._tables(y)
        x, byte = torch.special.ndtr(y.double()), torch.zeros_like(y, dtype=torch.int64)
        for step in (128, 64, 32, 16, 8, 4, 2, 1):
            further = byte + step
            byte = torch.where(below.take(place + further * masses[0].numel()) <= x, further, byte)
        return byte.to(torch.uint8)

    def cropped(self, corner: tuple[int, int], size: tuple[int, int], padded: tuple[int, int]) -> ByteEncoding:
        """The encoding of a part (H, W) of images (H', W'), which begins at a corner (row, column)."""
        if self.masses is None or size == padded:
            return self
        rows, columns = (_blocks(n, blocks) for n, blocks in zip(padded, self.masses.shape[2:], strict=True))
        rows, columns = rows[corner[0] : corner[0] + size[0]], columns[corner[1] : corner[1] + size[1]]
        return ByteEncoding(masses=self.masses[:, :, rows][:, :, :, columns])

    def _tables(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> m and F, (256, C, h, w) float64; the number of the block of each pixel, (C, H, W)."""
        assert self.masses is not None
        masses = self.masses.to(images.device).double()
        up_to = masses.cumsum(0)
        masses, up_to = masses / up_to[-1], up_to / up_to[-1]
        channels, height, width = masses.shape[1:]
        device = images.device
        rows, columns = _blocks(images.shape[2], height, device), _blocks(images.shape[3], width, device)
        block = (torch.arange(channels, device=device)[:, None, None] * height + rows[:, None]) * width + columns
        return masses, up_to - masses, block


def spans(count: int, shape: Sequence[int]) -> list[slice]:
    """Pieces of so many images (C, H, W) for which work takes little memory; at least one, which may be empty."""
    size = max(16, _TOGETHER // math.prod(shape) // 16 * 16)
    return [slice(start, min(start + size, count)) for start in range(0, max(count, 1), size)]


def byte_masses(parts: Iterable[Tensor]) -> Tensor:
    """The masses of the bytes of images (N, C, H, W), given in several parts: -> (256, C, h, w), float32.

    Each pixel has its own frequencies, or each block of pixels where there are more than 32 in a direction. They are
    shrunk towards those of the whole channel, as if these had been seen in s more pixels there; s is the power of 4
    under which the pixels are most likely, each given the others of its block. In a channel, bytes that never occur
    share the mass that Good and Turing estimate, the part of the pixels whose byte occurs once, from a millionth to a
    half: images that hold one are unlikely, not impossible.

    Raises:
        ValueError: there are no images.

    Example:
        >>> masses = byte_masses([torch.tensor([0, 0, 0, 255], dtype=torch.uint8).view(4, 1, 1, 1)])
        >>> masses.shape, masses[[0, 128]].flatten()
        (torch.Size([256, 1, 1, 1]), tensor([0.5625, 0.0010]))
    """
    counts = None
    for part in map(Tensor.cpu, parts):
        channels, height, width = part.shape[1:]
        h, w = min(height, MOST_BLOCKS), min(width, MOST_BLOCKS)
        rows, columns = _blocks(height, h), _blocks(width, w)
        place = ((part.long() * channels + torch.arange(channels)[:, None, None]) * h + rows[:, None]) * w + columns
        new = torch.bincount(place.flatten(), minlength=BYTES * channels * h * w).view(BYTES, channels, h, w)
        counts = new if counts is None else counts + new
    if counts is None or not counts.sum():
        raise ValueError("the masses of bytes need one image at least, got none")
    own = counts.double()
    overall = _smoothed(own.sum((2, 3), keepdim=True))
    seen = own.sum(0)
    best = max(_STRENGTHS, key=lambda strength: _left_out(own, overall, seen, strength))
    return ((own + best * overall) / (seen + best)).float()


def _left_out(own: Tensor, overall: Tensor, seen: Tensor, strength: float) -> float:
    """The log-mass of all pixels, each given the others of its block.

    Args:
        own: counts (256, C, h, w).
        overall: masses (256, C, 1, 1).
        seen: counts of all bytes (C, h, w).
        strength: the weight of `overall`, in pixels.
    """
    mass = (own - 1 + strength * overall) / (seen - 1 + strength)
    return float((own * mass.log())[own > 0].sum())


def _smoothed(counts: Tensor) -> Tensor:
    """Counts of bytes (256, C, 1, 1) -> their masses, with a share for bytes that were not seen."""
    total, is_seen = counts.sum(0), counts > 0
    unseen = ((counts == 1).sum(0) / total).clamp(_UNSEEN, _MOST_UNSEEN)
    others = (~is_seen).sum(0)
    masses = torch.where(is_seen, counts / total * (1 - unseen), unseen / others.clamp(min=1))
    return masses / masses.sum(0)


def _blocks(pixels: int, blocks: int, device: torch.device | None = None) -> Tensor:
    """The block of each of a row of pixels (pixels,)."""
    return torch.arange(pixels, device=device) * blocks // pixels


def _from_unit(x: Tensor, alpha: float | None) -> tuple[Tensor, Tensor]:
    """x in [0, 1) -> the logit y of alpha + (1 - 2 alpha) x, log|dy/dx|, of the same shape; without alpha, x and 0."""
    if alpha is None:
        return x, torch.zeros_like(x)
    p = alpha + (1 - 2 * alpha) * x
    return p.log() - (1 - p).log(), math.log(1 - 2 * alpha) - p.log() - (1 - p).log()


def _to_unit(y: Tensor, alpha: float | None) -> Tensor:
    """The inverse of `_from_unit`, without its derivative."""
    return y if alpha is None else (torch.sigmoid(y) - alpha) / (1 - 2 * alpha)
