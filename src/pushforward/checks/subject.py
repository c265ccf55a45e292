"""What a check needs of a density, whatever its rows are: numeric matrices under a Flow, or tables of mixed columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..bases import StandardNormal
from ..flow import Flow
from .encode import Encoder
from .stats import Array


class Subject(Protocol):
    """A density over rows of one kind, which the sections of a check take as they are: an array or an Arrow table."""

    names: list[str]
    """The columns of the rows, the given ones of a conditional density last."""
    given: int
    """How many of them, at the end, are given and not modelled."""

    def rows(self, values: Any, name: str) -> Any:
        """Checked rows of what a user gave; they have a length."""
        ...

    def log_prob(self, rows: Any) -> Array:
        """Log-density of each row (N,), in nats."""
        ...

    def impossible(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows (N,) the model rules out by its schema, whatever its weights are."""
        ...

    def sample(self, n: int, seed: int) -> Any:
        """Draws n rows."""
        ...

    def latent(self, rows: Any) -> Array | None:
        """The latents z (N, D) of rows; None where the density has none."""
        ...

    def base_sample(self, n: int, seed: int) -> tuple[Array, Array] | None:
        """Draws of the latents' own density, z (n, D) and log p(z) (n,); None where it is standard normal."""
        ...

    def base_log_prob(self, z: Array) -> Array:
        """log p(z) (N,) of latents (N, D); asked for only where they are not standard normal."""
        ...

    def encoder(self, real: Any) -> Encoder:
        """What turns rows into numbers for classifiers and distances, measured on real rows."""
        ...

    def matrix(self, rows: Any) -> Array | None:
        """The rows as a matrix of finite numbers (N, D + K) whose density `log_prob` is; None for mixed rows."""
        ...

    def inner(self, rows: Any) -> tuple[FlowSubject, Array] | None:
        """The flow inside, and what it sees of rows; None where there is none."""
        ...

    def baselines(self, fit: Any, rows: Any, seed: int) -> dict[str, tuple[str, Array]]:
        """For rows that have no matrix: name -> label and log-densities (N,) of simple densities fitted to `fit`."""
        ...


def take(rows: Any, index: NDArray[np.integer]) -> Any:
    """Some rows, by their numbers."""
    return rows[index] if isinstance(rows, np.ndarray) else rows.take(index)


@dataclass
class FlowSubject:
    """Numeric rows (N, D) under a flow; under a conditional one (N, D + K), with the context behind.

    Attributes:
        flow: over vectors.
        names: of the D + K columns.
        given: K.
        contexts: (M, K), those that samples are drawn for.
    """

    flow: Flow
    names: list[str]
    given: int = 0
    contexts: Array | None = None

    @property
    def width(self) -> int:
        """D, the columns that are modelled."""
        return len(self.names) - self.given

    def rows(self, values: Any, name: str) -> Array:
        """Checked rows (N, D + K), float64."""
        return numeric_rows(values, name, len(self.names))

    def split(self, rows: Array) -> tuple[Array, Array | None]:
        """rows (N, D + K) -> x (N, D), context (N, K) or None."""
        return (rows[:, : self.width], rows[:, self.width :]) if self.given else (rows, None)

    @torch.no_grad()
    def log_prob(self, rows: Array) -> Array:
        """Log-density of each row (N,), in nats."""
        return _array(self.flow.log_prob(*self.split(rows)))

    def impossible(self, rows: Array) -> NDArray[np.bool_]:
        """None: a flow has no schema."""
        return np.zeros(len(rows), bool)

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> Array:
        """Draws n rows; of a conditional flow one for each of n contexts, all of which come before any comes twice."""
        generator = torch.Generator(self.flow._like().device).manual_seed(seed)
        if self.contexts is None:
            return _array(self.flow.sample(n, generator=generator))
        rng = np.random.default_rng(seed)
        order = [rng.permutation(len(self.contexts)) for _ in range(-(-n // len(self.contexts)))]
        contexts = self.contexts[np.concatenate(order)[:n]]
        return np.hstack([_array(self.flow.sample(1, contexts, generator=generator)[0]), contexts])

    @torch.no_grad()
    def latent(self, rows: Array) -> Array:
        """The latents z (N, D)."""
        return _array(self.flow.f(*self.split(rows))[0])

    @torch.no_grad()
    def base_sample(self, n: int, seed: int) -> tuple[Array, Array] | None:
        """Draws of the base with their log-densities; None where it is standard normal."""
        if isinstance(self.flow.base, StandardNormal):
            return None
        z = self.flow.base.sample(n, generator=torch.Generator(self.flow._like().device).manual_seed(seed))
        return _array(z), _array(self.flow.base.log_prob(z))

    @torch.no_grad()
    def base_log_prob(self, z: Array) -> Array:
        """log p(z) (N,) of latents (N, D)."""
        return _array(self.flow.base.log_prob(self.flow._tensor(z, "z")))

    def encoder(self, real: Array) -> Encoder:
        """Numbers stay as they are."""
        return Encoder.of_matrix(real, self.names)

    def matrix(self, rows: Array) -> Array:
        """The rows themselves."""
        return rows

    def inner(self, rows: Array) -> tuple[FlowSubject, Array]:
        """This flow and these rows."""
        return self, rows

    def baselines(self, fit: Array, rows: Array, seed: int) -> dict[str, tuple[str, Array]]:
        """None but those of the matrix."""
        return {}


def as_subject(density: Any, columns: Sequence[str] | None, context: Any, train_context: Any) -> Subject:
    """Wraps a flow, or anything that is a `Subject` already.

    Raises:
        ValueError: it is neither, is a flow over no vectors, or context and names do not fit it.
    """
    if not isinstance(density, Flow):
        if all(hasattr(density, name) for name in ("schema", "log_prob", "sample", "latent")):
            from .mixed import TableSubject

            if context is not None:
                raise ValueError("the rows of a table density hold their given columns: leave out context")
            return TableSubject(density)
        raise ValueError(f"expected a Flow or a density over tables, got {type(density).__name__}")
    if len(density.shape) != 1:
        raise ValueError(f"check needs a flow over vectors, of shape (D,), got one of shape {density.shape}")
    width = density.shape[0]
    if bool(density.context_dim) and context is None:
        raise ValueError(f"this flow is conditional: give context, of shape (N, {density.context_dim}), with the rows")
    contexts = None
    if context is not None:
        parts = [numeric_rows(c, "context", density.context_dim) for c in (context, train_context) if c is not None]
        contexts = np.concatenate(parts)
    given = 0 if contexts is None else contexts.shape[1]
    names = [f"x{i}" for i in range(width)] if columns is None else [str(c) for c in columns]
    if len(names) != width:
        raise ValueError(f"expected {width} column names, got {len(names)}: {names}")
    return FlowSubject(density, [*names, *(f"given{i}" for i in range(given))], given, contexts)


def numeric_rows(values: Any, name: str, width: int | None) -> Array:
    """Anything array-like -> float64 (N, D); a single column may come as (N,).

    Raises:
        ValueError: it has another shape, no rows, or values that are not finite.
    """
    array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, float)
    array = array[:, None] if array.ndim == 1 and width in (None, 1) else array
    if array.ndim != 2 or len(array) == 0 or array.shape[1] != (array.shape[1] if width is None else width):
        raise ValueError(f"expected {name} of shape (N, {'D' if width is None else width}), N >= 1, got {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(1))
    if len(bad):
        raise ValueError(f"{name} must hold finite numbers alone: {len(bad):,} rows do not, the first is row {bad[0]}")
    return array


def _array(values: torch.Tensor) -> Array:
    return values.detach().cpu().double().numpy()
