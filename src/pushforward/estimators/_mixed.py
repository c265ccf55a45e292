"""Mixed rows (categories, dates, missing cells, ...): what an estimator of them does, by `TableDensity`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from ..tables import TableDensity, fit_table, infer_schema
from ..tables.arrow import Source, as_source
from . import _frames, _input
from ._rows import Array
from ._training import checked_members


def wanted(estimator: Any, X: Any, context: Any = None) -> bool:  # noqa: N803
    """Whether rows are mixed: kinds are set, a frame holds anything but numbers in every cell, or they were before."""
    frames = _frames.is_mixed(X) or _frames.is_mixed(context)
    return frames or estimator.kinds is not None or (estimator.warm_start and estimator._mixed is not None)


def fit(estimator: Any, X: Any, context: Any, sample_weight: Any) -> None:  # noqa: N803
    """Trains an estimator on mixed rows, and gives it what a fitted one has.

    Raises:
        ValueError: as `fit_table`; a setting that mixed rows do not have; X and context share a name.
    """
    _check_settings(estimator)
    members = checked_members(estimator.members)
    x, of_context = _Columns.of(X, "X"), None if context is None else _Columns.of(context, "context")
    joint = _joined(x.read(X), None if of_context is None else of_context.read(context))
    weights = _input.read_weights(sample_weight, len(joint))
    if not weights.all():  # a weight of zero leaves the row out, its categories and its extremes too
        joint, weights = joint.take(np.flatnonzero(weights)), weights[weights > 0]
    schema = infer_schema(joint, estimator.kinds)
    given = [] if of_context is None else [n for n in of_context.names if n in schema.names]
    if of_context is not None and not given:
        raise ValueError("every column of the context was left out: it holds nothing to be conditional on")
    training = {k: getattr(estimator, k) for k in ("seconds", "epochs", "steps", "batch", "lr", "noise")}
    training = {k: v for k, v in training.items() if v is not None}
    seed = _input.seed_of(estimator.random_state)
    table = fit_table(
        joint, schema=schema, given=given, weights=None if np.ptp(weights) == 0 else weights, recipe=estimator.recipe,
        depth=estimator.depth, width=estimator.width, members=members, seed=seed, val_fraction=estimator.val_fraction,
        patience=estimator.patience, progress="auto" if estimator.verbose else "none", **training,
    )  # fmt: skip
    validate_data(estimator, X, reset=True, skip_check_array=True)
    adopt(estimator, MixedRows(table.eval(), x, of_context))


def of_file(table: TableDensity, kind: str) -> MixedRows:
    """The density of a table as an estimator has it, for a kind of frame."""

    def columns(what: str, names: list[str]) -> _Columns:
        return _Columns(what, tuple(names), table.schema.named, _frames.Form(kind, {n: (n, None) for n in names}))

    names = [c.name for c in table.schema.columns if c.name not in table.given]
    return MixedRows(table, columns("X", names), columns("context", list(table.given)) if table.given else None)


def adopt(estimator: Any, rows: MixedRows) -> None:
    """Gives an estimator what one that was fitted to mixed rows has."""
    estimator._mixed, estimator.table_, estimator.schema_ = rows, rows.table, rows.table.schema
    estimator.n_context_features_in_ = 0 if rows.context is None else len(rows.context.names)
    estimator.constant_columns_, estimator.flows_ = {}, []
    estimator.flow_ = estimator.fit_record_ = None


@dataclass(frozen=True)
class MixedRows:
    """A density of mixed rows, and how the table that it was fitted to looks.

    Attributes:
        table: the density.
        x: the columns of X.
        context: those of the context, None without one.
    """

    table: TableDensity
    x: _Columns
    context: _Columns | None

    @property
    def members(self) -> int:
        """How many flows are averaged; 0 where no column has numbers."""
        return len(self.table.flows)

    @property
    def latent_width(self) -> int:
        """C, the number of columns that `latent` gives."""
        return len(self.table.layout.numbers)

    def log_density(self, X: Any, context: Any) -> Array:  # noqa: N803
        """Log-density of each row: -> (N,), nats; -inf, with a warning that counts them, for impossible rows."""
        return self.table.log_prob(self._read(X, context)).numpy()

    def latent(self, X: Any, context: Any) -> Array:  # noqa: N803
        """The numbers of each row in the flow's latent space: -> (N, C)."""
        return self.table.latent(self._read(X, context)).double().numpy()

    def data(self, Z: Any, context: Any) -> Array:  # noqa: N803
        """Refuses: latents do not say which categories, atoms and missing cells a row has.

        Raises:
            ValueError: always.
        """
        raise ValueError("mixed rows cannot be got back: their latents hold the numbers alone, without the states")

    def sample(self, n: int, context: Any, seed: int) -> Any:
        """Draws n rows, or n for each row of the context, as a table like that of `fit`."""
        drawn = self.table.sample(n, self._given(context), generator=seed).unify_dictionaries()
        return self.x.form.filled(drawn.select(self.table.targets))

    def _read(self, X: Any, context: Any) -> Source:  # noqa: N803
        x, given = self.x.read(X, optional=self._left_out), self._given(context)
        if given is not None and len(given) != len(x):
            raise ValueError(f"X has {len(x)} rows and context {len(given)}: they must have the same number")
        return _joined(x, given)

    def _given(self, context: Any) -> Source | None:
        _input.check_context_width(0 if self.context is None else len(self.context.names),
                                   0 if context is None else _width(context))  # fmt: skip
        return None if self.context is None else self.context.read(context, optional=self._left_out)

    @property
    def _left_out(self) -> set[str]:
        """Columns that the schema leaves out, as ids: later tables need not have them, and samples have not."""
        return {c.name for c in self.table.schema.columns if not c.modelled}


