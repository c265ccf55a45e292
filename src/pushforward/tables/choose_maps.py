"""Which maps columns get together: splines or lines, logarithms or linear ones, cells even or not.

Each column's own is the better by itself, but may hide what columns share: the likelihood of a Gaussian decides.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..bijections.scores import GAIN, OF_MARGINAL, SCORED_ROWS, gaussian_scores
from ..io.frames import Frame
from .columns import Kind, Uneven
from .columns.base import Values
from .columns.look import with_even_cells
from .columns.marginal import MarginalTransform
from .columns.number import as_number
from .columns.wrappers import NumberWrapper

_LOSSES = 2.0  # times what they lose of the dependence on other columns, that uneven cells must gain
_ROUNDS, _LEAST_DEVIATION = 20, 1e-3  # of reweighting, in standard deviations
_LEAST_GAP = 1e-9
_LEAST_NUMBERS = 2  # among the rows that are looked at, for another map
_OF_LINEAR = 0.1  # nats a row that a linear map must gain
_RIDGE = 1e-12  # of a column's variance, what the others never explain


def choose_cells(columns: Sequence[Kind], frame: Frame, gaussian: bool | None) -> list[Kind]:
    """The columns of a schema, with even cells in place of uneven ones where these lose more than they gain.

    Two prices that are mostly the same lie on a line, which the uneven cells of one bend at every value. So what uneven
    cells gain for rows that were left out is compared with what they lose in a linear regression on the other columns.

    Args:
        columns: of the table.
        frame: its rows.
        gaussian: as of `infer_schema`.
    """
    sample, numbers = _looked_at(columns, frame)
    kinds = [columns[k] for k in numbers]
    gains = [_gain_of_cells(kind, sample) for kind in kinds]
    if not any(gains) or len(sample) <= 2 * len(numbers):
        return list(columns)
    even = [_with_even_cells(c, frame, gaussian) if gain else c for c, gain in zip(kinds, gains, strict=True)]
    cells = [_numbers(kind, sample) for kind in even]
    y, _ = _mapped(even, cells)
    out = {column.name: column for column in columns}
    for k, gain in enumerate(gains):
        if gain:
            has_number = ~np.isnan(cells[k])
            uneven, _ = _mapped([kinds[k]], [_numbers(kinds[k], sample)])
            others = torch.cat([y[:, :k], y[:, k + 1 :], torch.ones(len(y), 1)], 1).numpy()[has_number]
            known, left = (_dependence(part.numpy()[has_number], others) for part in (y[:, k], uneven[:, 0]))
            loss = float(has_number.mean()) * (known - left)
            out[kinds[k].name] = kinds[k] if gain > _LOSSES * loss else even[k]
    return list(out.values())


def choose_splines(columns: Sequence[Kind], frame: Frame) -> list[Kind]:
    """The columns of a schema, with lines in place of splines where these leave the table nearer to a Gaussian.

    A spline through the quantiles of each of two columns that nearly determine each other breaks what holds between
    them. As in `Precondition`, the likelihood of a Gaussian decides between the splines, those of the columns that gain
    .25 nats by themselves, and none; splines that lie within .05 nats of the best stay.

    Args:
        columns: of the table.
        frame: its rows.
    """
    sample, numbers = _looked_at(columns, frame)
    bent = torch.tensor([_has_spline(columns[k]) for k in numbers], dtype=torch.bool)
    if not bool(bent.any()) or len(sample) <= 2 * len(numbers):
        return list(columns)
    cells = [_numbers(columns[k], sample) for k in numbers]
    lines = [
        _with_line(columns[k], w) if is_bent else columns[k] for k, w, is_bent in zip(numbers, cells, bent, strict=True)
    ]
    curved, straight = _mapped([columns[k] for k in numbers], cells), _mapped(lines, cells)
    gains = _gains_alone(straight, curved) > OF_MARGINAL
    best = _likeliest((bent & ~gains, bent), curved, straight, GAIN)
    chosen = {columns[k].name: line for k, line, is_best in zip(numbers, lines, best, strict=True) if is_best}
    return [chosen.get(column.name, column) for column in columns]


def choose_logarithms(columns: Sequence[Kind], frame: Frame) -> list[Kind]:
    """The columns of a schema, with maps linear in the values in place of logarithms that leave them skewed.

    The map of a column with a lower bound is the logarithm of what lies above it. Ages and row numbers are nearer to a
    Gaussian without: their logarithm ends so sharply at the largest that few rows do not tell a flow where. The
    likelihood of a Gaussian decides between logarithms, linear maps of the columns that gain given the others as they
    are, and of all that gain by themselves.

    Args:
        columns: of the table.
        frame: its rows.
    """
    sample, numbers = _looked_at(columns, frame)
    kinds = [columns[k] for k in numbers]
    cells = [_numbers(kind, sample) for kind in kinds]
    linear = [_with_linear(kind, w) for kind, w in zip(kinds, cells, strict=True)]
    if linear == kinds or len(sample) <= 2 * len(numbers):
        return list(columns)
    maps, others = _mapped(kinds, cells), _mapped(linear, cells)
    alone = _gains_alone(maps, others)
    one_by_one = alone + _gains_of_shares(maps[0], others[0])
    best = _likeliest((one_by_one > _OF_LINEAR, alone > _OF_LINEAR), maps, others, _OF_LINEAR)
    chosen = {kind.name: kind for kind, is_best in zip(linear, best, strict=True) if is_best}
    return [chosen.get(column.name, column) for column in columns]


def _likeliest(
    choices: Sequence[Tensor], maps: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], least: float
) -> Tensor:
    """Which columns (C,) take their other map: that of the choices with the highest likelihood of a Gaussian, or none.

    Args:
        choices: (C,) each, columns.
        maps: y (N, C), log-slopes (N, C).
        others: likewise, of the other maps.
        least: nats a row that a choice must gain.
    """
    best, highest = torch.zeros_like(choices[0]), float(gaussian_scores(*maps)[0].sum()) + least
    for is_other in choices:
        y, log_slope = (torch.where(is_other, other, own) for other, own in zip(others, maps, strict=True))
        score = float(gaussian_scores(y, log_slope)[0].sum())
        if score > highest:
            best, highest = is_other, score
    return best


def _gains_alone(maps: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]) -> Tensor:
    """What each column (C,) gains by its other map, by itself, in nats a row."""
    return gaussian_scores(*others)[1] - gaussian_scores(*maps)[1]


def _gains_of_shares(y: Tensor, others: Tensor) -> Tensor:
    """What each column (C,) gains by how much the rest tells of it, where it alone takes its other map, in nats a row.

    Args:
        y: (N, C), by the maps.
        others: (N, C), by the other maps.
    """
    count = y.shape[1]
    correlation = torch.corrcoef(torch.cat([y, others], 1).mT).nan_to_num()  # of constant columns NaN
    precision = torch.linalg.inv(correlation[:count, :count] + _RIDGE * torch.eye(count, dtype=y.dtype))
    cross = correlation[count:, :count].clone().fill_diagonal_(0)
    slopes, own = cross @ precision, precision.diagonal().reciprocal()
    explained = (slopes * cross).sum(1) - slopes.diagonal().square() * own
    return (own.log() - (1 + _RIDGE - explained).clamp_min(_RIDGE).log()) / 2


def _looked_at(columns: Sequence[Kind], frame: Frame) -> tuple[Frame, list[int]]:
    """Some rows, and which columns are numbers that are modelled themselves."""
    sample = frame[np.linspace(0, len(frame) - 1, min(len(frame), SCORED_ROWS)).astype(np.int64)]
    return sample, [k for k, c in enumerate(columns) if c.modelled and c.has_number and c.coded is c]


def _gain_of_cells(kind: Kind, frame: Frame) -> float:
    """Nats a row that uneven cells gain."""
    state, gain = kind.encode(frame.column(kind.name)).state, 0.0
    while isinstance(kind, NumberWrapper):
        gain += kind.gain * float((state == kind.level).mean()) if isinstance(kind, Uneven) else 0.0
        kind = kind.inner
    return gain


def _with_even_cells(kind: Kind, frame: Frame, gaussian: bool | None) -> Kind:
    column = frame.column(kind.name)
    return with_even_cells(kind, as_number(kind).read(column)[~column.is_missing], gaussian)


def _dependence(y: Values, others: Values) -> float:
    """The entropy of y (N,) less that of its residuals in a linear regression on others (N, K), in nats.

    The regression is that of least absolute deviations, by iterative reweighting: few rows may be far off.
    """
    if len(y) <= 2 * others.shape[1]:
        return 0.0
    weights, rest = np.ones(len(y)), y
    for _ in range(_ROUNDS):
        slopes = np.linalg.lstsq(others * weights[:, None], y * weights)[0]
        rest = y - others @ slopes
        weights = 1 / np.sqrt(np.maximum(np.abs(rest), _LEAST_DEVIATION))
    return _entropy(y) - _entropy(rest)


def _entropy(values: Values) -> float:
    """The differential entropy of values (N,), by the gaps between each and the next but m (Vasicek 1976)."""
    m = max(round(math.sqrt(len(values)) / 2), 1)
    ends = np.pad(np.sort(values), m, mode="edge")
    gaps = np.maximum(ends[2 * m :] - ends[: -2 * m], _LEAST_GAP)
    return float(np.log(gaps * len(values) / (2 * m)).mean())


def _has_spline(kind: Kind) -> bool:
    return len(kind.marginal.knots) > 2 and not as_number(kind).is_circular


def _numbers(kind: Kind, frame: Frame) -> Values:
    """The numbers (N,) of cells, at a random place of each, the same at each call; NaN where there is none."""
    cells = kind.encode(frame.column(kind.name))
    seed = zlib.crc32(kind.name.encode())  # columns are independent of each other
    return cells.base + cells.width * np.random.default_rng(seed).uniform(size=len(frame))


def _with_line(kind: Kind, w: Values) -> Kind:
    """The kind with a line in place of its spline, and logarithms for heavy tails: numbers (N,), NaN for none.

    Itself where there are too few numbers to tell.
    """
    w = w[~np.isnan(w)]
    if len(w) < _LEAST_NUMBERS:
        return kind
    line = MarginalTransform.of(w, kind.marginal.low, kind.marginal.high, gaussian=False)
    return as_number(kind).with_map(line.knots, line.heavy)


def _with_linear(kind: Kind, w: Values) -> Kind:
    """The kind with a map linear in its numbers (N,), NaN for none.

    Itself where it has no logarithm, or there are too few numbers to tell.
    """
    marginal, w = kind.marginal, w[~np.isnan(w)]
    if marginal.low is None or marginal.high is not None or len(marginal.knots) > 2 or as_number(kind).is_circular:
        return kind
    linear = MarginalTransform.linear(w, marginal.low) if len(w) >= _LEAST_NUMBERS else None
    return kind if linear is None else as_number(kind).with_map(linear.knots, linear.heavy)


def _mapped(kinds: Sequence[Kind], numbers: Sequence[Values]) -> tuple[Tensor, Tensor]:
    """-> mapped numbers (N, C), log-slopes (N, C); both are 0 where there is no number."""
    y, log_slope = zip(*(kind.marginal.forward(w) for kind, w in zip(kinds, numbers, strict=True)), strict=True)
    return tuple(torch.from_numpy(np.nan_to_num(np.stack(part, 1))) for part in (y, log_slope))  # type: ignore
