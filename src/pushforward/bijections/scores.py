"""How likely rows are by the best Gaussian, or elliptical distribution: what decides between fixed maps of columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_OWN = 1e-8  # of a column's spread, what is at least left of it when the columns before it are known


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
    of_radius = 0.5 * math.log(2 * math.pi * math.e) + float(log_radius.std(correction=0).clamp_min(1e-300).log())
    elliptical = -of_radius - channels * float(log_radius.mean()) - log_area
    return elliptical + channels / 2 * math.log(2 * math.pi * math.e)
