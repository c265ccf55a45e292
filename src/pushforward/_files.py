"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path beside `path` to write to; on success it takes the place of `path`, on failure it is removed.

    Raises:
        OSError: the folder does not exist or cannot be written, or the disk is full.
    """
    target = Path(path)
    # The suffix stays last: writers tell the format by it.
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
