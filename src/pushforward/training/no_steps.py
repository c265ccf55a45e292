"""Densities without trainable parameters in a training of others."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..density import Density
from .objective import Batch, one_number
from .settings import TrainSettings


class NoSteps:
    """What stands for the steps of a density without trainable parameters (see `Steps`): none."""

    def __init__(self, density: Density, settings: TrainSettings) -> None:
        self._density, self._objective = density, settings.objective
        self.lr, self.lr_factors = 0.0, [1.0]

    @torch.no_grad()
    def losses(self, batch: Batch) -> Tensor:
        """-> (1,)."""
        return one_number(self._objective(self._density, batch))[None]

    def step(self, losses: Tensor, lr_factor: float, ema_weight: float) -> Tensor:
        """-> (1,), 0."""
        return torch.zeros_like(losses)

    def averaged(self, best: bool = False) -> Any:
        """The density as it is."""
        return nullcontext()

    def keep_best(self, member: int = 0) -> None:
        """Nothing, as are all that follow."""

    keep_good = rollback = keep_best

    def reattach(self) -> None:
        """Nothing."""

    release = reattach

    def state(self, member: int = 0) -> dict[str, Tensor]:
        """None."""
        return {}

    def restore(self, member: int, state: dict[str, Tensor]) -> None:
        """Nothing."""
