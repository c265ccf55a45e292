"""What decides between fixed maps of columns: how likely rows are by the best Gaussian, or elliptical distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .marginals import Knots, bend, fitted_knots

GAIN = 0.05  # nats a row that bends must gain
OF_MARGINAL = 0.25  # nats a row that gaussianizing one column must gain: a flow learns milder shapes better by itself
_OF_SCALE = 0.25  # nats a row and column that a common scale must be worth, for columns to be left with their outliers
SCORED_ROWS = 2**13  # by which maps are chosen
MANY_ROWS = 20_000  # from which a flow learns by itself what fixed maps tell it of fewer
LEAST_OWN = 1e-8  # of a column's spread, what is at least left of it when the columns before it are known


def best_bends(rows: Tensor) -> tuple[Knots | None, bool]:
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
    if len(rows) < MANY_ROWS:
        return best, False
    return best, float(straight.sum()) + elliptical_gain(some) > highest + _OF_SCALE * rows.shape[1]


def gaussian_scores(y: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
    """How Gaussian bent rows are: the mean log-density of each column given those before it, and by itself, (C,) each.

    They are those of Gaussians, up to a constant.

    Args:
        y: (N, C) float64, the bent rows.
        log_slope: (N, C), log dy/dx.
    """
    spread = y.std(0, correction=0)
    alone = log_slope.mean(0) - torch.where(spread > 0, spread, 1.0).log()
    return alone - own_shares(y).log(), alone


def own_shares(rows: Tensor) -> Tensor:
    """What is left (C,) of each column of rows (N, C) when those before it are known, in its spreads; 1 if constant."""
    centred = rows - rows.mean(0)
    spread = centred.square().mean(0).sqrt()
    own = torch.linalg.qr(centred / spread.clamp_min(1e-300), mode="r").R.diagonal().abs() / math.sqrt(len(rows))
    return torch.where(spread > 0, own.clamp_min(LEAST_OWN), 1.0)


def elliptical_gain(rows: Tensor) -> float:
    """How much likelier rows are by an elliptical distribution than by a Gaussian, in nats a row.

    Both have the covariance of the rows. In the elliptical one their distance from the mean, in standard deviations, is
    log-normal. It is the likelier one where columns are all near their means or all far off, as if scaled in common.

    Args:
        rows: (N, C) float64, more rows than columns.
    """
    count, channels = rows.shape
    centred = rows - rows.mean(0)
    decorrelated = torch.linalg.qr(centred / centred.square().mean(0).sqrt().clamp_min(1e-300)).Q * math.sqrt(count)
    log_radius = decorrelated.norm(dim=1).clamp_min(1e-300).log()
    log_area = math.log(2) + channels / 2 * math.log(math.pi) - math.lgamma(channels / 2)  # of the unit sphere
    entropy_radius = 0.5 * math.log(2 * math.pi * math.e) + float(log_radius.std(correction=0).clamp_min(1e-300).log())
    elliptical = -entropy_radius - channels * float(log_radius.mean()) - log_area
    return elliptical + channels / 2 * math.log(2 * math.pi * math.e)
