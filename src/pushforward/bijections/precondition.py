"""The fixed maps before a flow: columns are bent and become uncorrelated, outliers are compressed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from ..scale import HUGE_SPREAD, look_at_scale
from ..switch import is_eager
from .base import Bijection, check_channels, log_det_of_sites, sum_event
from .fold import FARTHEST, NO_END, fold, unfold
from .marginals import MOST_KNOTS, Knots, bend, fitted_knots, line, unbend
from .norm import VisibleRounding, moments
from .scores import LEAST_OWN, elliptical_gain, gaussian_scores, own_shares

_NORMAL_QUARTILES = 1.349  # between the quartiles of a standard normal
_NEAR_SINGULAR = 0.03  # of a column's spread: with less left of it, float32 would not see what is left
_ROWS_OF_COLUMN, _WHITENED_COLUMNS, _MANY_ROWS = 2_000, 32, 20_000  # see `pays_to_whiten`, `_best_bends`
_MOST_TAIL_KNOTS = 12
GAIN = 0.05  # nats a row that bends must gain
OF_MARGINAL = 0.25  # nats a row that gaussianizing one column must gain: a flow learns milder shapes better by itself
_OF_SCALE = 0.25  # nats a row and column that a common scale must be worth, for columns to be left with their outliers
_FARTHEST_SEEN = 200.0  # spreads, up to which outliers of such columns are left to float32 networks
_BENT_ROWS, SCORED_ROWS = 2**16, 2**13  # whose quantiles are taken, and by which bends are chosen


class Precondition(Bijection):
    """z = tails(fold(L (bend(x) - centre))) with a lower triangular L, in float64 whatever the dtype of the flow.

    fold gives logarithmic tails beyond +-4: it is the identity up to 4, and sign(y) (4 + 3 log(1 + (|y| - 4) / 3)) from
    there on; after logarithms of columns it is a line again beyond the farthest row, for draws would else go as far as
    an exponential of an exponential. bend is an increasing spline of each column with straight or logarithmic tails,
    the identity where columns need none. tails is the identity until it is bent beyond the outermost rows of a trained
    flow (`bend_tails`). z has the dtype of the flow; the log-determinant is a float64, so that columns with condition
    numbers of 1e12 are scored well by float32 networks. It starts as the fold alone; `initialize` measures all else,
    and a training without it on rows far from unit scale is warned of, once.

    Nothing of it is trained, so that a training maps its rows once, before the first step: see `Density.fixed_start`.

    Args:
        channels: C, at least 1.
        bends: whether columns may be bent, and no column may be constant; False is for columns that were bent before.

    Raises:
        ValueError: `channels` is below 1.

    Example:
        >>> layer = Precondition(1)
        >>> layer(torch.tensor([[2.0], [7.0]]))[0].flatten()
        tensor([2.0000, 6.0794])
    """

    takes_float64 = is_fixed = True
    centre: Tensor
    matrix: Tensor
    knots: Tensor
    heavy: Tensor
    is_bent: Tensor
    fold_end: Tensor
    tail_knots: Tensor
    initialized: Tensor
    _dtype_of_flow: Tensor

    def __init__(self, channels: int, bends: bool = False) -> None:
        super().__init__()
        check_channels(channels)
        self.bends = bends
        self.register_buffer("centre", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("matrix", torch.eye(channels, dtype=torch.float64))
        if bends:
            self.register_buffer("knots", torch.empty(3, channels, MOST_KNOTS, dtype=torch.float64))
            self.register_buffer("heavy", torch.zeros(channels, 2, dtype=torch.bool))
            self.register_buffer("is_bent", torch.zeros(channels, dtype=torch.bool))
            self._bend_by(_lines(channels))
        self.register_buffer("fold_end", torch.full((channels,), NO_END, dtype=torch.float64))
        self.register_buffer("tail_knots", straight_tails(channels))
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("_dtype_of_flow", torch.empty(0), persistent=False)
        self._is_rounded = VisibleRounding()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) of any dtype -> z (B, C, *S), log_det (B,) float64."""
        look_at_scale(self, x)
        rows, log_slope = x.double().movedim(1, -1), None
        columns, knots = self._bends()
        if len(columns):
            bent, log_slope = bend(rows[..., columns], knots)
            rows = rows.index_copy(-1, columns, bent)
        y = (rows - self.centre) @ self.matrix.mT
        z, of_fold = fold(y, self.fold_end)
        log_det = sum_event(of_fold) + log_det_of_sites(self.matrix.diagonal().log().sum(), x)
        log_det = log_det if log_slope is None else log_det + sum_event(log_slope)
        columns, tails = self._tails()
        if len(columns):
            bent, log_slope = bend(z[..., columns], tails)
            z, log_det = z.index_copy(-1, columns, bent), log_det + sum_event(log_slope)
        return z.movedim(-1, 1).to(self._dtype_of_flow.dtype), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,) float64.

        x has the dtype of z, or float64 where columns lie so far from 0 that z's would round them visibly.
        """
        rows, of_tails = z.double().movedim(1, -1), None
        columns, tails = self._tails()
        if len(columns):
            straight = unbend(rows[..., columns], tails)
            of_tails = sum_event(bend(straight, tails)[1])
            rows = rows.index_copy(-1, columns, straight)
        y = unfold(rows, self.fold_end)
        flat = torch.linalg.solve_triangular(self.matrix.mT, y.reshape(-1, y.shape[-1]), upper=True, left=False)
        x = flat.view(y.shape) + self.centre
        log_det = -sum_event(fold(y, self.fold_end)[1]) - log_det_of_sites(self.matrix.diagonal().log().sum(), z)
        log_det = log_det if of_tails is None else log_det - of_tails
        columns, knots = self._bends()
        if len(columns):
            straight = unbend(x[..., columns], knots, FARTHEST)
            x = x.index_copy(-1, columns, straight)
            log_det = log_det - sum_event(bend(straight, knots)[1])
        tensors = (self.centre, self.matrix, *([self.knots] if self.bends else []))
        is_rounded = is_eager() and self._is_rounded(z.dtype, tensors, self._location)
        return x.movedim(-1, 1).to(torch.float64 if is_rounded else z.dtype), log_det

    def _location(self) -> tuple[Tensor, Tensor]:
        """Where the columns of data lie (C,), and how far they spread (C,)."""
        centre, spread = self.centre, torch.linalg.inv(self.matrix).norm(dim=1)
        columns, knots = self._bends()
        if len(columns):
            straight = unbend(centre[columns], knots)
            centre = centre.index_copy(0, columns, straight)
            spread = spread.index_copy(0, columns, spread[columns] * (-bend(straight, knots)[1]).exp())
        return centre, spread

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Measures bends, centre and L from x (B, C, *S), unless already done; returns z (B, C, *S).

        Raises:
            ValueError: of columns that may be bent, one is constant, or there are fewer than 2 rows.
        """
        if not self.initialized:
            if self.bends:
                moments(x)  # which refuses columns that are constant
            self.measure(x.movedim(1, -1).flatten(0, -2))
        return self(x)[0]

    @torch.no_grad()
    def measure(self, rows: Tensor, whiten: bool | None = None) -> None:
        """Measures bends, centre and L from rows (N, C), again if it was done before.

        Args:
            rows: (N, C).
            whiten: leave the columns uncorrelated; None as `pays_to_whiten` says.
        """
        rows, knots, is_scaled = rows.double(), None, False
        if self.bends:
            some = torch.linspace(0, len(rows) - 1, min(len(rows), _BENT_ROWS), dtype=torch.float64).long()
            knots, is_scaled = _best_bends(rows[some.to(rows.device)])
        self.tail_knots.copy_(straight_tails(rows.shape[1]))
        if is_scaled and bool((self._measure_linear(rows, whiten) < _FARTHEST_SEEN).all()):
            self.fold_end.zero_()
        else:
            self._measure_bent(rows, knots, whiten)
        self.initialized.fill_(True)

    def _measure_bent(self, rows: Tensor, knots: Knots | None, whiten: bool | None) -> None:
        """Takes the bends, and measures all else from rows (N, C)."""
        if knots is not None:
            self.is_bent.copy_(~knots.are_lines())
            self._bend_by(knots.where(self.is_bent, _lines(rows.shape[1]).to(rows.device)))
            rows = rows.clone()
            rows[:, self.is_bent] = bend(rows[:, self.is_bent], self._bends()[1])[0]
        farthest = self._measure_linear(rows, whiten)
        if self.bends and bool(self.heavy.any()):
            self.fold_end.copy_(farthest)

    def _measure_linear(self, rows: Tensor, whiten: bool | None) -> Tensor:
        """Measures centre and L from bent rows (N, C); -> how far the rows lie from the centre (C,) by them."""
        whiten = pays_to_whiten(rows) if whiten is None else whiten
        matrix = whitening(rows, only_scales=not whiten)
        # The middle of the whitened columns: the middles of near-singular ones by themselves lie off their plane.
        middle = rows.mean(0)
        off = ((rows - middle) @ matrix.mT).median(0).values
        self.centre.copy_(middle + torch.linalg.solve_triangular(matrix, off[:, None], upper=False)[:, 0])
        self.matrix.copy_(matrix)
        return ((rows - self.centre) @ matrix.mT).abs().amax(0)

    @torch.no_grad()
    def bend_tails(self, knots: Knots) -> None:
        """Replaces the last of the maps by splines with straight ends, one for each channel."""
        self.tail_knots.copy_(torch.stack(knots.padded(_MOST_TAIL_KNOTS)[:3]))

    def tails(self) -> Knots:
        """The last of the maps: the identity until `bend_tails` was called."""
        heavy = torch.zeros(self.tail_knots.shape[1], 2, dtype=torch.bool, device=self.tail_knots.device)
        x, y, slope = self.tail_knots.unbind()
        return Knots(x, y, slope, heavy)

    def _tails(self) -> tuple[Tensor, Knots]:
        """The numbers of the channels whose tails are bent, and their splines; of all where a graph is traced."""
        tails, columns = self.tails(), torch.arange(self.tail_knots.shape[1], device=self.tail_knots.device)
        if is_eager():
            columns = columns[~tails.are_lines()]
        return columns, Knots(*(part[columns] for part in tails))

    def _bends(self) -> tuple[Tensor, Knots]:
        """The numbers of the columns that are bent, and their splines; of all columns where a graph is traced."""
        if not self.bends:
            return torch.empty(0, dtype=torch.int64), _lines(1)
        columns = torch.arange(self.knots.shape[1], device=self.knots.device)
        columns = columns[self.is_bent] if is_eager() else columns
        x, y, slope = self.knots[:, columns].unbind()
        return columns, Knots(x, y, slope, self.heavy[columns])

    @torch.no_grad()
    def _bend_by(self, knots: Knots) -> None:
        self.knots.copy_(torch.stack(knots.padded(MOST_KNOTS)[:3]))
        self.heavy.copy_(knots.heavy)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: b for name, b in self._buffers.items() if b is not None and b.dtype == torch.float64}
        kept.pop("_dtype_of_flow", None)
        super()._apply(fn, recurse)
        for name, before in kept.items():
            after = self._buffers[name]
            if after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self


