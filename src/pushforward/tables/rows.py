"""The rows of a table as a training draws them, and those that are held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import as_numbers
from ..io.frames import Frame, read
from ..training.data import split_numbers
from ..training.rows import checked_weights, normalised
from .density import TableDensity
from .inner import StatesThenNumbers
from .mass import hide
from .noise import random_noise
from .space import Columns, EncodedRows


def numbers_of(
    space: Columns, inner: StatesThenNumbers, rows: EncodedRows, noise: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """What the flow sees of encoded rows, its context, and what to add to its log-density (N,) but for `log_mass`."""
    x, added = space.tensor(rows, noise)
    z, context, more = inner.flow_inputs(x, rows.context, noise)
    return z, context, added + more - torch.from_numpy(rows.log_mass)


@dataclass(frozen=True)
class TrainingRows:
    """Encoded rows as `train` draws them: each pass with fresh noise where a cell needs any, and other states hidden.

    Attributes:
        space: of the rows.
        inner: the density that learns them.
        rows: all N of them.
        weights: (N,), or None.
        hidden: share of the states that are hidden from what is conditional on them; see `hide`.
    """

    space: Columns
    inner: StatesThenNumbers
    rows: EncodedRows
    weights: Tensor | None
    hidden: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the flow sees of n rows, see `drawn`."""
        part = self.drawn(n, generator)
        noise = random_noise(part.rows.base.shape, generator)
        z, context, _ = numbers_of(self.space, self.inner, part.rows, noise)
        columns = len(self.space.sizes) + len(self.space.given_sizes)
        return z, part.with_hidden(context, columns, generator), part.weights

    def drawn(self, n: int, generator: torch.Generator) -> TrainingRows:
        """All rows where n is their number, else n of them with replacement."""
        return self if n == len(self) else self.part(torch.randint(len(self), (n,), generator=generator).numpy())

    def with_hidden(self, context: Tensor | None, columns: int, generator: torch.Generator) -> Tensor | None:
        """A context (N, M + R) with a share of its states in M columns hidden."""
        if context is None or not self.hidden:
            return context
        return torch.cat([hide(context[:, :columns], self.hidden, generator), context[:, columns:]], 1)

    def fixed(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the flow sees with the noise of each row; what to add to its log-density (N,)."""
        return numbers_of(self.space, self.inner, self.rows, self.rows.noise())

    def tensors(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows (N, M + C), their context, and the noise of each row (N, C), or fresh noise."""
        noise = self.rows.noise() if generator is None else random_noise(self.rows.base.shape, generator)
        return self.space.tensor(self.rows, noise)[0], self.rows.context, noise

    @property
    def states(self) -> Tensor:
        """The states (N, M), as the mass function is trained on them."""
        return torch.from_numpy(self.rows.states).float()

    def mean(self, values: Tensor) -> float:
        """The weighted mean over the rows: values (N,)."""
        values = values.detach().double()
        return float(values.mean() if self.weights is None else (values * self.weights).mean())

    def part(self, index: NDArray[np.int64]) -> TrainingRows:
        """Some of the rows."""
        weights = None if self.weights is None else normalised(self.weights[torch.from_numpy(index)])
        return replace(self, rows=self.rows.take(index), weights=weights)


@dataclass(frozen=True)
class StateRows:
    """The same rows as the mass function sees them."""

    rows: TrainingRows

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The states of n rows, see `TrainingRows.drawn`."""
        part = self.rows.drawn(n, generator)
        context = part.with_hidden(part.rows.context, len(part.space.given_sizes), generator)
        return hide(part.states, part.hidden, generator), context, part.weights


def split_rows(
    density: TableDensity, frame: Frame, val: Any, weights: Any, fraction: float, seed: int
) -> tuple[TrainingRows, TrainingRows | None]:
    """-> training and validation rows, encoded."""
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be from 0 to below 1, got {fraction!r}")
    inner = density.inner
    assert isinstance(inner, StatesThenNumbers)
    if weights is not None:
        weights = checked_weights(as_numbers(weights, "weights", torch.empty(0), torch.float64), len(frame)).float()
    whole = TrainingRows(density.space, inner, _possible(density, frame, "the table"), weights)
    if val is not None:
        return whole, TrainingRows(density.space, inner, _possible(density, read(val), "the validation table"), None)
    train, holdout = split_numbers(len(frame), fraction, torch.Generator().manual_seed(seed))
    if not len(holdout):
        return whole, None
    return whole.part(np.sort(train.numpy())), whole.part(np.sort(holdout.numpy()))


def _possible(density: TableDensity, frame: Frame, what: str) -> EncodedRows:
    rows = density.space.rows(frame)
    if np.isneginf(rows.log_mass).any():
        raise ValueError(f"{what} does not fit the schema: {'; '.join(rows.errors[:3])}")
    return rows
