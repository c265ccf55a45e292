"""EM for latent classes: rows of states and numbers, in units in which numbers have mean 0 and variance 1."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from .base import WORK
from .gaussian import log_normals, patterns, shrunk_covariance
from .mixed import FittedRows

_SHORT, _LONG = 12, 100  # steps of each start, and of the best of them
_CLOSE = 2e-4  # nats a row that a step must gain
_STARTS = 2
_PATTERNS = 40  # of numbers that are not there, beyond which full covariances would take long
_MOST = 0.75  # share of the rows
_PRIOR_STATES, _PRIOR_MEAN, _PRIOR_SPREAD = 2.0, 1.0, 0.15  # rows that the prior of each class counts as


class Parameters(NamedTuple):
    """Of K classes.

    Attributes:
        log_weights: (K,).
        log_mass: (S, K), log-probabilities of all states, one column after another.
        means: (K, D) of the numbers.
        covariances: (K, D, D), or (K, D) where they are diagonal.
    """

    log_weights: Tensor
    log_mass: Tensor
    means: Tensor
    covariances: Tensor


class Moments(NamedTuple):
    """Expected sums over rows, weighted by the chance that each is of class k.

    Attributes:
        counts: (K,), of rows.
        states: (S, K), of each state.
        present: (K, D), of the numbers that are there; where covariances are full all are, in expectation.
        first: (K, D), of the numbers.
        second: (K, D, D), of their products, or (K, D), of their squares.
    """

    counts: Tensor
    states: Tensor
    present: Tensor
    first: Tensor
    second: Tensor


class EM:
    """Fits K classes to rows by the expectation-maximisation of Dempster, Laird and Rubin (1977).

    Each class has a weak prior (so that this is maximal a posteriori, and a class cannot fall onto repeated values):
    a few rows with the frequencies, the mean and the covariance of all rows, shrunk as `shrunk_covariance` does.

    Args:
        data: the rows; each of their numbers varies.
        is_full: whether covariances are full; numbers that are not there then count by their conditional moments
            given those that are.

    Raises:
        ImportError: there is no scikit-learn.
    """

    def __init__(self, data: FittedRows, is_full: bool) -> None:
        self.data, self.is_full = data, is_full
        self.present = (~data.numbers.isnan()).double()
        self.filled = data.numbers.nan_to_num(0.0)
        self.rows, self.width = self.filled.shape
        self.patterns = list(patterns(data.numbers.isnan())) if is_full and self.width else []
        self.prior = torch.ones(self.width).double()
        if is_full and self.width:
            # A row that lacks a number would seem to break what holds between columns.
            whole = self.filled[self.present.bool().all(1)]
            self.prior = shrunk_covariance(whole if len(whole) >= _MOST * self.rows else self.filled, 0)
        # The rows in which each state stands, one state after another.
        self.sorted = data.states.flatten().argsort(stable=True) // max(data.states.shape[1], 1)
        counts = torch.bincount(data.states.flatten(), minlength=int(data.offsets[-1]) + 1)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])[:-2]
        self.sorted = self.sorted[: int(counts[:-1].sum())]

    def can_be_full(self, count: int) -> bool:
        """Whether so many classes of full covariances are fitted in seconds and differ from diagonal ones."""
        d = self.width
        each = self.rows + len(self.patterns) * d
        is_little = len(self.patterns) <= _PATTERNS and each * count * d * d <= WORK / 10
        return d > 1 and is_little and (count == 1 or self.rows >= 2 * count * d)

    def fit(self, count: int, generator: torch.Generator) -> tuple[Parameters, float]:
        """The best of some starts: -> parameters, BIC (Schwarz 1978)."""
        if count == 1:
            responsibilities = [torch.ones(self.rows, 1).double()]
        else:
            responsibilities = [self._start(count, i, generator) for i in range(_STARTS)]
        runs = [self._run(self.maximise(self.moments(r)), _SHORT) for r in responsibilities]
        parameters, log_prob = max(runs, key=lambda run: run[1])
        parameters, log_prob = self._run(parameters, _LONG)
        free = self.width + (self.width * (self.width + 1) // 2 if self.is_full else self.width)
        free += len(self.data.frequencies) - self.data.states.shape[1]
        return parameters, (count - 1 + count * free) * math.log(self.rows) - 2 * log_prob

    def go_on(self, parameters: Parameters) -> Parameters:
        """A few more steps, for parameters that were fitted to a part of the rows."""
        return self._run(parameters, _SHORT)[0]

    def _run(self, parameters: Parameters, steps: int) -> tuple[Parameters, float]:
        """Steps until they gain little: -> parameters, their log-likelihood."""
        last, log_prob = -math.inf, -math.inf
        for _ in range(steps):
            moments, log_prob = self.expect(parameters)
            if log_prob - last < _CLOSE * self.rows:
                break
            parameters, last = self.maximise(moments), log_prob
        return parameters, log_prob

    def _start(self, count: int, i: int, generator: torch.Generator) -> Tensor:
        """Responsibilities (N, K) to begin with: of k-means of the numbers, or nearness to some rows."""
        if i == 0 and self.width:
            from sklearn.cluster import KMeans
            from sklearn.exceptions import ConvergenceWarning

            seed = int(torch.randint(2**31, (), generator=generator))
            means = KMeans(count, init="k-means++", n_init="auto", max_iter=30, random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct rows than classes
                labels = torch.from_numpy(means.fit(self.filled.numpy()).labels_).long()
            return 0.9 * torch.eye(count).double()[labels] + 0.1 / count
        chosen = torch.randperm(self.rows, generator=generator)[:count]
        distance = torch.cdist(self.filled, self.filled[chosen]).square() / 2
        for states in self.data.states.unbind(1):
            distance += 2.0 * (states[:, None] != states[chosen])
        return (-distance).softmax(1)

    def expect(self, p: Parameters) -> tuple[Moments, float]:
        """The E-step: -> expected sums, the log-likelihood of all rows."""
        log_joint = p.log_weights.expand(self.rows, -1)
        if self.data.states.shape[1]:
            log_joint = log_joint + sum_of_rows(self.data.states, p.log_mass)
        if self.width:
            log_joint = log_joint + log_normals(self.data.numbers, p.means, p.covariances, self.patterns)
        log_prob = log_joint.logsumexp(1)
        return self.moments((log_joint - log_prob[:, None]).exp(), p), float(log_prob.sum())

    def moments(self, r: Tensor, p: Parameters | None = None) -> Moments:
        """Expected sums for responsibilities r (N, K).

        Without parameters, numbers that are not there count as the mean of all rows where covariances are full.
        """
        counts, states = r.sum(0), embedding_bag(self.sorted, r, self.starts, mode="sum")
        if not self.is_full:
            return Moments(counts, states, r.mT @ self.present, r.mT @ self.filled, r.mT @ self.filled.square())
        first = r.new_zeros(r.shape[1], self.width)
        second = r.new_zeros(r.shape[1], self.width, self.width)
        for columns, rows in self.patterns:
            x, weights = self.filled[rows].expand(r.shape[1], -1, -1), r[rows].mT[:, :, None]
            if p is not None and len(columns) < self.width:
                x, spread = _completed(x, columns, p)
                second += weights.sum(1, keepdim=True) * spread
            weighted = weights * x
            first += weighted.sum(1)
            second += weighted.mT @ x
        return Moments(counts, states, counts[:, None].expand_as(first), first, second)

    def maximise(self, moments: Moments) -> Parameters:
        """The M-step, with the prior."""
        counts, states, present, first, second = moments
        weights = (counts + 1) / (self.rows + len(counts))
        smoothed = states + _PRIOR_STATES * self.data.frequencies[:, None]
        parts = smoothed.split(self.data.offsets.diff().tolist())
        log_mass = torch.cat([(part / part.sum(0)).log() for part in parts]) if parts else smoothed
        means = first / (present + _PRIOR_MEAN)
        if self.is_full:
            rows = _PRIOR_SPREAD * (self.width + 1)
            cross = means[:, :, None] * first[:, None]
            scatter = second - cross - cross.mT + counts[:, None, None] * means[:, :, None] * means[:, None]
            covariances = (scatter + rows * self.prior) / (counts[:, None, None] + rows)
        else:
            scatter = (second - 2 * means * first + present * means.square()).clamp_min(0.0)
            covariances = (scatter + _PRIOR_SPREAD * self.prior) / (present + _PRIOR_SPREAD)
        return Parameters(weights.log(), log_mass, means, covariances)


def _completed(x: Tensor, columns: Tensor, p: Parameters) -> tuple[Tensor, Tensor]:
    """Rows x (K, N, D) with what is expected in each class where there is none; the covariance (K, D, D) around it."""
    k, d = p.means.shape
    absent = torch.ones(d, dtype=torch.bool)
    absent[columns] = False
    others = absent.nonzero()[:, 0]
    cross = p.covariances[:, columns][:, :, others]
    gain = torch.linalg.solve(p.covariances[:, columns][:, :, columns], cross)
    x, spread = x.clone(), x.new_zeros(k, d, d)
    x[:, :, others] = p.means[:, None, others] + (x[:, :, columns] - p.means[:, None, columns]) @ gain
    rest = p.covariances[:, others][:, :, others] - cross.mT @ gain
    spread[:, others[:, None], others] = rest
    return x, spread


def sum_of_rows(index: Tensor, table: Tensor) -> Tensor:
    """The sum of some rows of a table (S, K): index (N, M) -> (N, K); an index of S stands for none."""
    return embedding_bag(index, torch.cat([table, table.new_zeros(1, table.shape[1])]), mode="sum")
