"""Models and tables as the commands read them: opened, parted into held-out rows and the rest, bad rows left out."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..density import Density
from ..images.density import KIND
from ..io import models
from ..io.frames import Frame
from ..io.tables import TableFile, open_table
from ..tables import good_rows
from ..tables.drawing import exceeds_memory
from .options import Reading
from .output import echo, say

SOME_ROWS = 100_000  # of a table that memory does not hold: held out for the test, or judged by a check
_SKETCHED, _DISTINCT = 64, 0.99  # rows that a fit is known by; share of distinct ones, without which none is
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
TEST_FRACTION = 0.1
_QUANTILES, _DIGITS = 1001, 5
SEED = 20160527  # of what is held out, whatever that of the training: so that models of one table compare


def opened(path: str, how: Reading, density: Density | None = None) -> TableFile:
    """The file, read as asked for; what a density makes bad rows is left out if wanted.

    Raises:
        OSError: it cannot be read.
        ValueError: as `open_table`.
    """
    file = open_table(path, **how)
    return file if density is None else without_bad_rows(file, how, schema=getattr(density.space, "schema", None))


def without_bad_rows(file: TableFile, how: Reading, **known: Any) -> TableFile:
    """The file without the rows that a schema, or kinds that were asked for, make bad ones, if that is wanted."""
    return good_rows(file, **known) if how["skip_bad_rows"] else file


def is_of_images(model: str) -> bool:
    """Whether a model file holds a density of images.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no model file.
    """
    return models.read_header(model).get("kind") == KIND


def rows_of(density: Density, frame: Frame) -> Any:
    """The rows of a table that a density is over.

    Raises:
        ValueError: as `Space.read`.
    """
    width = (density.about or {}).get("width")  # of a table without names that the columns were chosen from
    if not frame.named and len(frame.names) == width and set(density.space.names) <= set(frame.names):
        frame = replace(frame, named=True)
    return density.space.read(frame)


def quantiles_to_keep(log_density: NDArray[np.float64]) -> list[float]:
    """Of held-out log-densities (N,), what a model keeps so that new rows can be ranked among them."""
    finite = log_density[np.isfinite(log_density)]
    if not len(finite):
        return []
    return np.quantile(finite, np.linspace(0, 1, _QUANTILES), method="inverted_cdf").round(_DIGITS).tolist()


def quantiles_of(density: Density, path: str) -> NDArray[np.float64]:
    """The held-out log-densities of a model's fit, in order.

    Raises:
        ValueError: it kept none.
    """
    kept = (density.training_summary or {}).get("quantiles")
    if not isinstance(kept, list) or len(kept) < 2 or not all(isinstance(q, float) for q in kept):
        what = "images" if is_of_images(path) else "rows"
        raise ValueError(
            f"{path} keeps no quantiles of held-out log-densities to rank {what} among: --outlier needs a model that "
            "`pushforward fit` wrote"
        )
    return np.array(sorted(kept))


def percentiles(log_density: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each log-density (N,) what part of the held-out rows has a lower one, in percent; half of equal ones count.

    Example:
        >>> percentiles(np.array([-1.0, -0.5, 0.0]), np.array([-2.0, -1.0, -0.5, -0.5, -0.5])).tolist()
        [25.0, 75.0, 100.0]
    """
    values, most = log_density.round(_DIGITS), len(quantiles) - 1
    first, last = np.searchsorted(quantiles, values), np.searchsorted(quantiles, values, "right") - 1
    place = np.where(first <= last, (first + last) / 2, np.interp(values, quantiles, np.arange(most + 1)))
    return 100 * place / most


def loaded(file: TableFile) -> TableFile | Frame:
    """The table, if memory holds it; else the file."""
    return file if exceeds_memory(file, None) else file.read()


def parted(table: TableFile | Frame) -> tuple[Frame, TableFile | Frame, list[int]]:
    """-> the held-out rows; the others, as a file where memory does not hold them; numbers of the held-out rows.

    A tenth of the rows is held out, at most `SOME_ROWS` of a file that memory does not hold, where rows have no
    numbers.
    """
    if isinstance(table, TableFile):
        test, rest = table.split(min(SOME_ROWS, round(TEST_FRACTION * (table.rows or 10 * SOME_ROWS))), SEED)
        return test, rest, []
    order = np.random.default_rng(SEED).permutation(len(table))
    size = round(TEST_FRACTION * len(table))
    return table[order[:size]], table[order[size:]], (order[:size] + 1).tolist()


def some_of(table: TableFile | Frame, most: int) -> Frame:
    """The table, or a uniform sample of so many rows where a file has more."""
    return table if isinstance(table, Frame) else table.sample(most)


def digest(frame: Frame) -> str:
    """Of the cells of a frame, in whichever format of file they were."""
    total = hashlib.sha256()
    for column in frame.columns:
        total.update(np.packbits(column.is_missing).tobytes())
        for values in (column.numbers, column.times):
            if values is not None:
                total.update(values.astype(np.float64).tobytes())
                break
        else:
            total.update("\0".join(text or "" for text in column.texts).encode())
    return total.hexdigest()


def sketch(frame: Frame) -> list[str]:
    """Names of a few of the rows, always the same ones of the same rows; none where rows repeat each other."""
    names = np.unique(_row_names(frame))
    return [f"{name:x}" for name in names[:_SKETCHED].tolist()] if len(names) >= _DISTINCT * len(frame) else []


def known_share(names: Sequence[str], frame: Frame) -> float:
    """Which share of the rows of a `sketch` are in a frame with the same columns."""
    return float(np.isin([int(name, 16) for name in names], _row_names(frame)).mean()) if names else 0.0


def _row_names(frame: Frame) -> NDArray[np.uint64]:
    """A number for each row (N,), the same for equal cells, in whichever format of file they were."""
    names = np.zeros(len(frame), np.uint64)
    for column in frame.columns:
        values = next((v for v in (column.numbers, column.times) if v is not None), None)
        if values is None:
            codes, labels = column.as_texts()
            cells = np.array([*(zlib.crc32(label.encode()) for label in labels), 0], np.uint64)[codes]
        else:
            cells = (values.astype(np.float64) + 0.0).view(np.uint64)
        names = names * _FACTOR + np.where(column.is_missing, np.uint64(1), cells)
        names = (names ^ (names >> np.uint64(31))) * _FACTOR  # as in SplitMix64 (Steele et al. 2014)
        names ^= names >> np.uint64(29)
    return names


def tell_same(data: str, train: str | None) -> None:
    """Warns where the data to check are the training data."""
    if train is not None and (data == train or Path(data).resolve() == Path(train).resolve()):
        echo(
            f"warning: {data} is given as held-out and as training data: all figures are too good. Give data that the "
            "fit has not seen; without --train, those that fit held out are checked",
            err=True,
        )


def tell_skipped(file: TableFile) -> None:
    """Says what the last pass over a file left out."""
    if file.skipped:
        say("skipped", f"{file.path}: {file.skipped}")
