"""Checks of a flow against what must hold: exact inverses and log-determinants, and a baseline to beat."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .bijections import sum_event
from .flow import Flow

_JACOBIAN_ROWS = 100


def exactness(flow: Flow, x: Any, context: Any = None) -> dict[str, float]:
    """How far a flow is from exact, on rows x (N, *shape), in the flow's own dtype.

    Args:
        flow: any flow.
        x: (N, *shape), in data units, at least one row.
        context: (N, K), or one context (K,) for all rows.

    Returns:
        `roundtrip_max`: the largest |g(f(x)) - x| over all rows and entries, in data units (the rounding of a column
        grows with its scale); `logdet_max`: the largest |log_det - log|det J|| in nats, with J the Jacobian dz/dx by
        autograd, on at most 100 rows spread evenly over x.

    Raises:
        ValueError: x or the context has the wrong shape, or there are no rows.
    """
    rows, contexts, _ = flow._rows(x, context)
    if len(rows) == 0:
        raise ValueError("x has no rows to check")
    rows = rows.detach()
    with torch.no_grad():
        z, _ = flow.f(rows, contexts)
        roundtrip = (flow.g(z, contexts) - rows).abs().max()
    chosen = torch.arange(0, len(rows), math.ceil(len(rows) / _JACOBIAN_ROWS), device=rows.device)
    few = rows[chosen].requires_grad_()
    with torch.enable_grad():
        z, log_det = flow.f(few, None if contexts is None else contexts[chosen])
        flat = z.flatten(1)
        # A row's z depends on that row alone: the gradient of a column's sum holds that column's gradient of each row.
        lines = [
            torch.autograd.grad(flat[:, i].sum(), few, retain_graph=True, materialize_grads=True)[0].flatten(1)
            for i in range(flat.shape[1])
        ]
    # The Jacobian is in the flow's dtype; its determinant must not add an error of its own.
    truth = torch.linalg.slogdet(torch.stack(lines, 1).double()).logabsdet
    return {"roundtrip_max": float(roundtrip), "logdet_max": float((log_det.detach().double() - truth).abs().max())}


def gaussian_log_prob(train: Any, test: Any) -> Tensor:
    """Log-density of rows under the Gaussian with the mean and full covariance of other rows: the baseline of a fit.

    Args:
        train: (M, D), at least 2 rows.
        test: (N, D).

    Returns:
        (N,) in nats, float64, in data units. If the covariance is singular, a millionth of each column's variance is
        added to it.

    Raises:
        ValueError: the shapes do not agree, a value is not finite, or a column of `train` is constant.

    Example:
        >>> gaussian_log_prob([[-1.0], [1.0]], [[0.0]])
        tensor([-0.9189], dtype=torch.float64)
    """
    train, test = (torch.as_tensor(t, dtype=torch.float64) for t in (train, test))
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(train) < 2:
        raise ValueError(f"expected train (M > 1, D) and test (N, D), got {tuple(train.shape)} and {tuple(test.shape)}")
    if not bool(train.isfinite().all() & test.isfinite().all()):
        raise ValueError("train and test must hold finite numbers alone")
    mean, std = train.mean(0), train.std(0, correction=0)
    if not bool((train != train[0]).any(0).all() & (std > 0).all()):
        raise ValueError("a column of train is constant: its Gaussian has no density")
    # In units of each column's spread, so that columns of very different scales stay well conditioned.
    train, test = (train - mean) / std, (test - mean) / std
    correlation = train.mT @ train / len(train)
    smallest = torch.linalg.eigvalsh(correlation)[0]
    if smallest < 1e-12 * len(correlation):
        correlation = correlation + 1e-6 * torch.eye(len(correlation), dtype=torch.float64, device=train.device)
    factor = torch.linalg.cholesky(correlation)
    z = torch.linalg.solve_triangular(factor, test.mT, upper=False).mT
    log_det = factor.diagonal().log().sum() + std.log().sum()
    return -0.5 * sum_event(z.square()) - log_det - 0.5 * math.log(2 * math.pi) * len(std)
