"""Models as the commands take them: the density of a table, or a plain flow over columns of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import checks as diagnostics
from ..flow import Flow
from ..io import models as serialize
from ..io.old_tables import BATCH_ROWS, Table, TableFile
from ..tables import Schema, TableDensity
from ..tables.arrow import Source, arrow_type, as_source, typed


@dataclass(frozen=True)
class TableModel:
    """The density of a table.

    Attributes:
        density: over its rows.
        path: of the file, for messages.
    """

    density: TableDensity
    path: str

    @property
    def columns(self) -> list[str]:
        """The modelled columns, those that are given included."""
        return self.density.schema.names

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that the density is conditional on."""
        return self.density.given

    @property
    def schema(self) -> Schema | None:
        """What each column is."""
        return self.density.schema

    @property
    def training(self) -> dict[str, Any]:
        """What is known of its training."""
        return self.density.training_summary or {}

    def check_columns(self, table: Table | TableFile) -> None:
        """Makes sure that a table has the model's columns; one without names is matched by position.

        Raises:
            ValueError: columns are absent (they are named), or a table without names has another number of them.
        """
        schema = self.density.schema
        if not table.named:
            if len(table.names) not in (len(schema.columns), len(schema.names)):
                raise ValueError(_another_width(table, [c.name for c in schema.columns]))
            return
        absent = [n for n in schema.names if n not in table.names]
        if absent:
            raise ValueError(_absent(table, absent))

    def rows(self, table: Table) -> Any:
        """The rows of a table under the model's names.

        Raises:
            ValueError: as `check_columns`.
        """
        self.check_columns(table)
        source, schema = as_source(table), self.density.schema
        if source.named:
            return source
        every = [c.name for c in schema.columns]
        names = every if len(every) == len(source.names) else schema.names
        return Source(source.data.rename_columns(names), source.text, True, source.where)

    def log_prob(self, rows: Any) -> NDArray[np.float64]:
        """Log-density of each row (N,), in nats; -inf for rows that the model holds for impossible."""
        return self.density.scored(rows)[0].numpy()

    def impossible(self, rows: Any) -> tuple[str, ...]:
        """What makes rows impossible, in words."""
        return self.density.encode(rows).trouble

    def sample(self, n: int, seed: int, given: Table | None = None) -> Iterator[Table]:
        """Draws n rows, or n for each row of a table that has the given columns, in pieces.

        Raises:
            ValueError: it lacks some of them; they are named.
        """
        told: Any = None
        if given is not None:
            absent = [name for name in self.given if name not in given.names]
            if absent:
                raise ValueError(_absent(given, absent))
            told = as_source(given)
            if told.text:  # so that the columns come out as the model's own types
                cells = ((name, told.data.column(name), self.density.schema[name].dtype) for name in self.given)
                told = {name: typed(column, name, arrow_type(dtype)) for name, column, dtype in cells}
        for piece in self.density.sample_batches(n, told, generator=seed):
            yield Table(piece, tuple(piece.column_names))

    def check(self, rows: Any, other: Any, **settings: Any) -> diagnostics.Report:
        """The report on held-out rows."""
        return diagnostics.check(self.density, rows, other, **settings)


@dataclass(frozen=True)
class FlowModel:
    """A flow over columns of numbers, as `pushforward.save` writes it.

    Attributes:
        flow: without a context.
        path: of the file, for messages.
        columns: the names of its columns.
        width: of the table without names that they were chosen from.
    """

    flow: Flow
    path: str
    columns: list[str]
    width: int | None = None
    given: tuple[str, ...] = ()
    schema: Schema | None = None

    @property
    def training(self) -> dict[str, Any]:
        """What is known of its training."""
        return self.flow.training_summary or {}

    def check_columns(self, table: Table | TableFile) -> None:
        """Nothing: `rows` does."""

    def rows(self, table: Table) -> Any:
        """Its columns as finite numbers (N, D).

        Raises:
            ValueError: columns are absent or hold something else; they are named.
        """
        return table.model_matrix(self.columns, self.width)

    @torch.no_grad()
    def log_prob(self, rows: Any) -> NDArray[np.float64]:
        """Log-density of each row (N,), in nats."""
        return self.flow.log_prob(rows).double().numpy()

    def impossible(self, rows: Any) -> tuple[str, ...]:
        """Nothing is impossible for a flow."""
        return ()

    def sample(self, n: int, seed: int, given: Table | None = None) -> Iterator[Table]:
        """Draws n rows, in pieces."""
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, n, BATCH_ROWS):
            x = self.flow.sample(min(BATCH_ROWS, n - start), generator=generator).numpy()
            yield Table(x, tuple(self.columns))

    def check(self, rows: Any, other: Any, **settings: Any) -> diagnostics.Report:
        """The report on held-out rows."""
        return diagnostics.check(self.flow, rows, other, columns=self.columns, **settings)


Model = TableModel | FlowModel


def open_model(path: str) -> Model:
    """Reads a model of rows.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or no model that the command line can use.
    """
    model: Any = serialize.load(path)
    if isinstance(model, TableDensity):
        return TableModel(model, path)
    if len(model.shape) != 1:
        raise ValueError(f"{path} is a model of shape {model.shape}: tables need one of shape (D,)")
    if model.context_dim:
        raise ValueError(f"{path} is a flow with a context, which only Python can give it")
    schema = model.about or {}
    columns = schema.get("columns", [f"x{i}" for i in range(model.shape[0])])
    named = isinstance(columns, list) and all(isinstance(c, str) for c in columns)
    if not named or len(set(columns)) != model.shape[0] or len(columns) != model.shape[0]:
        raise ValueError(f"{path}: damaged header: expected the names of {model.shape[0]} columns, got {columns!r}")
    return FlowModel(model, path, columns, schema.get("width"))


def _absent(table: Table | TableFile, absent: list[str]) -> str:
    shown = ", ".join(map(repr, absent[:10])) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
    has = ", ".join(map(repr, table.names[:20])) + (" ..." if len(table.names) > 20 else "")
    return f"{_where(table)} lacks column{'s' if len(absent) > 1 else ''} {shown} of the model; it has {has}"


def _another_width(table: Table | TableFile, names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:8])) + (" ..." if len(names) > 8 else "")
    return f"{_where(table)} has no column names and {len(table.names)} columns; the model has {len(names)} ({shown})"


def _where(table: Table | TableFile) -> str:
    return table.source if isinstance(table, Table) else str(table.path)