class PreconditionContext(nn.Module):
    """A context, bent, whitened and folded by what is measured on the training rows.

    A constant column, of which no training row tells what it does, becomes 0 whatever it holds.

    Args:
        context_dim: K, the width of the context.

    Example:
        >>> embed = PreconditionContext(1)
        >>> embed.initialize(torch.tensor([[1.0], [3.0], [5.0]]))
        >>> embed(torch.tensor([[3.0]]))
        tensor([[0.]])
    """

    takes_float64 = is_fixed = True

    def __init__(self, context_dim: int) -> None:
        super().__init__()
        self.layer = Precondition(context_dim, bends=True)

    @torch.no_grad()
    def initialize(self, context: Tensor) -> None:
        """Measures the map from context (B, K), once."""
        if not self.layer.initialized:
            self.layer.measure(context, whiten=True if whitens(*context.shape) else None)
            is_constant = (context == context[0]).all(0)
            self.layer.matrix[is_constant] /= HUGE_SPREAD
            self.layer.matrix[:, is_constant] /= HUGE_SPREAD

    def forward(self, context: Tensor) -> Tensor:
        """context (B, K) of any dtype -> (B, K)."""
        return self.layer(context)[0]


def are_few(rows: int, columns: int) -> bool:
    """Whether a full-size flow would learn the rows by heart."""
    return rows < 200 * math.sqrt(columns)


