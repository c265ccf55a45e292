"""Files of tables, as tests write them to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushforward.io.frames import Frame, of_array


def csv_file(tmp_path: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def npy_file(tmp_path: Path, values: Any, name: str = "data.npy") -> Path:
    np.save(tmp_path / name, values)
    return tmp_path / name


def parquet_file(tmp_path: Path, columns: dict[str, Any], name: str = "data.parquet") -> Path:
    pq.write_table(pa.table(columns), tmp_path / name)
    return tmp_path / name


def array(values: Any, *names: str) -> Frame:
    return of_array(values, names)


class Evil:
    """Fails the test where it is unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("the file was executed",)
