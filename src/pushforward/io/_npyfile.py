"""Arrays of numbers in .npy and .npz files. Object arrays are refused: they can run code."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _csv
from ._file import TableFile
from .table import Table, made_up, quoted

_CHOSEN = ("X", "x", "data")  # the array of an archive that is the table, where there are several


class NpyFile(TableFile):
    """One array (rows, columns), or (rows,), which is one column; mapped into memory only while a piece is copied."""

    def __init__(self, path: Path) -> None:
        self._source = path
        values = self._mapped()
        self._rows, width = _shape(path, values.dtype, values.shape)
        super().__init__(path, made_up(width), False)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._rows

    def _sample(self, n: int, seed: int) -> tuple[Table, NDArray[np.int64]]:
        """Without a pass over the file."""
        if not 1 <= n < self._rows:
            return super()._sample(n, seed)
        at = np.sort(np.random.default_rng(seed).choice(self._rows, n, replace=False))
        return self._table(_table_of(self._mapped()[at])), at

    def _pieces(self, rows: int, order: np.random.Generator | None) -> Iterator[tuple[int, Any]]:
        starts = np.arange(0, self._rows, rows)
        for start in starts.tolist() if order is None else order.permutation(starts).tolist():
            yield start, _table_of(self._mapped()[start : start + rows])

    def _mapped(self) -> Any:
        path = self._source
        try:
            with open(path, "rb") as file:
                archive = file.read(2) == b"PK"
            # An array without elements cannot be mapped.
            values = None if archive else np.load(path, mmap_mode="r" if path.stat().st_size > 256 else None)
        except (ValueError, EOFError, MemoryError) as error:
            raise ValueError(
                f"{path} is damaged or no .npy file of plain numbers (object arrays are refused: they can run code): "
                f"{_csv.one_line(error)}"
            ) from None
        if values is None:
            raise ValueError(f"{path} is an archive of arrays: rename it to .npz")
        return values


class NpzFile(TableFile):
    """The only array of an archive, or the one called X, x or data; unpacked piece by piece."""

    def __init__(self, path: Path) -> None:
        self._source = path
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
            held = f"the arrays {quoted(arrays)}" if arrays else "no array"
            raise ValueError(f"{path} holds {held}: expected a single one, or one called {', '.join(_CHOSEN)}")
        self._rows, width = _shape(path, self._dtype, shape)
        super().__init__(path, made_up(width), False)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._rows

    def _pieces(self, rows: int, order: np.random.Generator | None) -> Iterator[tuple[int, Any]]:
        width = len(self.names)
        try:
            with zipfile.ZipFile(self._source) as archive, archive.open(self._member) as file:
                _header(file)
                if self._by_columns:  # the first row is complete only at the end of the file
                    values = np.frombuffer(file.read(), self._dtype, self._rows * width)
                    yield 0, _table_of(values.reshape(width, self._rows).T)
                    return
                for start in range(0, self._rows, rows):
                    count = min(rows, self._rows - start)
                    raw = file.read(count * width * self._dtype.itemsize)
                    yield start, _table_of(np.frombuffer(raw, self._dtype, count * width).reshape(count, width))
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> ValueError:
        return ValueError(f"{self._source} is damaged or no .npz file: {_csv.one_line(error)}")


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
        raise ValueError(f"{path} must hold an array (rows, columns), got shape {shape}")
    rows, width = shape if len(shape) == 2 else (shape[0], 1)
    if width and not rows:
        raise ValueError(f"{path} has no rows")
    return rows, width


def _table_of(values: Any) -> Any:
    """A copy in the machine's byte order, with two axes."""
    copy = np.array(values, dtype=values.dtype.newbyteorder("="))
    return copy[:, None] if copy.ndim == 1 else copy
