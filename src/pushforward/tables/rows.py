"""The rows of a table as a training draws them, and those that are held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.frames import Frame, read
from ..training.data import checked_weights, held_out, normalised
from .density import TableDensity
from .drawing import numbers_of
from .inner import StatesThenNumbers
from .noise import random_noise, uniforms
from .space import Columns, EncodedRows


@dataclass(frozen=True)
class TrainingRows:
    """Encoded rows as `train` draws them: each pass with fresh noise where a cell needs any."""

    space: Columns
    inner: StatesThenNumbers
    rows: EncodedRows
    weights: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the flow sees of all rows where n is their number, else of n of them with replacement."""
        rows, weights = self.rows, self.weights
        if n != len(self):
            index = torch.randint(len(self), (n,), generator=generator)
            rows, weights = rows.take(index.numpy()), None if weights is None else weights[index]
        return *numbers_of(self.space, self.inner, rows, random_noise(rows.base.shape, generator))[:2], weights

    def fixed(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the flow sees with the noise of each row; what to add to its log-density (N,)."""
        rows = self.rows
        return numbers_of(self.space, self.inner, rows, torch.from_numpy(uniforms(rows.states, rows.base, 0)))

    def tensors(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows (N, M + C), their context, and the noise of each row (N, C), or fresh noise."""
        if generator is None:
            noise = torch.from_numpy(uniforms(self.rows.states, self.rows.base, 0))
        else:
            noise = random_noise(self.rows.base.shape, generator)
        return self.space.tensor(self.rows, noise.numpy())[0], self.rows.context, noise

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
        return TrainingRows(self.space, self.inner, self.rows.take(index), weights)


def split_rows(
    density: TableDensity, frame: Frame, val: Any, weights: Any, fraction: float, seed: int
) -> tuple[TrainingRows, TrainingRows | None]:
    """-> training and validation rows, encoded."""
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be from 0 to below 1, got {fraction!r}")
    inner = density.inner
    assert isinstance(inner, StatesThenNumbers)
    if weights is not None:
        weights = checked_weights(torch.as_tensor(weights, dtype=torch.float32), len(frame))
    whole = TrainingRows(density.space, inner, _possible(density, frame, "the table"), weights)
    if val is not None:
        return whole, TrainingRows(density.space, inner, _possible(density, read(val), "the validation table"), None)
    size = held_out(len(frame), fraction)
    if size == 0:
        return whole, None
    order = torch.randperm(len(frame), generator=torch.Generator().manual_seed(seed)).numpy()
    return whole.part(np.sort(order[size:])), whole.part(np.sort(order[:size]))


def _possible(density: TableDensity, frame: Frame, what: str) -> EncodedRows:
    rows = density.space.rows(frame)
    if np.isneginf(rows.log_mass).any():
        raise ValueError(f"{what} does not fit the schema: {'; '.join(rows.errors[:3])}")
    return rows
