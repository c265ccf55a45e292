"""The fixed maps before a flow: columns are bent and become uncorrelated, outliers are compressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from ..scale import HUGE_SPREAD, look_at_scale
from ..switch import is_eager
from .base import Bijection, check_channels, log_det_of_sites, sum_event
from .fold import FARTHEST, NO_END, fold, unfold
from .marginals import MOST_KNOTS, Knots, bend, line, unbend
from .norm import VisibleRounding, moments
from .scores import best_bends
from .whitening import pays_to_whiten, whitening, whitens

_MOST_TAIL_KNOTS = 12
_FARTHEST_SEEN = 200.0  # spreads, up to which outliers of such columns are left to float32 networks
_BENT_ROWS = 2**16  # whose quantiles are taken


class Precondition(Bijection):
    """z = tails(fold(L (bend(x) - centre))) with a lower triangular L, in float64 whatever the dtype of the flow.

    fold gives logarithmic tails beyond +-4: it is the identity up to 4, and sign(y) (4 + 3 log(1 + (|y| - 4) / 3)) from
    there on; after logarithms of columns it is a line again beyond the farthest row, for draws would else go as far as
    an exponential of an exponential. bend is an increasing spline of each column with straight or logarithmic tails,
    the identity where columns need none. Columns that are scaled in common are neither bent nor folded. tails is the
    identity until it is bent beyond the outermost rows of a trained flow (`bend_tails`). z has the dtype of the flow;
    the log-determinant is a float64, so that columns with condition numbers of 1e12 are scored well by float32
    networks. It starts as the fold alone; `initialize` measures all else, and a training without it on rows far from
    unit scale is warned of, once.

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
        rows, log_det_bends = _bent(x.double().movedim(1, -1), *self._bends())
        folded, log_slope = fold((rows - self.centre) @ self.matrix.mT, self.fold_end)
        z, log_det_tails = _bent(folded, *self._tails())
        log_det_matrix = log_det_of_sites(self.matrix.diagonal().log().sum(), x)
        log_det = sum_event(log_slope) + log_det_matrix + log_det_bends + log_det_tails
        return z.movedim(-1, 1).to(self._dtype_of_flow.dtype), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S), log_det (B,) float64.

        x has the dtype of z, or float64 where columns lie so far from 0 that z's would round them visibly.
        """
        rows, log_det_tails = _unbent(z.double().movedim(1, -1), *self._tails())
        y = unfold(rows, self.fold_end)
        flat = torch.linalg.solve_triangular(self.matrix.mT, y.reshape(-1, y.shape[-1]), upper=True, left=False)
        x, log_det_bends = _unbent(flat.view(y.shape) + self.centre, *self._bends(), FARTHEST)
        log_det_matrix = log_det_of_sites(self.matrix.diagonal().log().sum(), z)
        log_det = -sum_event(fold(y, self.fold_end)[1]) - log_det_matrix + log_det_tails + log_det_bends
        tensors = (self.centre, self.matrix, *([self.knots] if self.bends else []))
        is_rounded = is_eager() and self._is_rounded(z.dtype, tensors, self._location)
        return x.movedim(-1, 1).to(torch.float64 if is_rounded else z.dtype), log_det

    def _location(self) -> tuple[Tensor, Tensor]:
        """How far the columns of data lie from 0 (C,), and what is left of their spreads when others are known (C,)."""
        centre, spread, own = self.centre, torch.linalg.inv(self.matrix).norm(dim=1), 1 / self.matrix.diagonal()
        columns, knots = self._bends()
        if len(columns):
            straight = unbend(centre[columns], knots)
            slope = torch.ones_like(centre).index_copy(0, columns, (-bend(straight, knots)[1]).exp())
            centre, spread, own = centre.index_copy(0, columns, straight), spread * slope, own * slope
        return centre.abs() + spread, own

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
            knots, is_scaled = best_bends(rows[some.to(rows.device)])
        self.tail_knots.copy_(straight_tails(rows.shape[1]))
        self.fold_end.fill_(NO_END)
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
            rows = _bent(rows, *self._bends())[0]
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


def _bent(x: Tensor, columns: Tensor, knots: Knots) -> tuple[Tensor, Tensor | float]:
    """x (B, *S, C) with some of its columns bent, log_det (B,)."""
    if not len(columns):
        return x, 0.0
    y, log_slope = bend(x[..., columns], knots)
    return x.index_copy(-1, columns, y), sum_event(log_slope)


def _unbent(y: Tensor, columns: Tensor, knots: Knots, farthest: float = 300.0) -> tuple[Tensor, Tensor | float]:
    """The inverse of `_bent`, with its log_det (B,)."""
    if not len(columns):
        return y, 0.0
    x = unbend(y[..., columns], knots, farthest)
    return y.index_copy(-1, columns, x), -sum_event(bend(x, knots)[1])


def straight_tails(channels: int) -> Tensor:
    """The identity as the last map of a `Precondition`: x, y and slope of its knots, (3, C, K)."""
    return torch.stack(_lines(channels).padded(_MOST_TAIL_KNOTS)[:3])


def _lines(channels: int) -> Knots:
    """The identity of C columns."""
    return Knots.of([line(0.0, 1.0)] * channels, [(False, False)] * channels)
