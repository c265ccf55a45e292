"""Arrays of images read: .npy, .npz, MNIST's idx files."""

from __future__ import annotations

import gzip
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import npz_axes
from .pixels import Bytes, ImageData, as_bytes, as_labels, in_layout

ARRAYS = (".npy", ".npz")
_IMAGE_KEYS = ("images", "x_train", "train_images", "x", "data", "x_test", "test_images")
_LABEL_KEYS = {"x_train": "y_train", "train_images": "train_labels", "x_test": "y_test", "test_images": "test_labels"}
_SHOWN = 5


def holds_images(path: Path) -> bool:
    """Whether an array, or one of an archive, may be of images, by its header alone."""
    try:
        if zipfile.is_zipfile(path):
            arrays = npz_axes(path)
            named = [arrays[key] for key in (*_IMAGE_KEYS, "X") if key in arrays][:1]  # X is of tables
        else:
            loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
            arrays, named = {}, [(loaded.ndim, loaded.dtype)]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return False
    return any(dtype.kind in "uifb" and ndim in (3, 4) for ndim, dtype in named or arrays.values())


def read_arrays(path: Path) -> ImageData:
    """Reads .npy and .npz.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or holds objects or no images.
    """
    try:
        loaded: Any = np.load(path, mmap_mode="c", allow_pickle=False)
        arrays = {} if isinstance(loaded, np.ndarray) else npz_axes(path)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise ValueError(f"{path} is damaged or holds objects: expected an array of bytes (uint8)") from None
    if isinstance(loaded, np.ndarray):
        return _checked(path, loaded, None)
    with loaded:
        key = _image_key(path, arrays)
        names = (_LABEL_KEYS.get(key), "labels", "label", "y", "targets")
        try:
            labels = next((loaded[name] for name in names if name in loaded), None)
        except ValueError:
            raise ValueError(f"{path}: its labels are objects, save names as text, astype(str)") from None
        return _checked(path, loaded[key], labels)


def _image_key(path: Path, arrays: Mapping[str, tuple[int, Any]]) -> str:
    """Which array of a .npz holds the images, by the numbers of axes of all."""
    for key in _IMAGE_KEYS:
        if key in arrays:
            return key
    fitting = [key for key, (ndim, _) in arrays.items() if ndim in (3, 4)]
    if len(fitting) != 1:
        raise ValueError(
            f"{path} must hold one array of images, called images, x_train, x or data; it has "
            f"{', '.join(list(arrays)[:_SHOWN]) or 'none'}"
        )
    return fitting[0]


def _checked(path: Path, array: NDArray[Any], labels: NDArray[Any] | None) -> ImageData:
    """Images and labels of an array file, checked."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        planes, layout = as_bytes(array, name=str(path))
    notes = [str(w.message) for w in caught]
    if labels is None:
        return ImageData(in_layout(planes, layout), notes=notes)
    labels = as_labels(labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels)  # as of CIFAR
    if labels.shape != (len(planes),) or labels.dtype.kind not in "iuUb":
        raise ValueError(
            f"{path}: expected {len(planes):,} labels, whole numbers or names, got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    return _labelled(in_layout(planes, layout), labels, notes)


def _labelled(images: Bytes, labels: NDArray[Any], notes: list[str]) -> ImageData:
    names, numbers = np.unique(labels, return_inverse=True)
    return ImageData(images, numbers.astype(np.int64), tuple(map(str, names.tolist())), notes=notes)


def is_idx(path: Path) -> bool:
    """Whether a name is one of MNIST's files."""
    name = path.name.removesuffix(".gz")
    return name.endswith("ubyte") or name.endswith(".idx")


def read_idx(path: Path) -> ImageData:
    """Reads an idx file of images, and that of the labels beside it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or holds no images.
    """
    images = _idx(path, 3)
    if images.ndim != 3:
        raise ValueError(f"{path} holds labels: give the file of the images")
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.exists():
        return ImageData(images)
    labels = _idx(beside, 1)
    if labels.shape != (len(images),):
        raise ValueError(f"{beside} holds {len(labels):,} labels for {len(images):,} images")
    return _labelled(images, labels, [])


def _idx(path: Path, axes: int) -> Bytes:
    """The bytes of an idx file: two zeros, the type 8, the number of axes, their sizes as big-endian integers."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{path} is damaged: {error}") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] not in (1, 3):
        raise ValueError(f"{path} is no idx file of bytes with {axes} axes")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise ValueError(f"{path} is cut off: it holds {len(data)} bytes, its header alone has {header}")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    values = np.frombuffer(bytearray(data), np.uint8, offset=header)
    if len(values) != np.prod(shape, dtype=np.float64) or not len(values):
        is_long = len(values) > np.prod(shape, dtype=np.float64)
        raise ValueError(
            f"{path} is {'too long' if is_long else 'cut off'}: it says {' x '.join(map(str, shape))} and holds "
            f"{len(values):,} bytes"
        )
    return values.reshape(shape)
