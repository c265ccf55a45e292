"""The space of images of bytes: how they are read, compared and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import as_count
from ..density import Density, Feature, Space
from ..io.pixels import LAYOUTS, Shape, as_bytes, as_labels, in_layout, words_of
from .encoding import ByteEncoding
from .independent import fit_pixels
from .noise import random_noise, uniforms

_GRID = 8  # blocks of an image in each direction, whose means are its features


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """An array as a tensor, in the same memory where it may be written to and no axis is reversed."""
    shares = images.flags.writeable and min(images.strides, default=0) >= 0
    return torch.from_numpy(images if shares else images.copy())


def count_of(classes: Sequence[str]) -> str:
    """How many classes there are."""
    return f"{len(classes)} class{'' if len(classes) == 1 else 'es'}"


def check_classes(classes: Any) -> tuple[str, ...]:
    """The names of classes.

    Raises:
        ValueError: they are no list of names, or two are the same.
    """
    is_list = isinstance(classes, Iterable) and not isinstance(classes, str | bytes)
    names = list(classes) if is_list else []
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes must be a list of names, got {classes!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"the names of classes must differ, got {names}")
    return tuple(map(str, names))


class Images(Space):
    """Images of bytes of one shape.

    Args:
        shape: (C, H, W).
        layout: of the images that are given back: "HW" (N, H, W), "HWC" (N, H, W, C) or "CHW" (N, C, H, W); None takes
            the first for grey images and else the second. All layouts are read.
        classes: names of the classes, where images are drawn from one of them.
        encoding: gives the numbers that simple densities see in place of bytes; None for bytes in [0, 1).
        wrap: makes a density over images from one over these; see `Space.wrap`.

    Raises:
        ValueError: the layout is unknown or has no room for the channels, or classes are no names that differ.
    """

    def __init__(
        self,
        shape: Shape,
        layout: str | None = None,
        classes: Sequence[str] = (),
        *,
        encoding: Callable[[], ByteEncoding] | None = None,
        wrap: Callable[[Density, Images], Density] | None = None,
    ) -> None:
        self.shape = shape
        self.layout = ("HW" if shape[0] == 1 else "HWC") if layout is None else layout
        if self.layout not in LAYOUTS or (self.layout == "HW" and shape[0] != 1):
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, HW for one channel alone, got {layout!r}")
        self.classes = check_classes(classes)
        self._encoding = encoding
        self._wrap = wrap

    @property
    def words(self) -> Mapping[str, str]:  # type: ignore[override]
        """Of reports: the columns of features are pixels of small images, and means of blocks of others."""
        of_features = "pixel" if max(self.shape[1:]) <= _GRID else "block"
        return {
            "a row": "an image", "row": "image", "rows": "images", "column": of_features, "columns": f"{of_features}s"
        }  # fmt: skip

    @property
    def byte_count(self) -> int:  # type: ignore[override]
        """C * H * W."""
        return math.prod(self.shape)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one image in the layout."""
        channels, height, width = self.shape
        return {"HW": (height, width), "HWC": (height, width, channels), "CHW": self.shape}[self.layout]

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of the pixels, channel by channel: y3 x4 is that of row 3 and column 4, in colour red y3 x4 and so on."""
        channels, height, width = self.shape
        colours = {1: [""], 3: ["red ", "green ", "blue "]}.get(channels, [f"channel {c} " for c in range(channels)])
        return tuple(f"{colour}y{y} x{x}" for colour in colours for y in range(height) for x in range(width))

    def describe(self) -> str:
        """What the images are, with the classes."""
        words = words_of(self.shape)
        return f"{words}\n{count_of(self.classes)}: {', '.join(self.classes)}" if self.classes else words

    def read(self, source: Any) -> Tensor:
        """Images in any layout, or a file or a folder of some -> bytes in the layout of the space, (N, *row_shape).

        Raises:
            ValueError: they are others, as by their size or colours; see `io.pixels.as_bytes`.
            OSError: a file cannot be read.
        """
        if isinstance(source, str | PathLike):
            from ..io.images import read_images

            source = read_images(source).images
        return in_layout(self.planes(source), self.layout)

    def planes(self, source: Any) -> Tensor:
        """Images in any layout -> bytes (N, C, H, W); N may be 0."""
        if isinstance(source, Tensor) and source.dtype == torch.uint8 and source.shape[1:] == self.row_shape:
            if self.layout == "HW":
                return source[:, None]
            return source.permute(0, 3, 1, 2) if self.layout == "HWC" else source
        return as_tensor(as_bytes(source, self.shape, layout=self.layout)[0])

    @property
    def feature_list(self) -> list[Feature]:
        """The means of at most 8 x 8 blocks of each channel, by their first pixels."""
        channels, height, width = self.shape
        rows, columns = min(_GRID, height), min(_GRID, width)
        names, features = self.names, []
        for c in range(channels):
            for y in range(rows):
                for x in range(columns):
                    top, left = y * height // rows, x * width // columns
                    column = (c * height + top) * width + left
                    features.append(Feature(names[column], column, False))
        return features

    def features(self, rows: Any) -> NDArray[np.float64]:
        """N images -> the means of their blocks (N, F), 0 to 255."""
        height, width = self.shape[1:]
        planes = self.planes(rows)
        return F.adaptive_avg_pool2d(planes.double(), (min(_GRID, height), min(_GRID, width))).flatten(1).cpu().numpy()

    def as_pictures(self, rows: Any) -> NDArray[np.uint8]:
        """N images (N, H, W) or (N, H, W, C)."""
        return in_layout(self.planes(rows), "HW" if self.shape[0] == 1 else "HWC").cpu().numpy()

    def impossible(self, rows: Any) -> NDArray[np.bool_]:
        """None are: N images -> False (N,)."""
        return np.zeros(len(rows), dtype=bool)

    def encode(self, rows: Any, generator: torch.Generator | int | None = None) -> Tensor:
        """N images -> the numbers of their pixels with noise (N, C * H * W), float64; see `Space.encode`."""
        planes = self.planes(rows)
        if generator is None:
            noise = uniforms(planes, 0)
        else:
            generator = torch.Generator().manual_seed(generator) if isinstance(generator, int) else generator
            noise = random_noise(planes, generator)
        return self.encoding(planes, noise)[0].flatten(1)

    @property
    def encoding(self) -> ByteEncoding:
        """Gives the numbers of `encode`."""
        return ByteEncoding(alpha=None) if self._encoding is None else self._encoding()

    def wrap(self, inner: Density) -> Density:
        """The density over images of one over the numbers of `encode`."""
        if self._wrap is None:
            raise ValueError("this space was not made by a density of images, which wraps others")
        return self._wrap(inner, self)

    def baselines(self, rows: Any, context: Any = None) -> dict[str, tuple[str, Density]]:
        """Independent pixels, by the bytes of N images, of each class where there are classes."""
        return {"pixels": ("independent pixels", fit_pixels(rows, self, context))}

    def as_given(self, context: Tensor) -> Tensor:
        """Contexts (N, K) as numbers that simple densities may be linear in: of classes, which one it is."""
        if not self.classes:
            return context
        return torch.nn.functional.one_hot(context[:, 0].long(), len(self.classes)).to(torch.get_default_dtype())

    def write(
        self, rows: Any, path: str | PathLike[str], columns: int | None = None, names: Sequence[str] = ()
    ) -> None:
        """Writes N images: to a .npy file, to a .png of all of them as a grid, or to a new folder, one .png each.

        Args:
            rows: the images.
            path: where to.
            columns: images of a row of a grid; about as many as there are rows when None.
            names: of groups of as many images each, which begin a row of a grid each, with the name to the left.

        Raises:
            ValueError: another suffix.
            OSError: it cannot be written.
        """
        from ..io.image_writer import write_images

        write_images(rows.cpu().numpy(), self.planes(rows).cpu().numpy(), Path(path), columns, names)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Images, one part after another."""
        return torch.cat(list(parts))

    def contexts(self, context: Any) -> tuple[Tensor | None, tuple[int, ...]]:
        """A context as given -> one a row (M, K), and its leading axes *M; (None, ()) for none.

        Without classes a context is (*M, K). With classes K is 1 and it holds their numbers; a name or a number stands
        for one class, and a list of several for one context each, so that the last axis can be left out.

        Raises:
            ValueError: a class is not known, or none is given where there are some.
        """
        if context is None and self.classes:
            shown = ", ".join(map(repr, self.classes[:5])) + (", ..." if len(self.classes) > 5 else "")
            raise ValueError(f"this density is one of each class: give the class as context, of {shown}")
        if context is None:
            return None, ()
        if not self.classes:
            if as_labels(context).dtype.kind in "USO" or np.ndim(context) == 0:
                raise ValueError(
                    f"this density is of no classes, expected no context or one (*M, K), got {context!r:.60}"
                )
            values = torch.as_tensor(context)
            return values.reshape(-1, values.shape[-1]), tuple(values.shape[:-1])
        values = self._class_numbers(context)
        if values.ndim == 0 or values.shape == (1,):
            return values.reshape(1, 1), ()
        leading = tuple(values.shape) if values.ndim == 1 else tuple(values.shape[:-1])
        if values.numel() != math.prod(leading):
            raise ValueError(f"expected one class a row, (*M, 1), got a context of shape {tuple(values.shape)}")
        return values.reshape(-1, 1), leading

    def _class_numbers(self, context: Any) -> Tensor:
        """Names or numbers of classes, of any shape -> numbers."""
        places = {name: i for i, name in enumerate(self.classes)}
        if isinstance(context, Tensor):
            values = context
        else:
            array = as_labels(context)
            if array.dtype.kind in "US":
                unknown = sorted({str(name) for name in array.ravel()} - places.keys())
                if unknown:
                    raise ValueError(f"unknown class {unknown[0]!r}; there are {', '.join(map(repr, self.classes))}")
                array = np.array([places[str(name)] for name in array.ravel()], dtype=np.int64).reshape(array.shape)
            values = torch.as_tensor(array)
        numbers = values.to(torch.int64)
        if bool((numbers != values).any()) or bool(((numbers < 0) | (numbers >= len(self.classes))).any()):
            raise ValueError(f"classes must be whole numbers from 0 to {len(self.classes) - 1}, got {values.tolist()}")
        return numbers

    def index_contexts(self, n: int, context: Any) -> tuple[Tensor | None, NDArray[np.int64], int]:
        """Contexts (*M, K) -> (prod(M), K), their numbers, as drawn, and how many; (None, none, n) for none."""
        rows, count = self.contexts(context)[0], as_count(n)
        if rows is None:
            return None, np.empty(0, dtype=np.int64), count
        return rows, np.tile(np.arange(len(rows)), count), count * len(rows)

    def flatten_samples(self, drawn: Tensor) -> Tensor:
        """Draws (n, *M, *row_shape) -> (n * prod(M), *row_shape)."""
        return drawn.reshape(-1, *self.row_shape)

    def unflatten_samples(self, rows: Tensor, n: int, context: Any) -> Tensor:
        """Rows (n * prod(M), *row_shape) -> (n, *M, *row_shape)."""
        return rows.view(n, *self.contexts(context)[1], *self.row_shape)

    def matches(self, other: Space) -> bool:
        """Whether images have the same shape, layout and classes."""
        return isinstance(other, Images) and self._facts() == other._facts()

    def _facts(self) -> tuple[Any, ...]:
        return self.shape, self.layout, self.classes
