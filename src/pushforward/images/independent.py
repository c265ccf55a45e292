"""Independent pixels: the frequencies of the bytes of each, which a density of images has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..baselines import Frequencies, fit_frequencies
from ..density import Density

if TYPE_CHECKING:
    from .space import Images


class IndependentPixels(Density):
    """A density of images whose pixels are independent of each other and of the context.

    Args:
        space: of the images.
        frequencies: of the shades of each pixel, channel by channel.
    """

    def __init__(self, space: Images, frequencies: Frequencies) -> None:
        super().__init__()
        self.space: Images = space  # type: ignore[override]
        self.frequencies = frequencies

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """The log-mass of each of N images (N,), in nats."""
        planes, shades = self.space.planes(x), self.space.shades
        return self.frequencies.log_prob(shades.cells(planes).flatten(1)) + shades.log_share(planes)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n images, or n for each context (*M, K): (n, *M, *row_shape)."""
        contexts, count = self.space.expand_context(n, context)
        cells = self.frequencies.sample(count, generator=generator).to(torch.uint8).view(count, *self.space.shape)
        drawn = self.space.shades.bytes(cells)
        rows = self.space.read(drawn.cpu().numpy()) if count else drawn.new_empty(0, *self.space.row_shape)
        return rows if contexts is None else self.space.unflatten_samples(rows, n, context)


def fit_pixels(images: Any, space: Images) -> IndependentPixels:
    """Independent pixels with the smoothed frequencies of N images."""
    cells = space.shades.cells(space.planes(images)).flatten(1)
    return IndependentPixels(space, fit_frequencies(cells, [len(space.shades)] * cells.shape[1]))
