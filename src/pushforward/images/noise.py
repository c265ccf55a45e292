"""Uniform noise that depends on the content of an image alone, so that its score is always the same."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..hashing import GOLDEN, LEAST, splitmix

LARGEST = 1 - 2.0**-15  # 255 with more noise would be rounded to 256 in float32
_WORD = 8


def uniforms(images: Tensor, draw: int) -> Tensor:
    """Noise (N, C, H, W) in the open unit interval, float64, for images of bytes (N, C, H, W).

    Each image is hashed; another number of the draw gives other noise.
    """
    pixels = images.detach().cpu().flatten(1).numpy()
    count, size = pixels.shape
    words = np.zeros((count, -(-size // _WORD) * _WORD), dtype=np.uint8)
    words[:, :size] = pixels
    with np.errstate(over="ignore"):
        places = _places(words.shape[1] // _WORD)
        rows = splitmix(words.view(np.uint64) ^ places).sum(1, dtype=np.uint64)  # a sum modulo 2^64
        rows = splitmix(rows + np.uint64(draw) * GOLDEN)
        bits = splitmix(rows[:, None] ^ _places(size))
    return torch.from_numpy(_as_unit(bits)).view(images.shape).to(images.device)


def random_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise (N, C, H, W) in the unit interval that is new each time, float32; the generator is the CPU's.

    For images elsewhere it seeds one there.
    """
    device = images.device
    if device.type != generator.device.type:
        generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return torch.rand(images.shape, generator=generator, device=device).clamp_(max=LARGEST)


def _places(count: int) -> NDArray[np.uint64]:
    """A number for each place, (count,)."""
    return splitmix(np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def _as_unit(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """64 bits as numbers of the open unit interval."""
    return np.clip((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53, LEAST, LARGEST)
