"""FlowDensity: a normalizing flow as a scikit-learn density estimator and transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..density import Density
from ..flow import Flow
from ..io.frames import Frame
from ..tables import Schema, TableDensity
from ..training import Fit
from ..training.settings import LENGTHS
from . import _fitting, _saved
from ._columns import Array, Columns, as_table, float_dtype, width_of
from ._latents import from_latents, latents
from ._rows import seed_of


class FlowDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """The density of the rows of a table, learned by maximum likelihood with a normalizing flow.

    Tables are arrays, or pandas, polars or Arrow frames; `sample`, `transform` and `inverse_transform` give back the
    kind they got (`sample`: the kind seen in `fit`), unless `set_output` asks for another.

    **Rows of numbers** are arrays, and frames with a finite float in each cell. Columns must stand in the order of
    `fit`, as everywhere in scikit-learn, and NaN is an error. A column that is constant in `fit` is kept as a point
    mass: it adds 0 to the log-density of a row that agrees with it, and a row that departs from it has -inf. The
    log-density is in nats and in the units of the data: rescaling a column by c moves it by log c. Whole-number weights
    mean exactly what repeating the rows means.

    **Mixed rows** are frames with integers, categories, strings, booleans, dates or missing cells (in X or the
    context), and any table if `kinds` is set, {} included: then NaN in an array is a missing cell, and whole numbers
    are masses. They are modelled by a `TableDensity`, whose documentation says what each cell counts. Columns are
    matched by name, in any order; `sample` gives back the dtypes of `fit`. Columns of ids and row numbers are left out,
    with a warning. A row with what was never seen, as a new category, is unlikely, with a warning that counts them.
    Mixed rows are always fitted afresh, on the CPU; weights count in the likelihood, and a weight of zero leaves a row
    out.

    The global generators of torch and numpy are never touched.

    Args:
        recipe: "auto", the name of a recipe ("real_nvp", ...), or a function (features, context_dim=, seed=, depth=,
            width=) -> `Flow`, of which each argument is only given if it is needed.
        depth: layers of the flow; None leaves it to a rule in the number of rows and columns.
        width: hidden units of its networks; None as above.
        members: flows trained together from different seeds, whose densities are averaged with equal weights; of mixed
            rows they are flows of the numbers.
        stack: mix simple densities (`pushforward.baselines`) with the flows, with the weights that the held-out rows,
            then a fifth at least, give them; None does for at most 5,000 rows without weights.
        seconds: length of the training in wall-clock time. At most one of seconds, epochs and steps; with none,
            100 passes up to 10,000 steps, but 400 up to 6,000, fewer for small tables.
        epochs: the length in passes over the rows.
        steps: the length in optimiser steps.
        batch: rows of a step; None takes what `choose` does, mostly 512.
        lr: the highest learning rate; None takes what `choose` does, mostly 5e-3, and 1e-3 in `partial_fit`.
        val_fraction: the fraction of the distinct rows held out to keep the best weights and to stop early; not
            below 20.
        patience: stop when validation has not improved for this fraction of the run; None never stops early.
        noise: standard deviation of the noise added to the training rows each time they are drawn, in units of each
            column's spread. It smooths a density of few rows; None takes a rule in their number, 0 none.
        training: further settings of `pushforward.train` by name, as {"weight_decay": 0.1}.
        kinds: what columns are, by name, as {"age": "integer"}, where the rule finds otherwise; see `infer_schema`. If
            it is set, {} included, rows are mixed. None lets the table decide.
        warm_start: `fit` continues from the weights, and with the scale, of the fit before; rows of numbers only.
        verbose: show progress on stderr.
        device: where to train and evaluate, as torch names it; None takes the CPU.
        random_state: an int or a generator; None is different each time.

    Attributes:
        density_: the fitted density of the rows: a flow, the mixture of several or of these and simple densities, each
            with the constant columns around it, or `table_`.
        flow_: the fitted `Flow` over the columns that vary, in float64 (the first member; None if none varies, and for
            mixed rows).
        flows_: all members.
        fit_record_: the `Fit` of all members: epochs, why it stopped, a summary; None where `flow_` is.
        constant_columns_: {index: value} of the columns kept as point masses; for mixed rows see the schema.
        table_: of mixed rows, the fitted `TableDensity` with its training_summary; None for rows of numbers.
        schema_: of mixed rows, the fitted `Schema`: what each column is; None for rows of numbers.
        n_features_in_: columns seen in `fit`.
        feature_names_in_: their names, if they are all strings.
        n_context_features_in_: columns of the context, 0 without one.

    Example:
        >>> X = np.random.default_rng(0).normal(3.0, 2.0, (500, 1))
        >>> model = FlowDensity(steps=200, random_state=0).fit(X)
        >>> model.score(X) > -2.3  # a normal of standard deviation 2: -2.11 nats a row
        True
        >>> model.sample(3, random_state=0).shape
        (3, 1)
    """

    density_: Density
    flow_: Flow | None
    flows_: list[Flow]
    fit_record_: Fit | None
    constant_columns_: dict[int, float]
    table_: TableDensity | None
    schema_: Schema | None
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    n_context_features_in_: int
    _x: Columns
    _context: Columns | None
    _latent_columns: int

    def __init__(
        self,
        *,
        recipe: str | Callable[..., Flow] = "auto",
        depth: int | None = None,
        width: int | None = None,
        members: int = 1,
        stack: bool | None = None,
        seconds: float | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        lr: float | None = None,
        val_fraction: float = 0.1,
        patience: float | None = 0.5,
        noise: float | None = None,
        training: Mapping[str, Any] | None = None,
        kinds: Mapping[str, Any] | None = None,
        warm_start: bool = False,
        verbose: bool = False,
        device: str | torch.device | None = None,
        random_state: Any = None,
    ) -> None:
        self.recipe = recipe
        self.depth = depth
        self.width = width
        self.members = members
        self.stack = stack
        self.seconds = seconds
        self.epochs = epochs
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.val_fraction = val_fraction
        self.patience = patience
        self.noise = noise
        self.training = training
        self.kinds = kinds
        self.warm_start = warm_start
        self.verbose = verbose
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> FlowDensity:  # noqa: N803
        """Learns p(X), or p(X | context).

        Args:
            X: (N, D), a table of any kind, at least 2 rows.
            y: ignored.
            context: (N, K), a table of any kind: what the density is conditional on.
            sample_weight: (N,), not negative: how often each row counts.

        Raises:
            ValueError: values that are not finite, wrong shapes, a parameter out of range or one that mixed rows do not
                take, or a kind that the cells do not fit.
        """
        tables = _fitting.typed(X, context)
        if _fitting.is_mixed(self, tables):
            _fitting.fit_cells(self, X, tables, sample_weight)
            return self
        fresh = not (self.warm_start and hasattr(self, "density_"))
        _fitting.fit_numbers(self, X, tables, sample_weight, fresh=fresh)
        return self

    def partial_fit(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> FlowDensity:  # noqa: N803
        """Trains further on more rows: one pass over these rows alone, at a constant rate, without validation.

        The first call on an unfitted estimator builds the flow and takes its scale from these rows, which should be
        typical for those to come; a column that is constant in them stays a point mass. `epochs` and `steps`, where
        set, take the place of the one pass; `lr` is 1e-3 unless set. Simple densities that `fit` mixed with the flows
        do not learn from further rows, and are left out from then on. Mixed rows cannot be trained further: what their
        columns are and hold is read off all rows at once.

        Args:
            X: (N, D).
            y: ignored.
            context: (N, K), for a conditional density.
            sample_weight: (N,), how often each row counts.

        Raises:
            ValueError: as `fit`; the rows are mixed; or a row departs from a constant column.
        """
        tables = _fitting.typed(X, context)
        if getattr(self, "schema_", None) is not None or _fitting.is_mixed(self, tables):
            raise ValueError("mixed rows cannot be trained further: call fit with all of them")
        length = {} if any(getattr(self, name) is not None for name in LENGTHS) else {"epochs": 1}
        has_own = self.lr is not None or "optimizer" in (self.training or {})
        rate = {} if has_own else {"lr": 1e-3}
        _fitting.fit_numbers(
            self, X, tables, sample_weight, fresh=not hasattr(self, "density_"), val_fraction=0.0, patience=None,
            ema=0.0, schedule="constant", warmup=0.0, **length, **rate,
        )  # fmt: skip
        return self

    def score_samples(self, X: Any, *, context: Any = None) -> Array:  # noqa: N803
        """Log-density of each row: X (N, D), context (N, K) -> (N,) float64, nats, in the units of the data.

        A row that departs from a constant column has -inf, with a warning that counts them.

        Of mixed rows it is the log of masses and densities multiplied, as `TableDensity` says, and for cells that are
        rounded or hold no number a lower bound in expectation.
        """
        check_is_fitted(self)
        with torch.no_grad():
            log_prob = self.density_.log_prob(*self._read(X, context))
        return log_prob.double().cpu().numpy()

    def score(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> float:  # noqa: N803  # type: ignore[override]
        """Mean log-density in nats per row, weighted if asked; higher is better.

        It is a mean, unlike `KernelDensity.score`, which is a sum: scores of tables of different lengths compare.
        """
        log_density = self.score_samples(X, context=context)
        if sample_weight is None:
            return float(log_density.mean())
        weights = _check_sample_weight(sample_weight, log_density[:, None], dtype=np.float64)
        return float(np.average(log_density[weights > 0], weights=weights[weights > 0]))

    def sample(self, n_samples: int = 1, random_state: Any = None, context: Any = None) -> Any:
        """Draws rows, as a table of the kind seen in `fit`.

        Args:
            n_samples: how many; for a conditional density, how many for each row of the context.
            random_state: an int for the same rows each time; None is different each time.
            context: (M, K), for a conditional density.

        Returns:
            (n_samples, D), or (M * n_samples, D) with the draws of one context row next to each other. Of mixed rows
            without the columns that the schema leaves out.

        Raises:
            ValueError: n_samples is below 1, or the context has the wrong shape.
        """
        check_is_fitted(self)
        if isinstance(n_samples, bool) or n_samples != int(n_samples) or n_samples < 1:
            raise ValueError(f"n_samples must be a whole number of at least 1, got {n_samples!r}")
        n, seed, contexts = int(n_samples), seed_of(random_state), self._read_context(context)
        if contexts is None:
            drawn = self.density_.sample(n, generator=seed)
        else:
            each = contexts[np.repeat(np.arange(len(contexts)), n)]
            drawn = self.density_.sample(1, self._for_density(each), generator=seed)
        return self._x.write(drawn)

    def transform(self, X: Any, *, context: Any = None) -> Any:  # noqa: N803
        """Data to latent: X (N, D), context (N, K) -> z (N, D), which has the flow's base density if that is right.

        The base is standard normal, but where the recipe gives the flow another: "auto" gives a single column without a
        context a mixture of Gaussians (`flow_.base`), so that z has as many humps as that. A constant column becomes
        its difference from the constant, which is 0. Of mixed rows, z (N, C) are the numbers in C columns, given all
        states of the row; a cell that holds no number gets noise. Where few rows got simple densities beside the flow,
        z are the latents of that flow.

        Raises:
            ValueError: there are several members: their mixture has no single latent space; or mixed rows have no
                column with numbers.
        """
        self._check_one_latent_space()
        if not self._latent_columns:
            raise ValueError("the rows have no columns with numbers, and so no latents")
        (table,) = _fitting.typed(X)
        with torch.no_grad():
            z = latents(self.density_, *self._read(X, context, table))
        if z is None:
            raise ValueError(f"members={self.members}: a mixture of several flows has no single latent space")
        values = z.double().cpu().numpy().astype(float_dtype(table), copy=False)
        if self._makes_frames():
            return values
        return _like(X, table, values, list(self.get_feature_names_out()))

    def fit_transform(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> Any:  # noqa: N803  # type: ignore[override]
        """`fit`, then `transform` of the same rows."""
        return self.fit(X, context=context, sample_weight=sample_weight).transform(X, context=context)

    def inverse_transform(self, X: Any, *, context: Any = None) -> Any:  # noqa: N803
        """Latent to data, the inverse of `transform`: z (N, D), context (N, K) -> rows (N, D) of the kind of z.

        Raises:
            ValueError: the rows are mixed: z does not hold their categories, atoms and missing cells.
        """
        self._check_one_latent_space()
        if self.schema_ is not None:
            raise ValueError("mixed rows cannot be got back: their latents hold the numbers alone, without the states")
        (table,) = _fitting.typed(X)
        z = self._x.read(table)
        if z.shape[1] != self.n_features_in_:
            raise ValueError(f"expected z with {self.n_features_in_} columns, got {z.shape[1]}")
        contexts = self._read_context(context)
        _fitting.check_lengths(z, contexts)
        with torch.no_grad():
            x = from_latents(self.flow_, self.constant_columns_, self._for_density(z), self._for_density(contexts))
        return _like(X, table, x.double().cpu().numpy().astype(float_dtype(table), copy=False), self._x.own_names)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the fitted estimator to a model file (.safetensors), which the command line also reads.

        Of mixed rows, the file keeps the kind of frame and the dtypes that Arrow has for its columns, not pandas' own.

        Raises:
            ValueError: no column varies, so that there is no flow: pickle it instead.
            OSError: the file cannot be written.
        """
        check_is_fitted(self)
        _saved.write(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FlowDensity:
        """Reads an estimator from a model file: of `save`, or a density of rows by `pushforward.save`.

        Raises:
            ValueError: the file is damaged, or holds no density of rows.
            OSError: it cannot be read.
        """
        return _saved.read(cls(), path)

    def _read(self, X: Any, context: Any, table: Any = None) -> tuple[Any, Any]:  # noqa: N803
        """Rows and their contexts, as the density takes them; the rows may have been typed before."""
        x = self._x.read(X if table is None else table)
        if self.schema_ is None:  # mixed rows may have their columns in any order
            validate_data(self, X, reset=False, skip_check_array=True)
        contexts = self._read_context(context)
        _fitting.check_lengths(x, contexts)
        return self._for_density(x), self._for_density(contexts)

    def _read_context(self, context: Any) -> Any:
        """The rows of a context, None for none.

        Raises:
            ValueError: it is there or missing against expectation, or has other columns than in `fit`.
        """
        expected, width = self.n_context_features_in_, 0 if context is None else width_of(context)
        if width != expected:
            takes = f"conditional on a context of {expected} columns" if expected else "not conditional"
            raise ValueError(f"this density is {takes}, got {f'a context of {width}' if width else 'no context'}")
        return None if self._context is None else self._context.read(context)

    def _for_density(self, rows: Any) -> Any:
        """Rows as `density_` takes them, numbers in its dtype and on its device; None stays None."""
        if isinstance(rows, Frame):
            return rows.to_arrow()
        if rows is None:
            return None
        like = next(self.density_.parameters(), torch.empty(0, dtype=torch.float64))
        return torch.as_tensor(rows, dtype=like.dtype, device=like.device)

    def _check_one_latent_space(self) -> None:
        check_is_fitted(self)
        if (count := len(self.flows_)) > 1:
            raise ValueError(f"a mixture of {count} flows has no single latent space: set members=1")

    def _makes_frames(self) -> bool:
        """Whether `set_output` or scikit-learn's configuration asks `transform` for a certain kind of table."""
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        return (own or sklearn.get_config()["transform_output"]) != "default"

    @property
    def _n_features_out(self) -> int:
        return self._latent_columns

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "density_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = self.kinds is not None
        return tags


def _like(source: Any, table: Any, values: NDArray[Any], names: list[Any]) -> Any:
    """Values (N, D) as a table of the kind and with the index of another, which comes as it is and typed."""
    kind = table.kind if isinstance(table, Frame) else "numpy"
    made = as_table(values, names, kind)
    if kind == "pandas":
        made.index = source.index
    return made
