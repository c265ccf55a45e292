"""Rows of numbers: what a fitted estimator of them does, by the flows over the columns that vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..flow import Ensemble
from . import _frames, _input, _training
from ._rows import Array


@dataclass(frozen=True)
class PlainRows:
    """An estimator that was fitted to rows of numbers; it has the methods of `MixedRows`."""

    estimator: Any

    @property
    def members(self) -> int:
        """How many flows are averaged; 0 where no column varies."""
        return len(self.estimator.flows_)

    @property
    def latent_width(self) -> int:
        """D, the number of columns that `latent` gives."""
        return self.estimator.n_features_in_

    def log_density(self, X: Any, context: Any) -> Array:  # noqa: N803
        """Log-density of each row: -> (N,), nats; -inf, with a warning, where a row departs from a constant column."""
        fitted = self.estimator
        x, contexts = self._read(X, context)
        log_density = np.zeros(len(x))
        if fitted.flows_:
            with torch.no_grad():
                each = torch.stack([f.log_prob(x[:, fitted._varying], contexts).double() for f in fitted.flows_])
            log_density = Ensemble(fitted.flows_).mixed(each).cpu().numpy()
        departs = _input.departing(fitted, x)
        _input.tell_departing(fitted, departs)
        log_density[departs.any(1)] = -np.inf
        return log_density

    def latent(self, X: Any, context: Any) -> Array:  # noqa: N803
        """Data to latent: -> z (N, D)."""
        x, contexts = self._read(X, context)
        z = x - self._centre()
        if self.members:
            varying = self.estimator._varying
            with torch.no_grad():
                z[:, varying] = self.estimator.flow_.f(x[:, varying], contexts)[0].double().cpu().numpy()
        return z

    def data(self, Z: Any, context: Any) -> Array:  # noqa: N803
        """Latent to data: -> x (N, D)."""
        z = _input.read_latent(self.estimator, Z)
        contexts = _input.read_context(self.estimator, context, len(z))
        x = z + self._centre()
        if self.members:
            varying = self.estimator._varying
            with torch.no_grad():
                x[:, varying] = self.estimator.flow_.g(z[:, varying], contexts).double().cpu().numpy()
        return x

    def sample(self, n: int, context: Any, seed: int) -> Any:
        """Draws n rows, or n for each row of the context, as a table of the kind of that in `fit`."""
        fitted = self.estimator
        contexts = _input.read_context(fitted, context)
        if contexts is not None:
            contexts = np.repeat(contexts, n, axis=0)
        count = n if contexts is None else len(contexts)
        x = np.tile(self._centre(), (count, 1))
        if self.members:
            member = np.random.default_rng(seed).integers(self.members, size=count)
            for i, flow in enumerate(fitted.flows_):
                chosen = member == i
                given = None if contexts is None else contexts[chosen]
                x[np.ix_(chosen, fitted._varying)] = _training.draw(flow, int(chosen.sum()), given, seed + i)
        return _frames.like(fitted._kind, x.astype(fitted._dtype, copy=False), fitted._columns)

    def _read(self, X: Any, context: Any) -> tuple[Array, Array | None]:  # noqa: N803
        x = _input.read(self.estimator, X, reset=False)
        return x, _input.read_context(self.estimator, context, len(x))

    def _centre(self) -> Array:
        """(D,): the value of each constant column, 0 for the others."""
        return np.array([self.estimator.constant_columns_.get(i, 0.0) for i in range(self.estimator.n_features_in_)])
