"""Independent pixels: the frequencies of the bytes of each, in each class, which a density of images has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..arguments import as_generator
from ..density import Density
from ..io.pixels import in_layout
from .encoding import ByteEncoding, byte_masses, spans

if TYPE_CHECKING:
    from .space import Images


class IndependentPixels(Density):
    """A density of images whose pixels are independent of each other, given the class where there are classes.

    Args:
        space: of the images.
        masses: of the bytes, those of each class in turn; see `ByteEncoding`. One for all where they are of no class.
    """

    def __init__(self, space: Images, masses: Sequence[Tensor]) -> None:
        super().__init__()
        self.space: Images = space  # type: ignore[override]
        self.encodings = nn.ModuleList(ByteEncoding(masses=of_class) for of_class in masses)

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """The log-mass of each of N images (N,), in nats."""
        images = self.space.planes(x)
        log_mass = images.new_zeros(len(images), dtype=torch.float64)
        for encoding, rows in self._by_class(len(images), self.space.contexts(context)[0] if self._classes else None):
            parts = (images[rows[span]] for span in spans(len(rows), self.space.shape))
            log_mass[rows] = torch.cat([encoding.log_mass(part).flatten(1).sum(1).double() for part in parts])
        return log_mass

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n images, or n for each context (*M, K): (n, *M, *row_shape)."""
        contexts, count = self.space.expand_context(n, context)
        y = torch.randn(count, *self.space.shape, generator=as_generator(generator, torch.device("cpu")))
        planes = torch.empty(y.shape, dtype=torch.uint8)
        for encoding, rows in self._by_class(count, contexts if self._classes else None):
            planes[rows] = encoding.inverse(y[rows])
        rows = in_layout(planes, self.space.layout).contiguous()
        return rows if contexts is None else self.space.unflatten_samples(rows, n, context)

    @property
    def _classes(self) -> bool:
        return len(self.encodings) > 1

    def _by_class(self, count: int, contexts: Tensor | None) -> Iterator[tuple[ByteEncoding, Tensor]]:
        """The encoding of each class that comes among the contexts (count, 1), and the numbers of its rows."""
        numbers = torch.zeros(count) if contexts is None else contexts[:, 0].expand(count)
        for k, encoding in enumerate(self.encodings):
            rows = (numbers == k).nonzero().flatten()
            if len(rows):
                yield cast(ByteEncoding, encoding), rows


def fit_pixels(images: Any, space: Images, context: Any = None) -> IndependentPixels:
    """Independent pixels with the masses of the bytes of N images, of each class where the context tells it.

    A class without images has the masses of all.
    """
    planes = space.planes(images)
    every = _masses(planes)
    if not space.classes or context is None:
        return IndependentPixels(space, [every])
    contexts = cast(Tensor, space.contexts(context)[0])
    parts = [planes[contexts[:, 0] == k] for k in range(len(space.classes))]
    return IndependentPixels(space, [_masses(part) if len(part) else every for part in parts])


def _masses(planes: Tensor) -> Tensor:
    return byte_masses(planes[span] for span in spans(len(planes), planes.shape[1:]))
