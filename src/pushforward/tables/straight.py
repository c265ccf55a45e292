"""Straight maps in place of splines where splines hide what holds between the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..bijections.precondition import GAIN, OF_MARGINAL, SCORED_ROWS, gaussian_scores
from ..io.frames import Frame
from .columns import Kind
from .columns.base import Values
from .columns.marginal import MarginalTransform
from .columns.number import as_number


def straightened(columns: Sequence[Kind], frame: Frame) -> list[Kind]:
    """The columns of a schema, with lines in place of splines where these leave the table nearer to a Gaussian.

    A spline through the quantiles of each of two columns that nearly determine each other breaks what holds between
    them. As in `Precondition`, the likelihood of a Gaussian decides between the splines, those of the columns that gain
    .25 nats by themselves, and none; splines that lie within .05 nats of the best stay.

    Args:
        columns: of the table.
        frame: its rows.
    """
    sample = frame[np.linspace(0, len(frame) - 1, min(len(frame), SCORED_ROWS)).astype(np.int64)]
    numbers = [k for k, c in enumerate(columns) if c.modelled and c.has_number and c.coded is c]
    bent = torch.tensor([_has_spline(columns[k]) for k in numbers], dtype=torch.bool)
    if not bool(bent.any()) or len(sample) <= 2 * len(numbers):
        return list(columns)
    rng = np.random.default_rng(0)
    cells = [_numbers(columns[k], sample, rng) for k in numbers]
    lines = [_with_line(columns[k], w) if of else columns[k] for k, w, of in zip(numbers, cells, bent, strict=True)]
    curved, straight = _mapped([columns[k] for k in numbers], cells), _mapped(lines, cells)
    scores, alone = gaussian_scores(*curved)
    gains = alone - gaussian_scores(*straight)[1] > OF_MARGINAL
    best, highest = torch.zeros_like(bent), float(scores.sum()) + GAIN
    for is_line in (bent & ~gains, bent):
        y, log_slope = (torch.where(is_line, s, c) for s, c in zip(straight, curved, strict=True))
        score = float(gaussian_scores(y, log_slope)[0].sum())
        if score > highest:
            best, highest = is_line, score
    chosen = {columns[k].name: line for k, line, of in zip(numbers, lines, best, strict=True) if of}
    return [chosen.get(column.name, column) for column in columns]


def _has_spline(kind: Kind) -> bool:
    return len(kind.marginal.knots) > 2 and not as_number(kind).is_circular


def _numbers(kind: Kind, frame: Frame, rng: np.random.Generator) -> Values:
    """The numbers (N,) of cells, at a random place of each; NaN where there is none."""
    cells = kind.encode(frame.column(kind.name))
    return cells.base + cells.width * rng.uniform(size=len(frame))


def _with_line(kind: Kind, w: Values) -> Kind:
    """The kind with a line in place of its spline, and logarithms for heavy tails: numbers (N,), NaN for none."""
    map = MarginalTransform.of(w[~np.isnan(w)], kind.marginal.low, kind.marginal.high, gaussian=False)
    return as_number(kind).with_map(map.knots, map.heavy)


def _mapped(kinds: Sequence[Kind], numbers: Sequence[Values]) -> tuple[Tensor, Tensor]:
    """-> mapped numbers (N, C), log-slopes (N, C); both are 0 where there is no number."""
    y, log_slope = zip(*(kind.marginal.forward(w) for kind, w in zip(kinds, numbers, strict=True)), strict=True)
    return tuple(torch.from_numpy(np.nan_to_num(np.stack(part, 1))) for part in (y, log_slope))  # type: ignore
