"""Images of a source as `fit_images` draws them: which of them are meant, and their classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.images import read_images
from ..io.pixels import ImageData, Shape, as_bytes, as_labels
from ..training import Batch
from ..training.data import digest, split_numbers
from .density import pad_to
from .encoding import byte_masses, spans
from .space import as_tensor, check_classes, count_of

Source = str | PathLike[str] | ImageData | Any
MAX_VAL_IMAGES = 2000
_DIGESTED = 1000  # images that tell whether a training goes on with the same ones
_COUNTED = 2**26  # pixels whose bytes are counted at most


def check_labels(labels: Any, classes: Any, val: Any, val_labels: Any) -> None:
    """Raises ValueError where classes or labels are given that nothing would take."""
    has_labels, has_val_labels = (given is not None and given is not False for given in (labels, val_labels))
    if classes is not None and not has_labels:
        raise ValueError("classes= names the classes of labels=, and there are no labels")
    if has_val_labels and (val is None or not has_labels):
        raise ValueError("val_labels= goes with val= and labels=, and one of these is not given")


@dataclass(frozen=True)
class LabelledImages:
    """Some images of a source.

    Attributes:
        planes: all images of the source (M, C, H, W), in memory or mapped from a file.
        rows: the numbers of those that are meant (N,).
        labels: the classes of those that are meant (N,), or None.
        classes: names of the classes.
        layout: that the images came in.
    """

    planes: Tensor
    rows: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    layout: str

    @classmethod
    def of(cls, source: Source, labels: Any, classes: Sequence[str] | None) -> LabelledImages:
        """Images and labels as the user gave them, checked."""
        if isinstance(source, str | PathLike):
            source = read_images(source, classes=() if classes is None else check_classes(classes))
        planes, layout = as_bytes(source.images if isinstance(source, ImageData) else source)
        images, rows = as_tensor(planes), torch.arange(len(planes))
        if isinstance(source, ImageData) and source.rows is not None:
            rows = torch.from_numpy(source.rows.astype(np.int64))
        if labels is None or labels is False:
            return cls(images, rows, None, (), layout)
        if labels is True:
            labels, names = _own_classes(source, rows)
            classes = names if classes is None else classes
        return cls(images, rows, *_as_classes(labels, classes, len(rows)), layout)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        channels, height, width = self.planes.shape[1:]
        return channels, height, width

    def images(self, index: Tensor | slice) -> Tensor:
        """A copy of some of them (n, C, H, W)."""
        return self.planes[self.rows[index]]

    def contexts(self, index: Tensor | slice) -> Tensor | None:
        """The classes of some of them as the inner density sees them (n, K), or None."""
        return None if self.labels is None else torch.eye(len(self.classes))[self.labels[index]]

    def digest(self) -> str:
        """A short name of at most 1,000 of them, evenly spaced, and of all labels."""
        index = torch.linspace(0, len(self) - 1, min(len(self), _DIGESTED), dtype=torch.float64).long()
        return digest(Batch(self.images(index), self.labels))

    def masses(self, size: tuple[int, int], flips: bool) -> Tensor:
        """The masses of the bytes of images padded to a size, and of mirrored ones; of many images some are counted."""
        shape = (self.shape[0], *size)
        count = min(len(self), max(1, _COUNTED // math.prod(shape)))
        some = torch.linspace(0, len(self) - 1, count, dtype=torch.float64).long()
        parts = (self.images(some[span]) for span in spans(count, shape))
        alike = ((part, part.flip(-1)) if flips else (part,) for part in parts)
        return byte_masses(pad_to(images, size) for images in itertools.chain.from_iterable(alike))

    def split(self, fraction: float, seed: int) -> tuple[LabelledImages, LabelledImages | None]:
        """-> the training images, the validation images or None."""
        train, holdout = split_numbers(len(self), fraction, torch.Generator().manual_seed(seed), MAX_VAL_IMAGES)
        return (self._part(train), self._part(holdout)) if len(holdout) else (self, None)

    def _part(self, index: Tensor) -> LabelledImages:
        return replace(self, rows=self.rows[index], labels=None if self.labels is None else self.labels[index])


def _own_classes(source: Any, rows: Tensor) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The classes of some images of a source (N,), names or numbers; the names of all classes of the source.

    Raises:
        ValueError: it has none, or they do not fit.
    """
    if not isinstance(source, ImageData) or source.labels is None:
        raise ValueError("labels=True, but the images come without classes, as folders of subfolders have")
    numbers, names = _as_classes(source.labels, source.classes or None, len(source.images))
    own = numbers[rows].numpy()
    return (np.asarray(names)[own] if source.classes else own), names


def _as_classes(labels: Any, classes: Sequence[str] | None, count: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels (N,), numbers or names -> numbers (N,) and the names of the classes."""
    values = as_labels(labels)
    names = None if classes is None else check_classes(classes)
    if values.shape != (count,):
        raise ValueError(f"expected a label for each of the {count:,} images, got labels of shape {values.shape}")
    if values.dtype.kind in "US":
        names = tuple(map(str, np.unique(values))) if names is None else names
        places = {name: i for i, name in enumerate(names)}
        unknown = sorted(set(map(str, values)) - places.keys())
        if unknown:
            raise ValueError(f"the label {unknown[0]!r} is none of the classes {', '.join(map(repr, names))}")
        return torch.tensor([places[str(value)] for value in values]), names
    if values.dtype.kind not in "iub" or values.min(initial=0) < 0:
        least = f" from {values.min()}" if values.dtype.kind in "iuf" else ""
        raise ValueError(f"labels must be names or whole numbers from 0, got {values.dtype}{least}")
    values = values.astype(np.int64)
    names = tuple(map(str, range(int(values.max(initial=-1)) + 1))) if names is None else names
    if values.max(initial=-1) >= len(names):
        raise ValueError(f"the label {values.max()} has no name: names are given of {count_of(names)}")
    return torch.from_numpy(values), names
