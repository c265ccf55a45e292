"""Text as numbers and times: which cells are missing, and what the others mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64]
MISSING = ("", "na", "n/a", "nan", "null", "none")  # cells of a file that hold nothing, in lower case, without blanks
TRUTH = {"false": 0.0, "true": 1.0}
FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")  # of times
_DATE = r"^\s*\d{4}-\d\d-\d\d"
_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"  # numbers that Arrow reads, but for the sign in front
_PERHAPS = r"^[+-]?([\d_]+\.?[\d_]*([eE][+-]?[\d_]+)?|\.[\d_]+([eE][+-]?[\d_]+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?)$"
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
    return True


def are_missing(labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts (L,) of a file hold nothing."""
    pc = pyarrow().compute
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(as_arrow(labels)))
    return _array(pc.is_in(lower, value_set=pyarrow().array(MISSING)))


def parse_numbers(labels: Sequence[str]) -> tuple[Numbers, NDArray[np.bool_]]:
    """Texts (L,) -> numbers (L,), 0 where they are none; which of them are numbers (L,).

    Numbers are int64 or uint64 where all are whole and written without a point, else float64. True and false are 1
    and 0 among others.
    """
    pa = pyarrow()
    pc = pa.compute
    texts = pc.utf8_trim_whitespace(as_arrow(labels))
    plain = pc.match_substring_regex(texts, _PLAIN)
    cells = pc.if_else(plain, pc.replace_substring_regex(texts, r"^\+", ""), None)
    good = _array(plain)
    rest = _array(pc.and_(pc.invert(plain), pc.match_substring_regex(texts, _PERHAPS)))
    lower = pc.utf8_lower(texts)
    truth = _array(pc.is_in(lower, value_set=pa.array(list(TRUTH))))
    values = np.nan_to_num(
        pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False), nan=0.0, posinf=np.inf, neginf=-np.inf
    )
    for i in np.flatnonzero(rest):
        text = texts[int(i)].as_py()
        if is_number(text):
            values[i], good[i] = float(text), True
    values[truth] = _array(pc.equal(lower, "true"))[truth]
    good |= truth
    return _whole(values, good, cells, truth), good


def _whole(values: NDArray[np.float64], good: NDArray[np.bool_], cells: Any, truth: NDArray[np.bool_]) -> NDArray[Any]:
    """Numbers as integers where they are written so: exact to 64 bits."""
    pa = pyarrow()
    pc = pa.compute
    if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        return values
    if pc.any(pc.match_substring(cells, ".")).as_py():
        return values
    if (np.abs(values) < _EXACT).all():
        return values.astype(np.int64)
    for kind in (pa.int64(), pa.uint64()):
        try:
            exact = pc.cast(cells, kind)
        except pa.ArrowInvalid:
            continue
        whole = exact.fill_null(0).to_numpy(zero_copy_only=False).copy()
        written = _array(pc.is_valid(cells))
        whole[~written] = values[~written].astype(whole.dtype)
        return whole
    return values


def parse_times(
    labels: Sequence[str], form: str | None = None, *, mixed: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.bool_], str]:
    """Texts (L,) -> seconds since 1970 (L,), 0 where they are no time; which are times (L,); how they are written.

    Args:
        labels: such as 2020-02-29 or 2020-02-29 12:30.
        form: how they are written, as of `strftime`; None takes the first of `FORMS` that fits most of them.
        mixed: whether each may be of another form.
    """
    pc = pyarrow().compute
    texts = as_arrow(labels)
    if form is None and not pc.any(pc.match_substring_regex(texts, _DATE)).as_py():
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool), FORMS[0]
    tried = {known: _timestamps(texts, known) for known in ((form,) if form else FORMS)}
    best = min(tried, key=lambda known: tried[known].null_count)
    times = pc.coalesce(*tried.values()) if mixed else tried[best]
    good = _array(pc.is_valid(times))
    return pc.cast(times, pyarrow().int64()).fill_null(0).to_numpy(zero_copy_only=False), good, best


def _timestamps(texts: Any, form: str) -> Any:
    """Texts as timestamp[s], null where one is none of the form or of the calendar."""
    pa = pyarrow()
    pc = pa.compute
    texts = pc.utf8_trim_whitespace(texts)
    times = pc.strptime(texts, form, "s", error_is_null=True)
    # The 30th of February would be read as the 1st of March.
    day = pc.cast(pc.if_else(pc.is_valid(times), pc.utf8_slice_codeunits(texts, 8, 10), None), pa.int64())
    return pc.if_else(pc.equal(pc.day(times), day), times, None)


def _array(mask: Any) -> NDArray[np.bool_]:
    return mask.fill_null(False).to_numpy(zero_copy_only=False).copy()
