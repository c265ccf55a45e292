"""Files of images read: folders of PNG and JPEG, one by one or many at once; see `image_arrays` for arrays."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .decode import BadImageError, Header, decode_all, import_pillow, read_header
from .image_arrays import ARRAYS, holds_images, is_idx, read_arrays, read_idx
from .image_writer import folder_of
from .names import contents, shown
from .pixels import Bytes, ImageData, as_bytes, in_layout, size_text

PICTURES = (".png", ".jpg", ".jpeg")
IN_MEMORY = 2**31  # bytes of decoded images; more are put into a temporary file that is mapped into memory
_SHOWN = 5  # links in a message
_PARTS_OF_DATA = {"train", "test", "val", "validation"}


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
    if path.suffix.lower() in PICTURES or is_idx(path):
        return True
    return path.suffix.lower() in ARRAYS and path.is_file() and holds_images(path)


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
    if path.suffix.lower() in ARRAYS or is_idx(path):
        data = read_idx(path) if is_idx(path) else read_arrays(path)
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


def _pictures(folder: Path, left_out: list[str] | None = None) -> Iterator[Path]:
    """The pictures of a folder and its subfolders, but for hidden ones, as of notebooks and file systems.

    Each folder is read once, however many links lead to it, by the name of the folder itself if it lies in here, else
    by that of the first link.

    Args:
        folder: to be read.
        left_out: gets the links to folders that were read before.
    """
    starts, seen = [str(folder)], set()
    for start in starts:  # links that are found are put behind
        if left_out is not None and os.path.realpath(start) in seen:
            left_out.append(start)
        for root, folders, names in os.walk(start):
            real = os.path.realpath(root)
            folders[:] = [] if real in seen else sorted(n for n in folders if n[0] != ".")
            names = [] if real in seen else names
            seen.add(real)
            links = [os.path.join(root, n) for n in folders if os.path.islink(os.path.join(root, n))]
            # A link to a folder that it lies in holds what is not meant.
            starts += [link for link in links if not Path(real).is_relative_to(os.path.realpath(link))]
            yield from (Path(root, n) for n in names if Path(n).suffix.lower() in PICTURES and n[0] != ".")


def _read_folder(folder: Path, options: _Options) -> ImageData:
    links: list[str] = []
    files = sorted(_pictures(folder, links))
    if not files:
        raise ValueError(
            f"{folder} holds no images: expected files ending in {', '.join(PICTURES)}, or folders of them; "
            f"{contents(folder)}"
        )
    data = _read_pictures(files, folder, options)
    if links:
        data.notes.append(f"links to folders that are read by another name are left out: {', '.join(links[:_SHOWN])}")
    return data


def _read_pictures(files: Sequence[Path], folder: Path, options: _Options) -> ImageData:
    """Checks the headers of all files, then decodes them."""
    import_pillow()
    headers, skipped = _headers(files, options)
    if not headers:
        raise ValueError(f"{folder}: none of {len(files):,} images can be read and has the size that is wanted")
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
        except (BadImageError, OSError) as error:  # such as a link to nowhere
            if not options.skip_bad:
                if isinstance(error, OSError):
                    raise
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
    """What is wrong with a file."""
    others = "the images that are expected" if is_given else "most images here"
    return f"{file} is {size_text(size)}, {others} are {size_text(usual)}: resize or crop them to one size"


def _classes(
    files: Sequence[Path], folder: Path, known: Sequence[str]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Numbers and names of the classes, if all files are in subfolders: two at least, or one of a known class."""
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(part) < 2 for part in parts):
        return None, ()
    named = {folder_of(name): name for name in known}
    of_files = [named.get(part[0], shown(part[0])) for part in parts]
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
        raise ValueError(f"{path} holds images of {size_text(size)}, expected {size_text(options.size)}")