def whitens(rows: int, columns: int) -> bool:
    """Whether columns are made uncorrelated before a flow: it costs few rows of many columns."""
    return columns < _WHITENED_COLUMNS or rows >= _MANY_ROWS


def pays_to_whiten(rows: Tensor) -> bool:
    """Whether a flow should see rows (N, C) float64 with uncorrelated columns.

    Not with 200 sqrt(C) to 2,000 C rows, or 20,000: a flow of correlated columns learns first what they have in common,
    and noise last. Whitened, all directions are alike to it, and it generalises worse (Wadia et al. 2021, arXiv
    2008.07545). More rows do not need that; fewer are smoothed by noise, which whitened columns bear better. But rows
    so near a plane that float32 would not see what is left of a column are whitened always.
    """
    count, channels = rows.shape
    if count <= channels:
        return False
    is_many = count >= min(_ROWS_OF_COLUMN * channels, _MANY_ROWS)
    if whitens(count, channels) and (is_many or are_few(count, channels)):
        return True
    return count <= 2 * channels or bool(own_shares(rows).min() < _NEAR_SINGULAR)


def whitening(rows: Tensor, only_scales: bool = False) -> Tensor:
    """A lower triangular matrix (C, C) that leaves the columns of rows (N, C) float64 uncorrelated.

    What is left of a column when those before it are known has far outliers: its scale is that of its middle half.
    Columns whose correlations are no larger than those of as many independent ones stay apart, which costs many columns
    nothing. With no more rows than columns, all are only scaled.

    Args:
        rows: of which only differences count.
        only_scales: keep all columns apart.
    """
    count, channels = rows.shape
    scale = rows.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    matrix = scale.reciprocal().diag()
    if count > channels and not only_scales:
        standard = (rows - rows.mean(0)) / scale
        for part in _linked(standard):
            matrix[part[:, None], part] = _whitening_of(standard[:, part]) / scale[part]
    lower, upper = (_quantile(rows @ matrix.mT, level) for level in (0.25, 0.75))
    scale = torch.where(upper - lower > 1e-3, (upper - lower) / _NORMAL_QUARTILES, 1.0)
    return (matrix / scale[:, None]).tril()


