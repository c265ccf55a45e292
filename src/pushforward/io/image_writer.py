"""Images written: grids, folders of PNG, arrays."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import atomic
from .decode import import_pillow
from .names import shown
from .pixels import Bytes

_LEAST_SIDE = 64  # pixels of an image of a grid, to which small ones are enlarged by a whole number
_GAP = 2  # pixels between the images of a grid
_FONT, _LONGEST_NAME = (10.0, 24.0), 24  # of the names of rows: least and largest size; letters
_NOT_IN_NAMES = '%./\\:*?"<>|'  # of folders: what has a meaning in paths on one system or another


def write_images(
    rows: Bytes, planes: Bytes, path: Path, columns: int | None = None, names: Sequence[str] = ()
) -> None:  # fmt: skip
    """Writes images, whole or not at all: .npy, .png (a grid), or a new or empty folder with a .png each.

    Args:
        rows: the array of a .npy file.
        planes: the same as (N, C, H, W).
        path: where to.
        columns: of a grid; None as `grid`.
        names: of groups of as many images each, which begin a row of a grid each, with the name to the left.

    Raises:
        ValueError: another suffix, or the folder is not empty.
    """
    check_target(path)
    if path.suffix.lower() == ".npy":
        with atomic(path) as part:
            np.save(part, rows)
    elif path.suffix.lower() == ".png":
        with atomic(path) as part:
            sizes = [len(planes) // len(names)] * len(names) if names else [len(planes)]
            picture = _as_picture(grid(_enlarged(planes), columns, sizes))
            _named(picture, names, rows_of_groups(sizes, columns)).save(part, format="PNG")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            part = Path(folder, path.name)
            part.mkdir()
            digits = len(str(len(planes) - 1))
            for i, image in enumerate(planes):
                _as_picture(image).save(part / f"{i:0{digits}d}.png", format="PNG")
            if path.exists():
                path.rmdir()  # which is empty
            part.rename(path)


def check_target(path: Path) -> None:
    """Refuses a path that images cannot be written to, before they are made.

    Raises:
        ValueError: another suffix, or a folder that is not empty.
    """
    if path.suffix.lower() in (".npy", ".png"):
        return
    if path.suffix:
        raise ValueError(f"cannot write images to {path}: expected .npy, .png for a grid, or the name of a folder")
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"the folder {path} is not empty")


def folder_of(name: str) -> str:
    """The folder of the images of a class: its name, with what paths may not hold as %XX.

    Example:
        >>> folder_of("cat"), folder_of("a/b"), folder_of("..")
        ('cat', 'a%2Fb', '%2E%2E')
    """
    return "".join(f"%{ord(c):02X}" if c in _NOT_IN_NAMES or ord(c) < 32 else c for c in name) or "%"


def _enlarged(planes: Bytes) -> Bytes:
    """Small images with each pixel as several, for eyes."""
    factor = max(1, _LEAST_SIDE // max(planes.shape[2:]))
    return planes.repeat(factor, axis=2).repeat(factor, axis=3)


def grid(planes: Bytes, columns: int | None = None, sizes: Sequence[int] = ()) -> Bytes:
    """Images (N, C, H, W), N at least 1, side by side on white: -> one image (C, rows, columns), about as wide as high.

    Args:
        planes: the images.
        columns: of the grid; None for about as many as rows.
        sizes: of groups of images, each of which begins a row; their sum is N. Empty for one group.

    Raises:
        ValueError: there are no images.

    Example:
        >>> grid(np.zeros((4, 1, 8, 8), np.uint8)).shape
        (1, 22, 22)
    """
    count, channels, height, width = planes.shape
    if count < 1:
        raise ValueError("a grid needs at least 1 image")
    sizes = sizes or [count]
    columns = _columns(sizes) if columns is None else columns
    rows = rows_of_groups(sizes, columns)
    size = (sum(rows) * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP)
    picture = np.full((channels, *size), 255, np.uint8)
    firsts = np.cumsum([0, *rows])
    places = [(first + i // columns, i % columns) for first, n in zip(firsts, sizes, strict=False) for i in range(n)]
    for image, (row, column) in zip(planes, places, strict=True):
        top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        picture[:, top : top + height, left : left + width] = image
    return picture


def rows_of_groups(sizes: Sequence[int], columns: int | None = None) -> list[int]:
    """How many rows of a grid each group of images takes; columns as in `grid`."""
    columns = _columns(sizes) if columns is None else columns
    return [-(-size // columns) for size in sizes]


def _columns(sizes: Sequence[int]) -> int:
    """Of a grid about as wide as high, and no wider than its rows are filled."""
    most = max(sizes)
    rows = -(-most // math.ceil(math.sqrt(sum(sizes))))
    return -(-most // rows)


def short_name(name: str) -> str:
    """A name as fits beside a row of a grid."""
    name = shown(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _named(picture: Any, names: Sequence[str], rows: Sequence[int]) -> Any:
    """A grid of Pillow with names of groups of so many rows to the left, at most as long as fits a few images."""
    if not names:
        return picture
    from PIL import Image, ImageDraw

    step = (picture.height - _GAP) / sum(rows)
    font = _font(max(_FONT[0], min(_FONT[1], step / 3)))
    short = [short_name(name) for name in names]
    margin = round(max(font.getlength(name) for name in short)) + 4 * _GAP
    wide = Image.new(picture.mode, (margin + picture.width, picture.height), "white")
    wide.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(wide)
    for name, middle in zip(short, np.cumsum(rows) - np.array(rows) / 2, strict=True):
        draw.text((margin - 2 * _GAP, _GAP + middle * step), name, fill="black", font=font, anchor="rm")
    return wide


def _font(size: float) -> Any:
    """That of matplotlib where it is installed, which has the letters of most languages; else Pillow's."""
    from PIL import ImageFont

    with suppress(ImportError, OSError):
        import matplotlib

        return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
    return ImageFont.load_default(size)


def _as_picture(image: Bytes) -> Any:
    """An image (C, H, W) of Pillow.

    Raises:
        ValueError: it has another number of channels than 1 and 3.
    """
    pillow = import_pillow()
    if len(image) not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, got {len(image)}")
    return pillow.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, 2)))
