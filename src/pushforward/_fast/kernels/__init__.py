"""Fast forms of single maps, networks and passes over many rows; torch alone."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]


def fast_ok(*gradients: Tensor | None) -> bool:
    """Whether a fast form may stand for the plain one.

    It may not under compilation or export, under a transform of `torch.func`, in forward mode, nor where gradients that
    came back are those of many outputs at once (`vectorize=True`).
    """
    if torch.compiler.is_compiling() or cast(Any, torch._C)._are_functorch_transforms_active():
        return False
    if cast(Any, forward_ad)._current_level >= 0:
        return False
    return not any(g is not None and _functorch.is_legacy_batchedtensor(g) for g in gradients)
