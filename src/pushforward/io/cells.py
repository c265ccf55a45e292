"""Texts as numbers: which cells are missing, and what the others mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64]
MISSING = ("", "na", "n/a", "nan", "null")  # cells of a file that hold nothing, in lower case, without blanks
MARKS = (  # that hold nothing in columns of numbers or times, though they may mean something among words
    *MISSING, "none", "-", "--", "---", "\u2013", "\u2014", "?", ".", "..", "...", "*", "n.a.", "n.a", "<na>", "(null)",
    "\\n", "missing", "#n/a", "#null!", "#value!", "#div/0!", "#num!", "#ref!", "#name?",
)  # fmt: skip
_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"  # numbers that Arrow reads, but for the sign in front
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_PYTHON = r"^[+-]?\d{1,3}(_\d{3})+$"  # thousands as in Python; 0001_02 is no number
_LOOKED_AT = 1000  # cells, to see whether they repeat
_EXACT = 2**53  # up to which float64 holds every integer


class Labels(Sequence[str]):
    """Distinct texts, kept as an Arrow array until one is asked for."""

    def __init__(self, values: Any) -> None:
        self.arrow = values

    def __len__(self) -> int:
        return len(self.arrow)

    def __getitem__(self, index: Any) -> Any:
        return self.arrow[index].as_py() if isinstance(index, (int, np.integer)) else Labels(self.arrow[index])

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrow.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def pyarrow() -> ModuleType:
    """The package, or an error that says how to get it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError:
        raise ImportError('tables need pyarrow: pip install "pushforward[data]"') from None
    return pyarrow


def as_arrow(labels: Sequence[str]) -> Any:
    """Texts as a pyarrow string array."""
    return labels.arrow if isinstance(labels, Labels) else pyarrow().array(list(labels), pyarrow().string())


def is_number(text: str) -> bool:
    """Whether a text reads as a number.

    Example:
        >>> is_number(" 1e3"), is_number("1,5")
        (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text or re.fullmatch(_PYTHON, text.strip()) is not None


def are_missing(labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts (L,) of a file hold nothing."""
    return mask_of(_missing(pyarrow().compute.utf8_trim_whitespace(as_arrow(labels))))


def are_marks(labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts (L,) hold nothing where the others are numbers or times.

    Example:
        >>> are_marks(["12.5", "?", "#N/A"])
        array([False,  True,  True])
    """
    pc = pyarrow().compute
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(as_arrow(labels)))
    return mask_of(pc.is_in(texts, value_set=pyarrow().array(MARKS)))


def are_truths(labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts (L,) are true or false."""
    texts = pyarrow().compute.utf8_lower(pyarrow().compute.utf8_trim_whitespace(as_arrow(labels)))
    return mask_of(pyarrow().compute.is_in(texts, value_set=pyarrow().array(["false", "true"])))


def quick_numbers(cells: Any) -> tuple[Numbers, NDArray[np.bool_]] | None:
    """Cells (N,) of which nearly each is another, as numbers, 0 where missing, and which are missing.

    None where cells repeat, so that it is better to parse the distinct ones, or where one is no plain number.
    """
    pa = pyarrow()
    pc = pa.compute
    head = cells.slice(0, _LOOKED_AT)
    if 2 * len(pc.unique(head)) < len(head) or len(head) < _LOOKED_AT:
        return None
    texts = pc.utf8_trim_whitespace(cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells)
    missing = _missing(texts)
    if pc.any(missing).as_py():
        texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
    values = _cast(texts)
    return None if values is None else (_whole(values, texts), mask_of(missing))


def all_numbers(labels: Sequence[str]) -> Numbers | None:
    """Texts (L,) -> numbers (L,), None where one of them is no number; see `parse_numbers`."""
    texts = pyarrow().compute.utf8_trim_whitespace(as_arrow(labels))
    values = _cast(texts)
    if values is not None:
        return _whole(values, texts)
    for some in (labels[:100], labels):  # most texts tell at once that they are none
        numbers, good = parse_numbers(some)
        if not good.all():
            return None
    return numbers


def parse_numbers(labels: Sequence[str]) -> tuple[Numbers, NDArray[np.bool_]]:
    """Texts (L,) -> numbers (L,), 0 where they are none; which of them are numbers (L,).

    Numbers are int64 or uint64 where all are whole and written without a point, else float64. True and false are 1
    and 0 among others.
    """
    pa = pyarrow()
    pc = pa.compute
    texts = pc.utf8_trim_whitespace(as_arrow(labels))
    texts = pc.if_else(pc.match_substring_regex(texts, _PYTHON), pc.replace_substring(texts, "_", ""), texts)
    plain = pc.match_substring_regex(texts, _PLAIN)
    cells = pc.if_else(plain, pc.replace_substring_regex(texts, r"^\+", ""), None)
    good = mask_of(plain)
    infinite, truth = mask_of(pc.match_substring_regex(texts, _INFINITE)), are_truths(labels)
    values = pc.fill_null(pc.cast(cells, pa.float64()), 0.0).to_numpy(zero_copy_only=False).copy()
    values[infinite] = np.where(mask_of(pc.starts_with(texts, "-")), -np.inf, np.inf)[infinite]
    values[truth] = mask_of(pc.equal(pc.utf8_lower(texts), "true"))[truth]
    good |= infinite | truth
    return _whole(values, cells), good


def _missing(texts: Any) -> Any:
    pa, compute = pyarrow(), pyarrow().compute
    is_none = compute.equal(texts, "None")  # of Python; "none" is a word
    return compute.or_(is_none, compute.is_in(compute.utf8_lower(texts), value_set=pa.array(MISSING)))


def _cast(texts: Any) -> NDArray[np.float64] | None:
    """Texts as numbers, 0 where null; None where Arrow cannot read one."""
    pa = pyarrow()
    try:
        return pa.compute.cast(texts, pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def _whole(values: NDArray[np.float64], cells: Any) -> Numbers:
    """Numbers as integers where all cells are written so: exact to 64 bits. Cells are null where they are no plain
    numbers."""
    pa = pyarrow()
    pc = pa.compute
    if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        return values
    if pc.any(pc.match_substring(cells, ".")).as_py():
        return values
    if (np.abs(values) < _EXACT).all():
        return values.astype(np.int64)
    digits = pc.replace_substring_regex(cells, r"^\+", "")
    for kind in (pa.int64(), pa.uint64()):
        try:
            exact = pc.cast(digits, kind).fill_null(0).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            continue
        good = mask_of(pc.is_valid(cells))
        return np.where(good, exact, np.where(good, 0, values).astype(exact.dtype))
    return values


def narrowed(numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers (N,), uint64 as int64 where that holds them: float64 of it is exact to 2^53 alone."""
    fits = numbers.dtype == np.uint64 and numbers.max(initial=0) < 2**63
    return numbers.astype(np.int64) if fits else numbers


def mask_of(mask: Any) -> NDArray[np.bool_]:
    """An Arrow array of truth values (L,) as one of numpy, false where null."""
    return mask.fill_null(False).to_numpy(zero_copy_only=False).copy()


def some_of(texts: Any, count: int) -> list[str]:
    """At most so many of Arrow texts (L,), from all over them."""
    places = np.unique(np.linspace(0, len(texts) - 1, count).astype(int)) if len(texts) else []
    return texts.take(pyarrow().array(places, pyarrow().int64())).to_pylist()
