"""Rows of numbers of which some columns are constant, as a density."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..density import Density, Vectors
from ._latents import latents


class ConstantColumns(Density):
    """The density of rows with constant columns, which are point masses, and a density of the others.

    A row that agrees with the constants, to their precision, has the log-density of the others; any other has -inf.

    Args:
        inner: over the columns that vary; None where none does.
        names: of all D columns.
        constants: {index: value} of the columns that are constant.
        dtype: the precision that the constants are known to.
    """

    def __init__(
        self, inner: Density | None, names: Sequence[str], constants: Mapping[int, float], dtype: np.dtype[Any]
    ) -> None:
        super().__init__()
        self.inner, self.space = inner, Vectors(names)
        self.constants = dict(constants)
        self.varying = [i for i in range(len(names)) if i not in constants]
        self._single = dtype == np.float32

    @property
    def members(self) -> list[Density]:
        """Those of the density of the columns that vary."""
        return [self] if self.inner is None else self.inner.members

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-density of each row, in nats: x (N, D), context (N, K) -> (N,); a warning counts those of -inf."""
        x = torch.as_tensor(x)
        log_prob = x.new_zeros(len(x)) if self.inner is None else self.inner.log_prob(x[:, self.varying], context)
        departs = self.departs(x)
        if departs.any():
            columns = [
                f"{self.space.names[i]!r} (always {value:g})"
                for (i, value), column in zip(self.constants.items(), departs.T, strict=True)
                if column.any()
            ]
            warnings.warn(
                f"{int(departs.any(1).sum())} of {len(x)} rows depart from columns that were constant in training, so "
                f"their log-density is -inf: {', '.join(columns[:10])}{', ...' if len(columns) > 10 else ''}",
                stacklevel=3,
            )
        return log_prob.masked_fill(departs.any(1).to(log_prob.device), -torch.inf)

    def departs(self, x: Tensor) -> Tensor:
        """x (N, D) -> where each row departs from each constant (N, C), which float32 may have rounded."""
        values = torch.tensor(list(self.constants.values()), dtype=torch.float64)
        own = x[:, list(self.constants)].double().cpu()
        own = own.float().double() if self._single else own
        return (own != values) & (own != values.float().double())

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows for each context: -> (n, D); context (*M, K) -> (n, *M, D)."""
        if self.inner is None:
            leading = () if context is None else torch.as_tensor(context).shape[:-1]
            return self._centre(torch.empty(0, dtype=torch.float64)).expand(n, *leading, -1)
        varying = self.inner.sample(n, context, generator=generator)
        x = self._centre(varying).expand(*varying.shape[:-1], -1).clone()
        x[..., self.varying] = varying
        return x

    def latent(self, x: Any, context: Any = None) -> Tensor | None:
        """x (N, D), context (N, K) -> z (N, D); a constant column becomes its difference from the constant, 0."""
        x = torch.as_tensor(x)
        z = x - self._centre(x)
        if self.inner is not None:
            varying = latents(self.inner, x[:, self.varying], context)
            if varying is None:
                return None
            z[:, self.varying] = varying
        return z

    def _centre(self, like: Tensor) -> Tensor:
        """The constants (D,), 0 for the columns that vary."""
        values = [self.constants.get(i, 0.0) for i in range(len(self.space.names))]
        return torch.tensor(values, dtype=like.dtype, device=like.device)
