"""Whether a bijection reads the context that it is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter

from ..switch import Watch
from .base import Bijection


@torch.no_grad()
def reads_context(bijection: Bijection, x: Tensor, context: Tensor) -> bool:
    """Whether any operator of the map takes the context's numbers; it is evaluated once, in evaluation mode.

    Args:
        bijection: left as it was.
        x: (B, C, *S).
        context: (B, K).
    """
    training = [module for module in bijection.modules() if module.training]
    for module in training:
        module.training = False
    context = context.clone()
    try:
        with _Reads(context) as reads:
            bijection(x, context)
    finally:
        for module in training:
            module.training = True
    return reads.read


class _Reads(Watch):
    """Watches for operators that take a tensor, or a view of it."""

    def __init__(self, watched: Tensor) -> None:
        super().__init__()
        self._place = watched.untyped_storage().data_ptr()
        self.read = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator."""
        for value in tree_iter((args, kwargs)):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() == self._place:
                self.read = True
        return func(*args, **(kwargs or {}))
