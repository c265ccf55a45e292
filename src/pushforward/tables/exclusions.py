"""States that exclude each other, as the indicators of one group do: what is never seen together is hardly drawn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .columns.base import is_number

_EXPECTED = 12.0  # rows with both states if columns were independent: chance leaves none of them with probability e^-12
_PSEUDO_ROWS = 0.5  # that are thought to have been seen
_MOST_ROWS = 50_000
_MOST = 5_000  # pairs, those of most rows expected: they stand in the file of a model

Pair = tuple[int, int, float]


class Exclusions(nn.Module):
    """What is taken off the log-odds of states that exclude one of those seen before.

    No row has both states s and t, though e rows are expected to. Their odds are then taken to be (1/2) / (1/2 + e) of
    what they would be if the columns were independent.

    Args:
        pairs: (s, t, e), as `find_exclusions` gives them.
        total: states of all columns that are modelled; t is below it.
        seen: states of all columns, the given ones among them; s is below it.

    Example:
        >>> exclusions = Exclusions([(0, 3, 49.5)], total=4, seen=4)
        >>> exclusions(torch.tensor([[0], [1]]))
        tensor([[ 0.0000,  0.0000,  0.0000, -4.6052],
                [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """

    _row: Tensor
    _targets: Tensor
    _log_odds: Tensor

    def __init__(self, pairs: Sequence[Pair], total: int, seen: int) -> None:
        super().__init__()
        self.pairs, self.total, self.seen = tuple(pairs), total, seen
        first, second, expected = (np.array(facts) for facts in zip(*self.pairs, strict=True))
        (sources, i), (targets, j) = (np.unique(at, return_inverse=True) for at in (first, second))
        row = np.full(seen + 1, len(sources))  # the last one of the table takes nothing off
        row[sources] = np.arange(len(sources))
        log_odds = np.zeros((len(sources) + 1, len(targets)))
        log_odds[i, j] = np.log(_PSEUDO_ROWS / (_PSEUDO_ROWS + expected))
        for name, values in (("_row", row), ("_targets", targets), ("_log_odds", log_odds)):
            tensor = torch.from_numpy(values)
            tensor = tensor.to(torch.get_default_dtype()) if name == "_log_odds" else tensor
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """States seen (B, C), counted through all columns, `seen` for none -> what is taken off (B, total)."""
        none = self._log_odds.new_zeros(len(index), self.total)
        if index.shape[1] == 0:
            return none
        return none.index_copy(1, self._targets, F.embedding_bag(self._row[index], self._log_odds, mode="sum"))


def find_exclusions(states: NDArray[np.int64], sizes: Sequence[int], order: Sequence[int], columns: int) -> list[Pair]:
    """-> pairs (s, t, e) of states that no row has both, though e rows are expected to; t is of a modelled column.

    Args:
        states: (N, M + G) of the modelled columns, then of the given ones; one that a column does not have is negative
            or beyond its last.
        sizes: of all these columns, how many states they have.
        order: of the modelled ones, in which they are drawn: s comes before t.
        columns: M.
    """
    states = states[np.linspace(0, len(states) - 1, min(len(states), _MOST_ROWS)).astype(np.int64)]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    counts = [np.bincount(c[(c >= 0) & (c < size)], minlength=size) for c, size in zip(states.T, sizes, strict=True)]
    pairs: list[Pair] = []
    for a, b in itertools.combinations([*range(columns, len(sizes)), *order], 2):
        if b >= columns or counts[a].max() * counts[b].max() < _EXPECTED * len(states):
            continue
        s, t = (np.flatnonzero(counts[k] * counts[other].max() >= _EXPECTED * len(states)) for k, other in
                ((a, b), (b, a)))  # fmt: skip
        is_s, is_t = (states[:, k, None] == some for k, some in ((a, s), (b, t)))
        together = is_s.T.astype(np.float32) @ is_t.astype(np.float32)
        expected = np.outer(counts[a][s], counts[b][t]) / len(states)
        for i, j in np.argwhere((together == 0) & (expected >= _EXPECTED)):
            pairs.append((int(offsets[a] + s[i]), int(offsets[b] + t[j]), round(float(expected[i, j]), 1)))
    return sorted(sorted(pairs, key=lambda pair: -pair[2])[:_MOST])


def checked_pairs(value: Any, total: int, seen: int) -> list[Pair]:
    """Pairs of a file.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 3 and all(type(s) is int for s in pair[:2])
        and 0 <= pair[0] < seen and 0 <= pair[1] < total and is_number(pair[2]) and pair[2] > 0
        for pair in value
    ):  # fmt: skip
        raise ValueError(f"bad mass_exclusions {value!r:.60}")
    return [(s, t, float(expected)) for s, t, expected in value]