@dataclass(frozen=True)
class _Columns:
    """The columns of X or of the context, as `fit` saw them.

    Attributes:
        what: "X" or "context", for messages.
        names: as text and, if they are none of the caller's, unlike those of the other table.
        named: whether the caller named them; else they are matched by position.
        form: gives back a table of the same kind and dtypes.
    """

    what: str
    names: tuple[str, ...]
    named: bool
    form: _frames.Form

    @staticmethod
    def of(table: Any, what: str) -> _Columns:
        """The columns of a table."""
        named = _is_named(table)
        source = as_source(_frames.two_axes(table))
        names = source.names if named else [f"{'x' if what == 'X' else what}{i}" for i in range(len(source.names))]
        return _Columns(what, tuple(names), named, _frames.Form.of(table, names))

    def read(self, table: Any, optional: set[str] | None = None) -> Source:
        """A table -> its columns under the names and in the order of `fit`; those that are optional may be absent.

        Raises:
            ValueError: a column is absent, or there is one that `fit` did not see.
        """
        source = as_source(_frames.two_axes(table))
        if not (self.named and _is_named(table)):
            if len(source.names) != len(self.names):
                raise ValueError(f"{self.what} has {len(source.names)} columns, but had {len(self.names)} in fit")
            return Source(source.data.rename_columns(list(self.names)), named=self.named, where=self.what)
        absent = [n for n in self.names if n not in source.names and n not in (optional or ())]
        unseen = [n for n in source.names if n not in self.names]
        if absent or unseen:
            told = [
                f"{kind} {', '.join(map(repr, names[:10]))}{', ...' if len(names) > 10 else ''}"
                for kind, names in (("lacks the columns", absent), ("has the unseen columns", unseen))
                if names
            ]
            raise ValueError(f"{self.what} {' and '.join(told)}: it must have those of fit, in any order")
        present = [n for n in self.names if n in source.names]
        return Source(source.data.select(present), named=True, where=self.what)


def _joined(x: Source, context: Source | None) -> Source:
    """X and its context as one table."""
    if context is None:
        return x
    both = [n for n in context.names if n in x.names]
    if both:
        raise ValueError(f"X and context both have a column {both[0]!r}: rename one of them")
    if len(context) != len(x):
        raise ValueError(f"X has {len(x)} rows and context {len(context)}: they must have the same number")
    data = x.data
    for name, column in zip(context.names, context.data.columns, strict=True):
        data = data.append_column(name, column)
    return Source(data, named=x.named or context.named, where=x.where)


def _is_named(table: Any) -> bool:
    return _frames.kind_of(table) != "numpy"


def _width(table: Any) -> int:
    shape: Sequence[int] = np.shape(_frames.two_axes(table)) if not hasattr(table, "shape") else table.shape
    return shape[1] if len(shape) > 1 else 1


def _check_settings(estimator: Any) -> None:
    """Refuses what a training on mixed rows does not have."""
    for name, bad, instead in (
        ("warm_start", estimator.warm_start, "mixed rows are always fitted afresh: set warm_start=False"),
        ("recipe", callable(estimator.recipe), "for mixed rows it must be the name of a recipe"),
        ("device", estimator.device is not None and torch.device(estimator.device).type != "cpu",
         "mixed rows are modelled on the CPU: leave it None"),
    ):  # fmt: skip
        if bad:
            raise ValueError(f"{name}={getattr(estimator, name)!r}: {instead}")
