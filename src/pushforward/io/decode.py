"""Single pictures: their headers and their pixels, by Pillow; many of them in processes of their own."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .pixels import Bytes, Shape

MOST_PIXELS = 2**26  # of one image; more may be meant to fill the memory
MANY = 2000  # files, for which starting processes pays
_EXIF_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # the number of the tag; from which value on width and height change places
_AS_GREY = ("1", "L")
_AS_COLOUR = ("RGB", "P", "CMYK", "YCbCr", "LAB", "HSV")
_WITH_ALPHA = {"LA": "L", "La": "L", "PA": "RGB", "RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB"}
_WORKER = "from pushforward.io.decode import serve; serve()"


class BadImageError(ValueError):
    """A file that cannot be taken as an image."""


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    Attributes:
        shape: (C, H, W), as which it is read.
        note: the conversion, in words; empty for none.
    """

    shape: Shape
    note: str = ""


def import_pillow() -> Any:
    """Pillow's module of images.

    Raises:
        ImportError: which says how to install it.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError('pictures need the package Pillow: pip install "pushforward[images]"') from None
    return Image


def read_header(path: Path, mode: str | None = None) -> Header:
    """Size and colours of a picture, and whether they are converted, to `mode` if one is given.

    Raises:
        BadImageError: it is corrupt, too large, or has 16 bits a channel.
        OSError: it cannot be opened.
    """
    return _opened(path, lambda image: _header(image, mode))


def decode(path: Path, mode: str | None = None) -> Bytes:
    """The pixels of a picture, (C, H, W).

    Raises:
        BadImageError: as `read_header`, or there is real transparency.
        OSError: it cannot be opened.
    """

    def pixels(image: Any) -> Bytes:
        from PIL import ImageOps

        header = _header(image, mode)
        if image.mode in _WITH_ALPHA or "transparency" in image.info:
            alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
            if (alpha < 255).any():
                raise BadImageError("it has transparent pixels: give it a background first")
        image = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        array = np.asarray(image.convert("L" if header.shape[0] == 1 else "RGB"))
        return array[None] if header.shape[0] == 1 else np.moveaxis(array, 2, 0)

    return _opened(path, pixels)


def decode_all(paths: Sequence[Path], mode: str | None, into: Bytes) -> dict[int, str]:
    """Decodes pictures of one shape into an array (N, C, H, W); many by as many processes as there are cores.

    Returns:
        The numbers of the files that could not be opened or decoded, and why.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(paths) < MANY or workers == 1:
        bad = {}
        for i, path in enumerate(paths):
            try:
                into[i] = decode(path, mode)
            except (BadImageError, OSError) as error:
                bad[i] = str(error)
        return bad
    messages: dict[int, str] = {}
    errors: list[BaseException] = []
    edges = np.linspace(0, len(paths), workers + 1).astype(int).tolist()
    threads = [
        threading.Thread(target=_attended, args=(paths, mode, into, start, stop, messages, errors))
        for start, stop in itertools.pairwise(edges)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return messages


def serve() -> None:
    """A process that decodes: reads paths and a mode as JSON from stdin; writes a line and the pixels of each."""
    task, out = json.load(sys.stdin), sys.stdout.buffer
    for path in task["paths"]:
        try:
            pixels = decode(Path(path), task["mode"]).tobytes()
            out.write(b"\n" + pixels)
        except (BadImageError, OSError) as error:
            out.write(" ".join(str(error).split()).encode() + b"\n")
    out.flush()


def _attended(
    paths: Sequence[Path],
    mode: str | None,
    into: Bytes,
    start: int,
    stop: int,
    messages: dict[int, str],
    errors: list[Any],
) -> None:
    """Has a process decode some of the files, and takes what it writes."""
    try:
        with subprocess.Popen([sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
            assert worker.stdin is not None and worker.stdout is not None  # noqa: PT018  # pipes were asked for
            task = {"paths": [os.path.abspath(path) for path in paths[start:stop]], "mode": mode}
            worker.stdin.write(json.dumps(task).encode())
            worker.stdin.close()
            size = into[0].nbytes
            for i in range(start, stop):
                _take(worker.stdout, into, i, size, messages)
    except BaseException as error:  # is raised by the caller's thread
        errors.append(error)


def _take(pipe: IO[bytes], into: Bytes, i: int, size: int, messages: dict[int, str]) -> None:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise OSError("a process that decodes images ended early")
    if line != b"\n":
        messages[i] = line.decode().strip()
        return
    pixels = pipe.read(size)
    if len(pixels) < size:
        raise OSError("a process that decodes images ended early")
    into[i] = np.frombuffer(pixels, np.uint8).reshape(into.shape[1:])


def _opened(path: Path, fn: Callable[[Any], Any]) -> Any:
    """fn of the picture in a file, whose defects become one kind of error."""
    pillow = import_pillow()
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with pillow.open(file) as image:
                return fn(image)
        except BadImageError:
            raise
        except pillow.DecompressionBombError as error:
            raise BadImageError(f"it may be meant to fill the memory: {error}") from None
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, ... for corrupt files
            reason = re.sub(r"\s*<[^>]*>", "", " ".join(str(error).split()))  # a file object, as Python shows it
            raise BadImageError(f"it is corrupt: {reason}") from None


def _orientation(image: Any) -> int:
    """How a photograph is to be turned, by its EXIF data; 1 for not at all."""
    return image.getexif().get(_EXIF_ORIENTATION, 1) if image.format in ("JPEG", "MPO") else 1


def _header(image: Any, mode: str | None) -> Header:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadImageError(f"it has {width * height:,} pixels, at most {MOST_PIXELS:,} are read")
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        raise BadImageError("it has more than 8 bits a channel: convert it to 8 bits first")
    if image.mode not in (*_AS_GREY, *_AS_COLOUR, *_WITH_ALPHA):
        raise BadImageError(f"its mode {image.mode} is not supported: convert it to L or RGB")
    natural = _WITH_ALPHA.get(image.mode, "L" if image.mode in _AS_GREY else "RGB")
    wanted = mode or natural
    words = {"P": f"palette converted to {wanted}", "1": "black and white taken as grey"}
    note = "" if image.mode == wanted else words.get(image.mode, f"{image.mode} converted to {wanted}")
    if image.mode in _WITH_ALPHA:
        note = "an opaque alpha channel was left out"
    if _orientation(image) != 1:
        note = f"{note}, and turned upright" if note else "turned upright, as its EXIF data say"
        if _orientation(image) >= _ON_ITS_SIDE:
            width, height = height, width
    return Header((1 if wanted == "L" else 3, height, width), note)
