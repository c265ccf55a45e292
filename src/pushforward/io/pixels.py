"""Images as arrays of bytes (N, C, H, W), from arrays in any of the usual layouts, and the way back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Shape = tuple[int, int, int]
LAYOUTS = ("HW", "HWC", "CHW")


@dataclass
class ImageData:
    """Images of one shape, with their classes where the source has some.

    Attributes:
        images: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W); in memory or mapped from a temporary file.
        labels: (N,), numbers of classes; None for none.
        classes: their names.
        paths: the files that the images came from, where each came from one.
        skipped: corrupt files that were left out.
        notes: conversions, in words.
        rows: the numbers of the images that are meant; None for all.
    """

    images: Bytes
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    def part(self, index: NDArray[np.intp]) -> ImageData:
        """Some of the images, which stay where they are: in a file that memory does not hold."""
        rows = index if self.rows is None else self.rows[index]
        return ImageData(self.images, self.labels, self.classes, self.paths, rows=rows)

    def taken(self) -> ImageData:
        """The images that are meant, in memory by themselves."""
        if self.rows is None:
            return self
        labels = None if self.labels is None else self.labels[self.rows]
        paths = [self.paths[i] for i in self.rows] if self.paths else []
        return ImageData(self.images[self.rows], labels, self.classes, paths)


def as_bytes(
    values: Any, shape: Shape | None = None, name: str = "images", layout: str | None = None
) -> tuple[Bytes, str]:  # fmt: skip
    """Images in any layout -> bytes (N, C, H, W), where they can be in the same memory; and the layout.

    Args:
        values: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3. Other whole numbers from 0 to 255, and
            numbers from 0 to 1, which stand for 255ths, are converted with a warning.
        shape: (C, H, W) that they must have, with any C; None takes what comes. Where a shape fits two layouts, as that
            of colour images of 3 x 3, the one whose sides are longer is taken, or (N, H, W, C).
        name: for messages.
        layout: of `LAYOUTS`, which is taken where it fits.

    Raises:
        ValueError: another shape, images of several shapes, there are none, or values out of range.

    Example:
        >>> as_bytes(np.zeros((5, 8, 6, 3), np.uint8))[0].shape
        (5, 3, 8, 6)
    """
    array = _as_array(values, name)
    layout = _natural_layout(array, name) if shape is None else _layout_of(array, shape, name, layout)
    array = _converted(array, name)
    if layout == "HW":
        array = array[:, None]
    elif layout == "HWC":
        array = np.moveaxis(array, 3, 1)
    return array, layout


def as_labels(values: Any) -> NDArray[Any]:
    """Classes as an array of names or whole numbers.

    Objects that are all names, as of pandas, and bytes become text; floats without a fraction become integers.
    """
    labels = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8")
    if labels.dtype.kind == "f" and np.array_equal(labels, labels.round()) and np.isfinite(labels).all():
        return labels.astype(np.int64)
    is_text = labels.dtype.kind == "O" and all(isinstance(name, str) for name in labels.ravel())
    return labels.astype(str) if is_text else labels


def in_layout(images: Any, layout: str) -> Any:
    """Images (N, C, H, W), an array or a tensor -> (N, H, W) for "HW", (N, H, W, C) for "HWC", the same for "CHW"."""
    if layout == "HW":
        return images[:, 0]
    return images.swapaxes(1, 2).swapaxes(2, 3) if layout == "HWC" else images


def words_of(shape: Shape) -> str:
    """What images of a shape (C, H, W) are, for people.

    Example:
        >>> words_of((1, 28, 28))
        'grey images of 28 x 28'
    """
    kind = {1: "grey", 3: "colour"}.get(shape[0], f"{shape[0]}-channel")
    return f"{kind} images of {size_text(shape[1:])}"


def size_text(size: Sequence[int]) -> str:
    """The size (H, W) of an image, for people, as arrays have it, where programs for pictures tell the width first.

    Example:
        >>> size_text((9, 7)), size_text((8, 8))
        ('9 x 7 (height x width)', '8 x 8')
    """
    height, width = size
    return f"{height} x {width}" + ("" if height == width else " (height x width)")


def _as_array(values: Any, name: str) -> NDArray[Any]:
    """Images, a tensor, an array or a list of such, as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.is_floating_point() else values)
    try:
        return np.asarray(values)
    except ValueError:
        shapes = sorted({np.shape(image) for image in values})
        raise ValueError(f"{name} must be of one shape, got {', '.join(map(str, shapes[:5]))}") from None


def _layout_of(array: NDArray[Any], shape: Shape, name: str, preferred: str | None) -> str:
    """The layout of images of a shape (C, H, W)."""
    channels, height, width = shape
    known = {"HWC": (height, width, channels), "CHW": shape} | ({"HW": (height, width)} if channels == 1 else {})
    fitting = [layout for layout, sizes in known.items() if sizes == array.shape[1:] and len(array)]
    if fitting:
        return preferred if preferred in fitting else fitting[0]
    if array.ndim == 3 and channels == 3 and array.shape[1:] == (height, width):
        raise ValueError(f"expected colour images, {name} are grey: repeat them as three channels to score them")
    expected = " or ".join(f"(N, {', '.join(map(str, s))})" for s in dict.fromkeys(known.values()))
    raise ValueError(f"expected {name} of shape {expected} with N >= 1, got {array.shape}")


def _natural_layout(array: NDArray[Any], name: str) -> str:
    """The layout of images of any shape."""
    if array.ndim == 3 and array.size:
        return "HW"
    if array.ndim == 4 and array.size:
        _, a, b, c = array.shape
        sides = {
            layout: min(s) for layout, channels, s in (("HWC", c, (a, b)), ("CHW", a, (b, c))) if channels in (1, 3)
        }
        if sides:
            return max(sides, key=lambda layout: sides[layout])
    alpha = array.ndim == 4 and bool({2, 4} & {array.shape[3], array.shape[1]})
    hint = "; an alpha channel must be left out" if alpha else ""
    hint = "; one image needs a leading axis: image[None]" if array.ndim == 2 else hint
    raise ValueError(
        f"expected {name} of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, got {array.shape}{hint}"
    )


def _converted(array: NDArray[Any], name: str) -> Bytes:
    """The values as bytes."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        warnings.warn(f"{name}: truth values are taken as black and white", stacklevel=4)
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected {name} of dtype uint8, got {array.dtype}")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            got = "some that are NaN" if np.isnan(low) else f"{low:g} to {high:g}"
            raise ValueError(f"{name}: expected bytes (uint8), or numbers from 0 to 1, got {array.dtype}, {got}")
        warnings.warn(f"{name}: numbers ({array.dtype}) are rounded to bytes, 255 times their value", stacklevel=4)
        return np.rint(array * 255).astype(np.uint8)
    if low < 0 or high > 255:
        hint = ": images of 16 bits are not supported" if high > 255 else ""
        raise ValueError(f"expected {name} of dtype uint8, got {array.dtype} from {low} to {high}{hint}")
    warnings.warn(f"{name}: whole numbers ({array.dtype}) from 0 to 255 are taken as bytes", stacklevel=4)
    return array.astype(np.uint8)
