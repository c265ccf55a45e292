"""Names, of columns and files: checked, and shown in messages."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_PANDAS_INDEX = "__index_level_"  # what pandas adds to a Parquet file for a frame whose rows were picked
_KINDS = 3  # of files in a folder, in a message
_UNSHOWN = ("Cc", "Zl", "Zp")  # categories of Unicode: control characters, ends of lines and of paragraphs


def shown(name: str) -> str:
    r"""A name, as of a file, on one line that can be shown and written anywhere.

    Line breaks and other control characters are escaped, and so are bytes of names of files that are no UTF-8.

    Example:
        >>> shown("caf\udce9"), shown("new\nline")
        ('caf\\xe9', 'new\\nline')
    """
    if name.isprintable():
        return name
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of pairs that stand for no bytes
        text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSHOWN else c for c in text)


def contents(folder: Path) -> str:
    """What a folder and its subfolders hold, for messages: the commonest endings of names."""
    endings = Counter(Path(name).suffix.lower() for _, _, names in os.walk(folder) for name in names)
    kinds = [f"{n:,} {ending or 'without an ending'}" for ending, n in endings.most_common(_KINDS)]
    return f"it holds {', '.join(kinds)}" if kinds else "it holds no files"


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
        places = ", ".join(str(k) for k, name in enumerate(names, 1) if name == twice[0])
        raise ValueError(
            f"{where}: more than one {columns_text(twice[:1])}, at places {places}: give each its own name"
        )


def columns_text(names: Sequence[str]) -> str:
    """Some columns, for messages."""
    return f"column{'s' if len(names) > 1 else ''} {quoted(names)}"


def quoted(names: Sequence[str], most: int = 20) -> str:
    """Names, for messages."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