def _whitening_of(standard: Tensor) -> Tensor:
    """The inverse Cholesky factor (C, C) of the covariance of centred rows (N, C).

    By orthogonal triangles, which halve the digits that a covariance of large condition number would cost.
    """
    r = torch.linalg.qr(standard / math.sqrt(len(standard)), mode="r").R
    r = r * torch.where(r.diagonal() < 0, -1.0, 1.0)[:, None]
    factor = r.mT.tril(-1) + r.diagonal().clamp_min(LEAST_OWN).diag()
    return torch.linalg.solve_triangular(factor, torch.eye(len(r)).to(r), upper=False)


def _linked(standard: Tensor) -> list[Tensor]:
    """Which of C standardised columns (N, C) are correlated, directly or through others: the numbers of each group."""
    count, channels = standard.shape
    correlation = standard.mT @ standard / count
    pairs = max(channels * (channels - 1) / 2, 1)
    reach = correlation.abs() * math.sqrt(count) > 1 + math.sqrt(2 * math.log(pairs))
    reach |= torch.eye(channels, dtype=torch.bool, device=standard.device)
    for _ in range(math.ceil(math.log2(max(channels, 2)))):
        reach = (reach.double() @ reach.double()) > 0
    first = reach.double().argmax(1)
    return [(first == k).nonzero()[:, 0] for k in first.unique()]


def _best_bends(rows: Tensor) -> tuple[Knots | None, bool]:
    """Which bends leave rows (N, C) nearest to a Gaussian: none, logarithms of heavy tails, or those and quantiles.

    And whether the columns are scaled in common, as those of image patches, where one is far out when all are: bends
    and folds would hide that from a flow, which learns it from 20,000 rows.

    Bends of columns that nearly determine each other would break what holds between them. What decides is the
    likelihood of the Gaussian with the covariance of the bent rows; without rows enough for one, tails alone are bent.
    """
    columns = rows.mT.cpu().numpy()
    heavy, quantiles = (
        Knots.of(*zip(*(fitted_knots(column, gaussian) for column in columns), strict=True)).to(rows.device)
        for gaussian in (False, None)
    )
    is_heavy = bool(heavy.heavy.any())
    if len(rows) <= 2 * rows.shape[1]:
        return heavy if is_heavy else None, False
    some = rows[:: math.ceil(len(rows) / max(SCORED_ROWS, 4 * rows.shape[1]))]
    tails, of_tails = gaussian_scores(*bend(some, heavy))
    gains = gaussian_scores(*bend(some, quantiles))[1] - of_tails > OF_MARGINAL
    straight = gaussian_scores(some, torch.zeros_like(some))[0] if is_heavy or bool(gains.any()) else tails
    best, highest = None, float(straight.sum())
    for knots, is_another in ((heavy, is_heavy), (heavy.where(~gains, quantiles), bool(gains.any()))):
        score = float(gaussian_scores(*bend(some, knots))[0].sum()) if is_another else -math.inf
        if score > highest + GAIN:
            best, highest = knots, score
    if len(rows) < _MANY_ROWS:
        return best, False
    return best, float(straight.sum()) + elliptical_gain(some) > highest + _OF_SCALE * rows.shape[1]


def straight_tails(channels: int) -> Tensor:
    """The identity as the last map of a `Precondition`: x, y and slope of its knots, (3, C, K)."""
    return torch.stack(_lines(channels).padded(_MOST_TAIL_KNOTS)[:3])


def _lines(channels: int) -> Knots:
    """The identity of C columns."""
    return Knots.of([line(0.0, 1.0)] * channels, [(False, False)] * channels)


def _quantile(rows: Tensor, level: float) -> Tensor:
    """The quantiles (C,) of rows (N, C), by linear interpolation; `torch.quantile` refuses more than 2^24 numbers."""
    return torch.from_numpy(np.quantile(rows.cpu().numpy(), level, axis=0)).to(rows)
