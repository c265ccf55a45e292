"""Arrays of numbers in .npy and .npz files. Object arrays are refused: they can run code."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .names import quoted
from .reader import Reader, Skipped, made_up, one_line

_CHOSEN = ("X", "x", "data")  # the array of an archive that is the table, where there are several


class NpyFile(Reader):
    """One array (rows, columns), or (rows,), which is one column; mapped into memory only while a piece is copied."""

    named = False
    random_access = True

    def __init__(self, path: Path) -> None:
        self._path = path
        values = self._mapped()
        self.rows, width = _shape(path, values.dtype, values.shape)
        self.names = made_up(width)

    def pieces(
        self, rows: int, order: np.random.Generator | None, columns: Sequence[str], skipped: Skipped
    ) -> Iterator[tuple[int, Any]]:
        """Slices of the array; shuffled, they come in random order."""
        starts = np.arange(0, self.rows or 0, rows)
        for start in starts.tolist() if order is None else order.permutation(starts).tolist():
            yield start, _table_of(self._mapped()[start : start + rows])

    def take(self, rows: NDArray[np.int64]) -> Any:
        """The rows with these numbers."""
        return _table_of(self._mapped()[rows])

    def _mapped(self) -> Any:
        path = self._path
        try:
            with open(path, "rb") as file:
                archive = file.read(2) == b"PK"
            # An array without elements cannot be mapped.
            values = None if archive else np.load(path, mmap_mode="r" if path.stat().st_size > 256 else None)
        except (ValueError, EOFError, MemoryError):  # whose message may advise to trust the file
            raise ValueError(
                f"{path} is damaged or no .npy file of plain numbers (object arrays are refused: they can run code)"
            ) from None
        if values is None:
            raise ValueError(f"{path} is an archive of arrays: rename it to .npz")
        return values


class NpzFile(Reader):
    """The only array of an archive, or the one called X, x or data; unpacked piece by piece."""

    named = False

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                arrays = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
                chosen = arrays if len(arrays) == 1 else [n for n in _CHOSEN if n in arrays][:1]
                shape: tuple[int, ...] = ()
                if chosen:
                    self._member = f"{chosen[0]}.npy"
                    with archive.open(self._member) as file:
                        shape, self._by_columns, self._dtype = _header(file)
        except _DAMAGE as error:
            raise self._damaged(error) from None
        if not chosen:
            holds = f"the arrays {quoted(arrays)}" if arrays else "no array"
            raise ValueError(f"{path} holds {holds}: expected a single one, or one called {', '.join(_CHOSEN)}")
        if len(arrays) > 1:
            others = quoted([name for name in arrays if name != chosen[0]])
            warnings.warn(f"{path}: the array {chosen[0]!r} is read, and not {others}", stacklevel=2)
        self.rows, width = _shape(path, self._dtype, shape)
        self.names = made_up(width)

    def pieces(
        self, rows: int, order: np.random.Generator | None, columns: Sequence[str], skipped: Skipped
    ) -> Iterator[tuple[int, Any]]:
        """In the order of the file; at once where the array lies column by column."""
        width, count = len(self.names), self.rows or 0
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
                _header(file)
                if self._by_columns:  # the first row is complete only at the end of the file
                    values = np.frombuffer(file.read(), self._dtype, count * width)
                    yield 0, _table_of(values.reshape(width, count).T)
                    return
                for start in range(0, count, rows):
                    some = min(rows, count - start)
                    raw = file.read(some * width * self._dtype.itemsize)
                    yield start, _table_of(np.frombuffer(raw, self._dtype, some * width).reshape(some, width))
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> ValueError:
        return ValueError(f"{self._path} is damaged or no .npz file: {one_line(error)}")


def npz_axes(path: Path) -> dict[str, tuple[int, np.dtype[Any]]]:
    """The number of axes and the dtype of each array of an archive, by its header alone.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: it cannot be read.
    """
    axes = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    shape, _, dtype = _header(file)
                axes[name.removesuffix(".npy")] = len(shape), dtype
    return axes


_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """-> shape, whether the columns lie one after the other, dtype."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran and len(shape) > 1, dtype


def _shape(path: Path, dtype: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """-> rows, columns."""
    if dtype.kind not in "fiub":
        raise ValueError(f"{path} must hold real numbers, got an array of {dtype}")
    if len(shape) not in (1, 2):
        hint = f" of {dtype}; images must be bytes (uint8)" if len(shape) in (3, 4) else ""
        raise ValueError(f"{path} must hold an array (rows, columns), got shape {shape}{hint}")
    rows, width = shape if len(shape) == 2 else (shape[0], 1)
    if width and not rows:
        raise ValueError(f"{path} has no rows")
    return rows, width


def _table_of(values: Any) -> Any:
    """A copy in the machine's byte order, with two axes."""
    copy = np.array(values, dtype=values.dtype.newbyteorder("="))
    return copy[:, None] if copy.ndim == 1 else copy
