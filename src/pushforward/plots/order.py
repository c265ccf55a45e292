"""The order in which categories are drawn."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping, Sequence

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_CYCLES = tuple(  # of names that follow each other
    [name.lower() for name in names]
    for names in (
        list(calendar.day_name), list(calendar.day_abbr), list(calendar.month_name)[1:], list(calendar.month_abbr)[1:]
    )
)  # fmt: skip
_CODE = 2  # letters of labels that are codes, as grades from A to F


def in_order(counts: Mapping[str, int], declared: Sequence[str] = ()) -> list[str]:
    """Categories in the order that was declared, else in that of their names where these have one, else by frequency.

    Numbers go by their size, ranges by their ends, days and months by the calendar, codes by the alphabet.

    Args:
        counts: how often each is there.
        declared: all of them and perhaps others, in order, as a categorical column of a frame has them.

    Example:
        >>> in_order({"10-20": 5, "5-10": 2, "<5": 9, "20+": 1})
        ['<5', '5-10', '10-20', '20+']
        >>> in_order({"red": 2, "blue": 7, "green": 3})
        ['blue', 'green', 'red']
    """
    names = list(counts)
    if declared:
        place = {name: i for i, name in enumerate(declared)}
        return sorted(names, key=lambda name: (place.get(name, len(place)), -counts[name], name))
    try:
        return sorted(names, key=float)
    except ValueError:
        pass
    lower = [name.lower() for name in names]
    for cycle in _CYCLES:
        if all(name in cycle for name in lower):
            return sorted(names, key=lambda name: cycle.index(name.lower()))
    if all(_NUMBER.search(name) for name in names):
        return sorted(names, key=_by_number)
    if all(len(name) <= _CODE for name in names):
        return sorted(names)
    return sorted(names, key=lambda name: (-counts[name], name))


def _by_number(name: str) -> tuple[str, float, int, str]:
    """The letters before the first number, the number, and on which side of it a range lies that has one end."""
    match = _NUMBER.search(name)
    assert match is not None
    before, after = name[: match.start()].strip().lower(), name[match.end() :].strip().lower()
    side = -1 if before[:1] in ("<", "≤") else 1 if before[:1] in (">", "≥") or after[:1] == "+" else 0
    return before.strip("<>≤≥= -"), float(match[0]), side, name
