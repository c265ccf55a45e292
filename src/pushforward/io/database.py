"""Queries, JSON lines, databases and workbooks. What DuckDB reads is kept in a temporary Parquet file: it is evaluated
once, so that every pass sees the same rows in the same order, and memory stays flat."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from .arrowfiles import InMemory, ParquetFiles
from .cells import pyarrow
from .names import check_unique, quoted
from .reader import Reader, one_line

_LONGEST_PATH = 250  # of a path; a longer text is none
_CHUNK = 65_536  # rows of SQLite that are fetched at a time
_TYPES = {"integer": "int64", "real": "double", "text": "string", "blob": "binary"}  # of SQLite -> of Arrow


def is_query(source: str) -> bool:
    """Whether a text is a query and no path of a file that there is.

    Example:
        >>> is_query("SELECT a FROM 'rows.csv'"), is_query("selected.csv")
        (True, False)
    """
    begins = re.match(r"\s*(select|from|with)\s", source, re.IGNORECASE) is not None
    return begins and ("\n" in source or len(source) > _LONGEST_PATH or not Path(source).exists())


def read_query(query: str) -> Reader:
    """The result of one SELECT by DuckDB.

    Raises:
        ValueError: it is something else than exactly one SELECT, or cannot be run.
        ImportError: DuckDB is not installed.
    """
    duckdb = _duckdb()
    with _in_words("the query"):
        statements = duckdb.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            kinds = ", ".join(str(s.type).rpartition(".")[2] for s in statements) or "nothing"
            raise ValueError(f"a query is exactly one SELECT, got {kinds}")
        return _stored(query, "the query")


def read_json(path: Path) -> Reader:
    """Objects of JSON, one a line or in a list: each name is a column.

    Raises:
        ValueError: it is no JSON.
    """
    with _in_words(str(path)):
        return _stored(f"SELECT * FROM read_json({_literal(str(path))}, sample_size=-1, format='auto')", str(path))


def read_database(path: Path) -> Reader:
    """The table of a DuckDB or SQLite file.

    Raises:
        ValueError: it is neither, or holds another number of tables than one (they are listed).
    """
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"SQLite format 3\0"):
        return _read_sqlite(path)
    if head[8:12] != b"DUCK":
        raise ValueError(f"{path} is no database of DuckDB or SQLite")
    with _in_words(str(path)):
        with _connected(database=path) as connection:
            tables = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables "
                "WHERE table_catalog = 'source' AND table_type = 'BASE TABLE'"
            ).fetchall()
        schema, name = _only(path, [f"{s}.{t}" if s != "main" else t for s, t in tables], tables)
        return _stored(f"SELECT * FROM source.{_identifier(schema)}.{_identifier(name)}", str(path), path)


def read_workbook(path: Path) -> Reader:
    """The first sheet of an Excel file that holds anything; its first row names the columns.

    Raises:
        ValueError: it is no workbook, or holds no rows.
        ImportError: python-calamine is not installed.
    """
    try:
        import python_calamine
    except ImportError:
        raise ImportError('Excel files need python-calamine: pip install "pushforward[data]"') from None
    try:
        book = python_calamine.CalamineWorkbook.from_path(str(path))
        sheets = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=True) for name in book.sheet_names}
    except python_calamine.CalamineError as error:
        raise ValueError(f"{path} is damaged or no workbook: {one_line(error)}") from None
    filled = [name for name, rows in sheets.items() if rows]
    rows = sheets[filled[0]] if filled else []
    if len(rows) < 2:
        raise ValueError(f"{path} has no rows{', only a header' if rows else ''}")
    if len(filled) > 1:
        warnings.warn(f"{path}: the sheet {filled[0]!r} is read, the first of {quoted(filled)}", stacklevel=4)
    names = [str(_whole(cell)).strip() for cell in rows[0]]
    check_unique(names, str(path))
    columns = [_cells([row[i] for row in rows[1:]]) for i in range(len(names))]
    return InMemory(pyarrow().table(columns, names=names))


def _cells(values: list[Any]) -> Any:
    """The cells of a sheet as an Arrow array; empty ones are missing, and cells of several kinds are text.

    A time at midnight comes as a date: beside other times it is one of them.
    """
    pa = pyarrow()
    values = [None if value == "" else value for value in values]
    values = [_whole(value) for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {date, datetime}:
        values = [datetime(v.year, v.month, v.day) if type(v) is date else v for v in values]
    elif len(kinds) > 1 and not kinds <= {int, float}:
        return pa.array([None if value is None else str(value) for value in values])
    return pa.array(values, pa.float64() if kinds == {int, float} else None)


def _whole(value: Any) -> Any:
    """A cell, as an integer where it is a whole number: all numbers are floats in a sheet."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _read_sqlite(path: Path) -> Reader:
    """By the standard library, so that DuckDB need not download an extension."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            select = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
            tables = [name for (name,) in connection.execute(select)]
            table = _identifier(_only(path, tables, tables))
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            fields = [(name, _sqlite_type(connection, table, name)) for name in names]
            cells = ", ".join(
                f"CAST({_identifier(name)} AS TEXT)" if kind == "string" else _identifier(name) for name, kind in fields
            )
            cursor = connection.execute(f"SELECT {cells} FROM {table}")
            return _stored_pieces(pyarrow().schema(fields), iter(lambda: cursor.fetchmany(_CHUNK), []), str(path))
    except sqlite3.Error as error:
        raise ValueError(f"{path} is damaged: {one_line(error)}") from None


def _sqlite_type(connection: sqlite3.Connection, table: str, name: str) -> str:
    """The Arrow type that holds every value of a column: SQLite has a type for each value."""
    kinds = {kind for (kind,) in connection.execute(f"SELECT DISTINCT typeof({_identifier(name)}) FROM {table}")}
    kinds.discard("null")
    if kinds == {"integer", "real"}:
        return "double"
    return _TYPES[kinds.pop()] if len(kinds) == 1 else "string"


def _stored(query: str, source: str, database: Path | None = None) -> Reader:
    """The result of a query as a temporary Parquet file."""
    folder = Path(tempfile.mkdtemp(prefix="pushforward-"))
    try:
        with _connected(folder, database) as connection:
            relation = connection.sql(query)
            check_unique(relation.columns, source)
            relation.write_parquet(str(folder / "rows.parquet"))
        reader = ParquetFiles([folder / "rows.parquet"], None, source)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(reader, shutil.rmtree, folder, ignore_errors=True)
    return reader


def _stored_pieces(schema: Any, pieces: Iterator[list[tuple[Any, ...]]], source: str) -> Reader:
    """Rows of Python as a temporary Parquet file."""
    import pyarrow.parquet as pq

    pa = pyarrow()
    folder = Path(tempfile.mkdtemp(prefix="pushforward-"))
    try:
        with pq.ParquetWriter(folder / "rows.parquet", schema) as writer:
            for rows in pieces:
                columns = [
                    pa.array(cells, kind) for cells, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
                ]
                writer.write_table(pa.table(columns, schema=schema))
        reader = ParquetFiles([folder / "rows.parquet"], None, source)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(reader, shutil.rmtree, folder, ignore_errors=True)
    return reader


@contextmanager
def _connected(folder: Path | None = None, database: Path | None = None) -> Iterator[Any]:
    """A connection that downloads nothing and sees no variables of Python.

    Args:
        folder: for what memory does not hold.
        database: a file that is attached as `source`, to be read.
    """
    settings = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if folder is not None:
        settings["temp_directory"] = str(folder)
    with closing(_duckdb().connect(config=settings)) as connection:
        if database is not None:
            connection.execute(f"ATTACH {_literal(str(database))} AS source (READ_ONLY)")
        yield connection


@contextmanager
def _in_words(source: str) -> Iterator[None]:
    """Errors of DuckDB in one line."""
    duckdb = _duckdb()
    try:
        yield
    except duckdb.Error as error:
        raise ValueError(f"{source} cannot be read: {one_line(error)}") from None


def _only(path: Path, names: Sequence[str], tables: Sequence[Any]) -> Any:
    """The only one of some tables."""
    if len(tables) != 1:
        holds = f"the tables {quoted(sorted(names))}" if tables else "no table"
        raise ValueError(f"{path} holds {holds}: expected a single one")
    return tables[0]


def _identifier(name: str) -> str:
    quotes = name.replace('"', '""')
    return f'"{quotes}"'


def _literal(text: str) -> str:
    quotes = text.replace("'", "''")
    return f"'{quotes}'"


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError:
        raise ImportError('queries, JSON and databases need DuckDB: pip install "pushforward[data]"') from None
    return duckdb
