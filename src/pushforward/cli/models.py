"""Models as the commands take them: the density of a table, or a plain flow over columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import diagnostics, serialize
from ..data.tables import Table
from ..flow import Flow
from ..tabular import TableDensity
from ..tabular.arrow import Source, as_source


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
    def kinds(self) -> dict[str, str]:
        """What each column is, for finding cells that cannot be read."""
        return {
            c.name: "date" if c.kind == "date" else "category" if c.kind in ("category", "empty", "dropped") else "real"
            for c in self.density.schema.columns
        }

    @property
    def training(self) -> dict[str, Any]:
        """What is known of its training."""
        return self.density.training_summary or {}

    def rows(self, table: Table) -> Source:
        """The rows of a table under the model's names; a table without names is matched by position.

        Raises:
            ValueError: columns are absent (they are named), or a table without names has another number of them.
        """
        source, schema = as_source(table), self.density.schema
        names = [c.name for c in schema.columns]
        if not source.named:
            fits = {len(names): names, len(schema.names): schema.names}
            if len(source.names) not in fits:
                raise ValueError(_another_width(table, names))
            return Source(source.data.rename_columns(fits[len(source.names)]), False, True, source.where)
        absent = [n for n in schema.names if n not in source.names]
        if absent:
            raise ValueError(_absent(table, absent))
        return source

    def log_prob(self, rows: Source) -> NDArray[np.float64]:
        """Log-density of each row (N,), in nats; -inf for rows that the model holds for impossible."""
        return self.density.log_prob(rows).numpy()

    def impossible(self, rows: Source) -> tuple[str, ...]:
        """What makes rows impossible, in words."""
        return self.density.encode(rows).trouble

    def sample(self, n: int, seed: int, given: Table | None = None) -> Table:
        """Draws n rows, or n for each row of a table that has the given columns.

        Raises:
            ValueError: it lacks some of them; they are named.
        """
        absent = [] if given is None else [name for name in self.given if name not in given.names]
        if given is not None and absent:
            raise ValueError(_absent(given, absent))
        drawn = self.density.sample(n, given, seed=seed)
        return Table(drawn, tuple(drawn.column_names))

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

    @property
    def kinds(self) -> dict[str, str]:
        """All are numbers."""
        return dict.fromkeys(self.columns, "real")

    @property
    def training(self) -> dict[str, Any]:
        """What is known of its training."""
        return self.flow.training_summary or {}

    def rows(self, table: Table) -> NDArray[np.float64]:
        """Its columns as finite numbers (N, D).

        Raises:
            ValueError: columns are absent or hold something else; they are named.
        """
        return table.model_matrix(self.columns, self.width)

    @torch.no_grad()
    def log_prob(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-density of each row (N,), in nats."""
        return self.flow.log_prob(rows).double().numpy()

    def impossible(self, rows: NDArray[np.float64]) -> tuple[str, ...]:
        """Nothing is impossible for a flow."""
        return ()

    def sample(self, n: int, seed: int, given: None = None) -> Table:
        """Draws n rows."""
        x = self.flow.sample(n, generator=torch.Generator().manual_seed(seed)).numpy()
        return Table(x, tuple(self.columns))

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
    schema = model.schema or {}
    columns = schema.get("columns", [f"x{i}" for i in range(model.shape[0])])
    named = isinstance(columns, list) and all(isinstance(c, str) for c in columns)
    if not named or len(set(columns)) != model.shape[0] or len(columns) != model.shape[0]:
        raise ValueError(f"{path}: damaged header: expected the names of {model.shape[0]} columns, got {columns!r}")
    return FlowModel(model, path, columns, schema.get("width"))


def _absent(table: Table, absent: list[str]) -> str:
    shown = ", ".join(map(repr, absent[:10])) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
    has = ", ".join(map(repr, table.names[:20])) + (" ..." if len(table.names) > 20 else "")
    return f"{table.source} lacks column{'s' if len(absent) > 1 else ''} {shown} of the model; it has {has}"


def _another_width(table: Table, names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:8])) + (" ..." if len(names) > 8 else "")
    return f"{table.source} has no column names and {len(table.names)} columns; the model has {len(names)} ({shown})"
