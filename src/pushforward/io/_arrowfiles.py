"""Parquet files, folders of them, and Arrow IPC files (Feather)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from . import _csv
from ._file import TableFile

PARQUET = (".parquet", ".pq")
_NULL = "__HIVE_DEFAULT_PARTITION__"


class ParquetFiles(TableFile):
    """A Parquet file, or all of a folder and the folders in it; in the order of their paths.

    Folders named like year=2024 give a column. Files whose columns differ only in the width of their numbers, or in
    that a column is all missing, are read as the wider.
    """

    def __init__(self, path: Path) -> None:
        self._files = [path] if path.is_file() else _parquet_files(path)
        if not self._files:
            raise ValueError(f"{path} is a folder without Parquet files (.parquet)")
        self._keys = [_keys(file.relative_to(path)) if path.is_dir() else {} for file in self._files]
        self._rows = 0
        self._starts, schemas = [], []
        for file in self._files:
            with _reading(file) as opened:
                self._starts.append(self._rows)
                self._rows += opened.metadata.num_rows
                schemas.append(opened.schema_arrow)
        schema = _common(schemas, self._files)
        self._partitions = _partitions(self._keys, self._files)
        for name, kind in self._partitions.items():
            if name not in schema.names:
                schema = schema.append(_csv.pyarrow().field(name, kind))
        self._schema = schema
        super().__init__(path, tuple(schema.names), True)
        if not self._rows:
            raise ValueError(self._no_rows())

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._rows

    def _pieces(self, rows: int, order: np.random.Generator | None) -> Iterator[tuple[int, Any]]:
        if order is None:
            for i, start in enumerate(self._starts):
                yield from self._of_file(i, start, rows, None)
            return
        groups = []
        for i, file in enumerate(self._files):
            with _reading(file) as opened:
                sizes = [opened.metadata.row_group(g).num_rows for g in range(opened.metadata.num_row_groups)]
            starts = self._starts[i] + np.cumsum([0, *sizes])
            groups += [(i, g, int(starts[g])) for g in range(len(sizes))]
        for at in order.permutation(len(groups)).tolist():
            i, group, start = groups[at]
            yield from self._of_file(i, start, rows, [group])

    def _of_file(self, i: int, start: int, rows: int, groups: list[int] | None) -> Iterator[tuple[int, Any]]:
        """The rows of a file, or of some of its row groups; the first of them has the number `start`."""
        pa = _csv.pyarrow()
        with _reading(self._files[i]) as opened:
            for batch in opened.iter_batches(batch_size=rows, row_groups=groups):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                for name, kind in self._partitions.items():
                    if name not in columns:
                        value = pa.scalar(self._keys[i][name], pa.string()).cast(kind)
                        columns[name] = pa.repeat(value, len(batch))
                names = self._schema.names
                yield start, pa.table([columns[n] for n in names], names=names).cast(self._schema)
                start += len(batch)


class ArrowFile(TableFile):
    """An Arrow IPC file or stream, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._source = path
        with self._batches() as (schema, _):
            names = tuple(schema.names)
        super().__init__(path, names, True)

    def _pieces(self, rows: int, order: Any) -> Iterator[tuple[int, Any]]:
        pa, start = _csv.pyarrow(), 0
        with self._batches() as (_, batches):
            for batch in batches:
                yield start, pa.Table.from_batches([batch])
                start += len(batch)

    @contextmanager
    def _batches(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        pa = _csv.pyarrow()
        try:
            with pa.memory_map(str(self._source)) as file:
                if file.read(6) == b"ARROW1":
                    reader = pa.ipc.open_file(file)
                    yield reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
                else:
                    file.seek(0)
                    reader = pa.ipc.open_stream(file)
                    yield reader.schema, iter(reader)
        except (pa.ArrowException, OSError) as error:
            raise _told(error, self._source, "Arrow") from None


@contextmanager
def _reading(file: Path) -> Iterator[Any]:
    """An open Parquet file, its errors told in one line."""
    pa = _csv.pyarrow()
    import pyarrow.parquet as pq

    try:
        # Read ahead nothing: a row group may be large, and is decoded piece by piece.
        with pq.ParquetFile(file, memory_map=True, pre_buffer=False) as opened:
            yield opened
    except (pa.ArrowException, OSError) as error:
        raise _told(error, file, "Parquet") from None


def _told(error: BaseException, file: Path, form: str) -> BaseException:
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return ValueError(f"{file} is damaged or no {form} file: {_csv.one_line(error)}")


def _parquet_files(folder: Path) -> list[Path]:
    """Those that other tools would read: none whose name, or whose folder's, starts with a dot or underscore."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith((".", "_"))]
        found += [Path(root, n) for n in names if Path(n).suffix.lower() in PARQUET and not n.startswith((".", "_"))]
    return sorted(found)


def _keys(path: Path) -> dict[str, str | None]:
    """The columns that a path tells, as year=2024/a.parquet does."""
    pairs = [part.split("=", 1) for part in path.parts[:-1] if "=" in part]
    return {unquote(k): None if v == _NULL else unquote(v) for k, v in pairs}


def _partitions(keys: list[dict[str, str | None]], files: list[Path]) -> dict[str, Any]:
    """The type of each column that paths tell."""
    pa = _csv.pyarrow()
    kinds = {}
    for name in keys[0]:
        values = [k.get(name) for k in keys]
        whole = all(v is None or v.removeprefix("-").isdecimal() for v in values)
        kinds[name] = pa.int64() if whole else pa.string()
    for file, found in zip(files, keys, strict=True):
        if found.keys() != kinds.keys():
            raise ValueError(f"{file} lies in other folders of the form column=value than {files[0]}")
    return kinds


def _common(schemas: list[Any], files: list[Path]) -> Any:
    """The schema that holds the columns of every file.

    Raises:
        ValueError: a file has other columns than the first, or one of another kind.
    """
    pa = _csv.pyarrow()
    first = schemas[0]
    if len(schemas) == 1:
        return first
    fields = {field.name: field.remove_metadata() for field in first}
    for schema, file in zip(schemas[1:], files[1:], strict=True):
        for name in (*fields, *schema.names):
            if (name in fields) != (name in schema.names):
                lacks, has = (file, files[0]) if name in fields else (files[0], file)
                raise ValueError(f"{lacks} has no column {name!r}, which {has} has")
        for name, field in fields.items():
            other = schema.field(name).remove_metadata()
            if other.equals(field):
                continue
            try:
                both = [pa.schema([field]), pa.schema([other])]
                fields[name] = pa.unify_schemas(both, promote_options="permissive").field(0)
            except pa.ArrowException:
                raise ValueError(f"{file}: column {name!r} holds {other.type}, in {files[0]} {field.type}") from None
    return pa.schema(list(fields.values()))
