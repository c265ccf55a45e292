"""How many threads a step is to have, by the arithmetic that is in it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from ..density import Density
from ..switch import Watch
from .objective import Batch, Objective, negative_log_likelihood

# A step of fewer operations runs on one thread: a second gains a tenth at most when it is free, and when it is not (two
# trainings on two cores) each operator waits for it, which was seen to cost a factor of a hundred.
SMALL_STEP_FLOP = 1.5e8


def threads_for(density: Density, objective: Objective, rows: Batch | None, size: int) -> int:
    """How many threads a step on a batch of that size of each member is to have: one where its arithmetic is small.

    Args:
        density: on any device; the arithmetic of others than the CPU is not of its threads.
        objective: called once on rows of the batch's size.
        rows: some of the data; None without.
        size: of a batch.
    """
    reference = next(density.parameters())
    if reference.device.type != "cpu":
        return torch.get_num_threads()
    batch = Batch(reference.new_empty(size, 0)) if rows is None else rows[:size]
    # A likelihood has no use for gradients here, but another objective may take some itself.
    with torch.set_grad_enabled(objective is not negative_log_likelihood):
        count = operations(density, objective, batch) * size / len(batch)
    return 1 if count < SMALL_STEP_FLOP else torch.get_num_threads()


def operations(density: Density, objective: Objective, batch: Batch) -> int:
    """Floating-point operations of a step on a batch: three times those of the products in the objective of each
    member, for their values and the gradients in both factors."""
    with _Products() as products:
        for member in density.members:
            objective(member, batch)
    return 3 * products.operations


class _Products(Watch):
    """Counts the operations of products and convolutions, by torch's own formulas.

    `torch.utils.flop_counter.FlopCounterMode` takes composite operators apart first, which loads torch's compiler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=out)
        return out
