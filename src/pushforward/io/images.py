"""Files of images read: folders of PNG and JPEG, arrays (.npy, .npz), MNIST's idx files."""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import npz_axes
from .decode import BadImageError, Header, decode_all, import_pillow, read_header
from .image_writer import folder_of
from .pixels import Bytes, as_bytes, in_layout

PICTURES = (".png", ".jpg", ".jpeg")
ARRAYS = (".npy", ".npz")
IN_MEMORY = 2**31  # bytes of decoded images; more are put into a temporary file that is mapped into memory
_IMAGE_KEYS = ("images", "x_train", "train_images", "x", "data", "x_test", "test_images")
_LABEL_KEYS = {"x_train": "y_train", "train_images": "train_labels", "x_test": "y_test", "test_images": "test_labels"}
_PARTS_OF_DATA = {"train", "test", "val", "validation"}
_SHOWN = 5


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


def is_images(path: str | PathLike[str]) -> bool:
    """Whether a path holds images: a folder with pictures, a picture, an idx file, or bytes (N, H, W[, C]).

    Only names and headers are looked at.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return any(True for _ in _pictures(path))
    except OSError:  # it is no path, but a query
        return False
    if path.suffix.lower() in PICTURES or _is_idx(path):
        return True
    if path.suffix.lower() not in ARRAYS or not path.is_file():
        return False
    try:
        if zipfile.is_zipfile(path):
            arrays = npz_axes(path)
            ndim, dtype = arrays[_image_key(path, arrays)]
        else:
            loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
            ndim, dtype = loaded.ndim, loaded.dtype
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return False
    return dtype.kind in "uifb" and ndim in (3, 4)


def read_images(
    source: str | PathLike[str], *, mode: str | None = None, skip_bad: bool = False, in_memory: int = IN_MEMORY,
    size: tuple[int, int] | None = None, classes: Sequence[str] = (),
) -> ImageData:  # fmt: skip
    """Reads images of one size from a folder or a file.

    A folder's pictures are those of it and its subfolders; if all are in subfolders, of which there are two at least,
    these are the classes, in order of their names. Palettes, black and white, CMYK and opaque alpha channels are
    converted, which `notes` tells. Many files are decoded by several processes.

    Args:
        source: a folder of .png, .jpg, .jpeg; a picture; .npy; .npz (an array called images, x_train, x or data, or the
            only one that can be images; labels, y_train or y beside it); an idx file of MNIST, packed by gzip or not,
            beside which its labels are found by their name.
        mode: "L" or "RGB", to which all pictures are converted, and which arrays must be; None expects images to be
            alike.
        skip_bad: leave out pictures that cannot be taken, or have another size or mode than most; else the first is an
            error.
        in_memory: bytes above which decoded pictures are kept in a temporary file.
        size: (H, W) that images must have; None expects them to be alike.
        classes: names of classes of which a single subfolder may be one.

    Raises:
        OSError: the source cannot be read.
        ValueError: there are no images; sizes or modes differ (the file is named), or are not those given; a corrupt
            file, real transparency, 16 bits a channel; a picture so large that it may be meant to fill the memory.
        ImportError: pictures need Pillow.
    """
    path = Path(source)
    if mode not in (None, "L", "RGB"):
        raise ValueError(f"mode must be L, RGB or None, got {mode!r}")
    options = _Options(mode, skip_bad, in_memory, size, classes)
    if path.is_dir():
        return _read_folder(path, options)
    if path.suffix.lower() in PICTURES:
        return _read_pictures([path], path.parent, options)
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if path.suffix.lower() in ARRAYS or _is_idx(path):
        data = _read_idx(path) if _is_idx(path) else _read_arrays(path)
        _check_array(data, path, options)
        return data
    raise ValueError(f"{path}: expected a folder of {', '.join(PICTURES)}, a .npy or .npz file, or an idx file")


@dataclass(frozen=True)
class _Options:
    """The arguments of `read_images` that are of pictures."""

    mode: str | None
    skip_bad: bool
    in_memory: int
    size: tuple[int, int] | None
    classes: Sequence[str]


def _pictures(folder: Path) -> Iterator[Path]:
    """The pictures of a folder and its subfolders, but for hidden ones, as of notebooks and file systems."""
    for root, folders, names in os.walk(folder, followlinks=True):
        above = os.path.realpath(root)
        paths = {name: os.path.realpath(os.path.join(root, name)) for name in folders}
        # A link to a folder that it lies in would have no end.
        folders[:] = [n for n, path in paths.items() if n[0] != "." and not f"{above}/".startswith(f"{path}/")]
        yield from (Path(root, n) for n in names if Path(n).suffix.lower() in PICTURES and n[0] != ".")


def _read_folder(folder: Path, options: _Options) -> ImageData:
    files = sorted(_pictures(folder))
    if not files:
        raise ValueError(
            f"{folder} holds no images: expected files ending in {', '.join(PICTURES)}, or folders of them"
        )
    return _read_pictures(files, folder, options)


def _read_pictures(files: Sequence[Path], folder: Path, options: _Options) -> ImageData:
    """Checks the headers of all files, then decodes them."""
    import_pillow()
    headers, skipped = _headers(files, options)
    if not headers:
        raise ValueError(f"{folder}: none of {len(files):,} images can be read")
    good, shape = list(headers), next(iter(headers.values())).shape
    images = _empty((len(good), *shape), options.in_memory)
    bad = decode_all(good, options.mode, images)
    if bad and not options.skip_bad:
        at = min(bad)
        raise ValueError(f"{good[at]}: {bad[at]}")
    if bad:
        rest = [i for i in range(len(good)) if i not in bad]
        if not rest:
            raise ValueError(f"{folder}: none of {len(files):,} images can be decoded")
        skipped += [str(good[i]) for i in sorted(bad)]
        images, good = images[rest], [good[i] for i in rest]
    labels, classes = _classes(good, folder, options.classes)
    counts = Counter(headers[file].note for file in good if headers[file].note)
    notes = [f"{n:,} of {len(good):,} images: {note}" for note, n in counts.items()]
    notes += _about_classes(good, folder, classes)
    layout = "HW" if shape[0] == 1 else "HWC"
    return ImageData(in_layout(images, layout), labels, classes, [str(p) for p in good], sorted(skipped), notes)


def _headers(files: Sequence[Path], options: _Options) -> tuple[dict[Path, Header], list[str]]:
    """The headers of files of one shape, and the files that are left out.

    Raises:
        ValueError: a file is corrupt or of another shape than most, and none may be left out.
    """
    headers: dict[Path, Header] = {}
    skipped: list[str] = []
    for file in files:
        try:
            headers[file] = read_header(file, options.mode)
        except BadImageError as error:
            if not options.skip_bad:
                raise ValueError(f"{file}: {error}") from None
            skipped.append(str(file))
    if not headers:
        return headers, skipped
    sizes = Counter(header.shape[1:] for header in headers.values())
    usual = options.size or sizes.most_common(1)[0][0]
    for file, header in list(headers.items()):
        if header.shape[1:] != usual:
            if not options.skip_bad:
                raise ValueError(_has_another_size(file, header.shape[1:], usual, options.size is not None))
            skipped.append(str(file))
            del headers[file]
    channels = Counter(header.shape[0] for header in headers.values()).most_common(1)
    odd = [file for file, header in headers.items() if header.shape[0] != channels[0][0]]
    if odd and options.skip_bad:
        skipped += [str(file) for file in odd]
        headers = {file: header for file, header in headers.items() if header.shape[0] == channels[0][0]}
    elif odd:
        words = {1: "grey", 3: "in colour"}
        raise ValueError(
            f"{odd[0]} is {words[headers[odd[0]].shape[0]]}, {channels[0][1]:,} others are {words[channels[0][0]]}: "
            "read all of them as grey (mode=L) or in colour (mode=RGB)"
        )
    return headers, skipped


def _has_another_size(file: Path, size: tuple[int, ...], usual: tuple[int, ...], is_given: bool) -> str:
    """What is wrong with a file, in the words of programs for pictures, which tell the width first."""
    (height, width), (usual_height, usual_width) = size, usual
    others = "the images that are expected" if is_given else "most images here"
    return (
        f"{file} is {width} x {height} pixels (width x height), {others} are {usual_width} x {usual_height}: resize or "
        "crop them to one size"
    )


def _classes(
    files: Sequence[Path], folder: Path, known: Sequence[str]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Numbers and names of the classes, if all files are in subfolders: two at least, or one of a known class."""
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(part) < 2 for part in parts):
        return None, ()
    named = {folder_of(name): name for name in known}
    of_files = [named.get(part[0], part[0]) for part in parts]
    names = sorted(set(of_files))
    if len(names) < 2 and not set(names) <= set(known):
        return None, ()
    places = {name: i for i, name in enumerate(names)}
    return np.array([places[name] for name in of_files], dtype=np.int64), tuple(names)


