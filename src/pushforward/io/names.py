"""Names of columns: checked, and shown in messages."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence

_PANDAS_INDEX = "__index_level_"  # what pandas adds to a Parquet file for a frame whose rows were picked


def csv_line(cells: Sequence[str], delimiter: str = ",") -> str:
    """One line of a CSV, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="").writerow(cells)
    return buffer.getvalue()


def without_index(names: Sequence[str]) -> list[str]:
    """All columns but the row index that pandas leaves in Parquet files."""
    return [name for name in names if not name.startswith(_PANDAS_INDEX)]


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuses a name that comes twice.

    Raises:
        ValueError: it does.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one {columns_text(twice[:1])}")


def columns_text(names: Sequence[str]) -> str:
    """Some columns, for messages."""
    return f"column{'s' if len(names) > 1 else ''} {quoted(names)}"


def quoted(names: Sequence[str], most: int = 20) -> str:
    """Names, for messages."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
