"""Scoring more rows than memory holds: batch by batch, with memory flat in their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..io.frames import Frame
from ..parallel import in_order
from .density import TableDensity


class Scores:
    """The log-densities of batches of rows, in order; iterate once.

    Each is what `TableDensity.log_prob` gives for the same rows, whatever the size of the batches.

    Args:
        density: of `fit_table`.
        batches: as of `TableFile.batches`.
        draws: see `TableDensity.log_prob`.

    Attributes:
        rows: how many were scored so far.
        impossible: how many of them have log-density -inf.
        unseen: how many of them hold what was never seen in training.
        errors: what that is, and what is impossible, in words.

    Example:
        >>> from pushforward import fit_table
        >>> from pushforward.io.frames import read
        >>> rows = read(np.random.default_rng(0).normal(size=(50, 2)))
        >>> density = fit_table(rows, steps=5, progress="none")
        >>> scores = Scores(density, [rows[i : i + 25] for i in (0, 25)])
        >>> [len(log_density) for batch, log_density in scores], scores.rows
        ([25, 25], 50)
    """

    def __init__(self, density: TableDensity, batches: Iterable[Frame], *, draws: int = 1) -> None:
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        self.density, self.batches, self.draws = density, batches, draws
        self.rows = self.impossible = self.unseen = 0
        self.errors: list[str] = []

    def __iter__(self) -> Iterator[tuple[Frame, NDArray[np.float64]]]:
        def scored(batch: Frame) -> tuple[Frame, Tensor, int, tuple[str, ...]]:
            return batch, *self.density.scored(batch, self.draws)

        for batch, log_prob, unseen, errors in in_order(scored, self.batches, device=self.density.device):
            log_density = log_prob.numpy()
            self.rows += len(log_density)
            self.impossible += int(np.isneginf(log_density).sum())
            self.unseen += unseen
            self.errors += [t for t in errors if t not in self.errors][: 5 - len(self.errors)]
            yield batch, log_density
