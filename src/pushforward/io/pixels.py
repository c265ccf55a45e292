"""Images as arrays of bytes (N, C, H, W), from arrays in any of the usual layouts, and the way back."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Shape = tuple[int, int, int]
LAYOUTS = ("HW", "HWC", "CHW")


def as_bytes(values: Any, shape: Shape | None = None, name: str = "images") -> tuple[Bytes, str]:
    """Images in any layout -> bytes (N, C, H, W), where they can be in the same memory; and the layout.

    Args:
        values: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3. Other whole numbers from 0 to 255, and
            numbers from 0 to 1, which stand for 255ths, are converted with a warning.
        shape: (C, H, W) that they must have, with any C; None takes what comes.
        name: for messages.

    Raises:
        ValueError: another shape, there are none, or values out of range.

    Example:
        >>> as_bytes(np.zeros((5, 8, 6, 3), np.uint8))[0].shape
        (5, 3, 8, 6)
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    layout = _layout(array, shape, name)
    array = _converted(array, name)
    if layout == "HW":
        array = array[:, None]
    elif layout == "HWC":
        array = np.moveaxis(array, 3, 1)
    return array, layout


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
    return f"{kind} images of {shape[1]} x {shape[2]}"


def _layout(array: NDArray[Any], shape: Shape | None, name: str) -> str:
    """The layout of images, which is that of the shape where one is known."""
    sizes = array.shape[1:]
    if shape is not None:
        channels, height, width = shape
        known: dict[tuple[int, ...], str] = {(height, width, channels): "HWC", (channels, height, width): "CHW"}
        if channels == 1:
            known[height, width] = "HW"
        if sizes in known and len(array):
            return known[sizes]
        if array.ndim == 3 and channels == 3 and sizes == (height, width):
            raise ValueError(f"expected colour images, {name} are grey: repeat them as three channels to score them")
        expected = " or ".join(f"(N, {', '.join(map(str, s))})" for s in known)
        raise ValueError(f"expected {name} of shape {expected} with N >= 1, got {array.shape}")
    if array.ndim == 3 and array.size:
        return "HW"
    if array.ndim == 4 and array.size and 3 in (array.shape[3], array.shape[1]):
        return "HWC" if array.shape[3] == 3 else "CHW"
    if array.ndim == 4 and array.size and 1 in (array.shape[3], array.shape[1]):
        return "HWC" if array.shape[3] == 1 else "CHW"
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
        warnings.warn(f"{name} are truth values: taken as black and white", stacklevel=4)
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected {name} of dtype uint8, got {array.dtype}")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{name} of dtype {array.dtype} must be from 0 to 1, got {low:g} to {high:g}; or give uint8"
            )
        warnings.warn(f"{name} of dtype {array.dtype} are rounded to bytes, 255 times their value", stacklevel=4)
        return np.rint(array * 255).astype(np.uint8)
    if low < 0 or high > 255:
        hint = ": images of 16 bits are not supported" if high > 255 else ""
        raise ValueError(f"expected {name} of dtype uint8, got {array.dtype} from {low} to {high}{hint}")
    warnings.warn(f"{name} of dtype {array.dtype} are within 0 and 255: taken as bytes", stacklevel=4)
    return array.astype(np.uint8)
