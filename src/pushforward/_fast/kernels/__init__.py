"""Fast forms of single maps, networks and passes over many rows; torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_torch: Any = torch._C
_in_transform, _is_vectorized = _torch._are_functorch_transforms_active, _torch._functorch.is_legacy_batchedtensor
_forward_ad: Any = forward_ad


def fast_ok(*gradients: Tensor | None) -> bool:
    """Whether a fast form may stand for the plain one.

    It may not under compilation or export, under a transform of `torch.func`, in forward mode, nor where gradients that
    came back are those of many outputs at once (`vectorize=True`).
    """
    if torch.compiler.is_compiling() or _in_transform() or _forward_ad._current_level >= 0:
        return False
    return not (gradients and any(g is not None and _is_vectorized(g) for g in gradients))
