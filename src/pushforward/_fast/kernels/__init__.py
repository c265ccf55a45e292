"""Fast forms of single maps, networks and passes over many rows; torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...switch import is_eager

_torch: Any = torch._C
_is_vectorized = _torch._functorch.is_legacy_batchedtensor


def fast_ok(*gradients: Tensor | None) -> bool:
    """Whether a fast form may stand for the plain one.

    It may not under compilation or export, under a transform of `torch.func`, in forward mode, nor where gradients that
    came back are those of many outputs at once (`vectorize=True`).
    """
    if not is_eager():
        return False
    return not (gradients and any(g is not None and _is_vectorized(g) for g in gradients))