def _about_classes(files: Sequence[Path], folder: Path, classes: Sequence[str]) -> list[str]:
    """What may be wrong with the classes of files."""
    stray = [path for path in files if path.parent == folder]
    notes = []
    if 0 < len(stray) < len(files):
        notes.append(f"{stray[0]} is in no subfolder, as {len(files) - len(stray):,} others are: none has a class")
    if {name.lower() for name in classes} & _PARTS_OF_DATA:
        notes.append(f"the classes are {', '.join(classes)}: if these are parts of data, give one of the folders")
    return notes


def _empty(shape: tuple[int, ...], in_memory: int) -> Bytes:
    """Room for images, in memory or in a temporary file, which is gone with the array."""
    if np.prod(shape, dtype=np.float64) <= in_memory:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="pushforward-images-") as file:  # the map holds it open
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _read_arrays(path: Path) -> ImageData:
    """Reads .npy and .npz."""
    try:
        loaded: Any = np.load(path, mmap_mode="c", allow_pickle=False)
        arrays = {} if isinstance(loaded, np.ndarray) else npz_axes(path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or holds objects: {error}") from None
    if isinstance(loaded, np.ndarray):
        return _checked_arrays(path, loaded, None)
    with loaded:
        key = _image_key(path, arrays)
        names = (_LABEL_KEYS.get(key), "labels", "label", "y", "targets")
        try:
            labels = next((loaded[name] for name in names if name in loaded), None)
        except ValueError as error:
            raise ValueError(f"{path}: its labels are objects, save names as text, astype(str): {error}") from None
        return _checked_arrays(path, loaded[key], labels)


def _check_array(data: ImageData, path: Path, options: _Options) -> None:
    """Raises ValueError where the images of an array are not as asked for: pictures alone are converted."""
    channels, *size = as_bytes(data.images)[0].shape[1:]
    own = {1: "L", 3: "RGB"}[channels]
    if options.mode not in (None, own):
        words = {"L": "grey", "RGB": "colour"}
        raise ValueError(
            f"{path} holds {words[own]} images, expected {words[options.mode]} ones (mode {options.mode}): arrays are "
            "not converted, as pictures are"
        )
    if options.size is not None and tuple(size) != tuple(options.size):
        raise ValueError(
            f"{path} holds images of {size[0]} x {size[1]}, expected {options.size[0]} x {options.size[1]}"
        )


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


def _checked_arrays(path: Path, array: NDArray[Any], labels: NDArray[Any] | None) -> ImageData:
    """Images and labels of an array file, checked."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        planes, layout = as_bytes(array, name=str(path))
    notes = [str(w.message) for w in caught]
    if labels is None:
        return ImageData(in_layout(planes, layout), notes=notes)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # as of CIFAR
    labels = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    if labels.dtype.kind == "f" and np.array_equal(labels, labels.round()):
        labels = labels.astype(np.int64)
    if labels.shape != (len(planes),) or labels.dtype.kind not in "iuUb":
        raise ValueError(
            f"{path}: expected {len(planes):,} labels, whole numbers or names, got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    names, numbers = np.unique(labels, return_inverse=True)
    classes = tuple(map(str, names.tolist()))
    return ImageData(in_layout(planes, layout), numbers.astype(np.int64), classes, notes=notes)


def _is_idx(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return name.endswith("ubyte") or name.endswith(".idx")


def _read_idx(path: Path) -> ImageData:
    """Reads an idx file of images, and that of the labels beside it."""
    images = _idx(path, 3)
    if images.ndim != 3:
        raise ValueError(f"{path} holds labels: give the file of the images")
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.exists():
        return ImageData(images)
    labels = _idx(beside, 1)
    if labels.shape != (len(images),):
        raise ValueError(f"{beside} holds {len(labels):,} labels for {len(images):,} images")
    names, numbers = np.unique(labels, return_inverse=True)
    return ImageData(images, numbers.astype(np.int64), tuple(map(str, names.tolist())))


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
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]].ljust(4 * data[3], b"\0"))
    values = np.frombuffer(bytearray(data), np.uint8, offset=4 + 4 * data[3])
    if len(values) != np.prod(shape, dtype=np.float64) or not len(values):
        raise ValueError(f"{path} is cut off: it says {' x '.join(map(str, shape))} and holds {len(values):,} bytes")
    return values.reshape(shape)
