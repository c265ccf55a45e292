"""Independent pixels: the frequencies of the bytes of each, which a density of images has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import as_generator
from ..density import Density
from ..io.pixels import in_layout
from .encoding import ByteEncoding, byte_masses, spans

if TYPE_CHECKING:
    from .space import Images


class IndependentPixels(Density):
    """A density of images whose pixels are independent of each other and of the context.

    Args:
        space: of the images.
        masses: of the bytes; see `ByteEncoding`.
    """

    def __init__(self, space: Images, masses: Tensor) -> None:
        super().__init__()
        self.space: Images = space  # type: ignore[override]
        self.encoding = ByteEncoding(masses=masses)

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """The log-mass of each of N images (N,), in nats."""
        images = self.space.planes(x)
        parts = (images[span] for span in spans(len(images), self.space.shape))
        return torch.cat([self.encoding.log_mass(part).flatten(1).sum(1) for part in parts])

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n images, or n for each context (*M, K): (n, *M, *row_shape)."""
        contexts, count = self.space.expand_context(n, context)
        y = torch.randn(count, *self.space.shape, generator=as_generator(generator, torch.device("cpu")))
        rows = in_layout(self.encoding.inverse(y), self.space.layout).contiguous()
        return rows if contexts is None else self.space.unflatten_samples(rows, n, context)


def fit_pixels(images: Any, space: Images) -> IndependentPixels:
    """Independent pixels with the masses of the bytes of N images."""
    planes = space.planes(images)
    return IndependentPixels(space, byte_masses(planes[span] for span in spans(len(planes), space.shape)))
